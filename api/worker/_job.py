"""A job as its handler sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from blockqueue.api._consuming import Consuming
from blockqueue.api._delivery import Delivery
from blockqueue.api._durations import Duration, milliseconds
from blockqueue.api._transaction import Transaction
from blockqueue.storage import Conflict
from blockqueue.storage import Delivery as Stored

from ._run import Run


class Job(Delivery):
    """A delivery in the hands of a handler.

    The worker acks it when the handler returns, and nacks it when it raises. A handler that
    says itself what becomes of it (``ack``, ``nack``, ``snooze``, ``cancel``) is taken at its
    word: nothing follows, and to say it twice is an error.
    """

    __slots__ = ("_held", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._held: Any = run.held

    def __repr__(self) -> str:
        return f"<Job {self._held!r}>"

    # What the delivery says.

    @property
    def id(self) -> str:
        return str(self._held.id)

    @property
    def message(self) -> str | bytes:
        message: str | bytes = self._held.message
        return message

    @property
    def headers(self) -> Mapping[str, str]:
        headers: Mapping[str, str] = self._held.headers
        return headers

    @property
    def correlation_id(self) -> str | None:
        correlation_id: str | None = self._held.correlation_id
        return correlation_id

    @property
    def priority(self) -> int:
        return int(self._held.priority)

    @property
    def receipt_token(self) -> str:
        return str(self._held.receipt_token)

    @property
    def delivery_count(self) -> int:
        return int(self._held.delivery_count)

    @property
    def failure_count(self) -> int:
        return int(self._held.failure_count)

    @property
    def lease_expires_at(self) -> datetime:
        at: datetime = self._held.lease_expires_at
        return at

    @property
    def created_at(self) -> datetime:
        at: datetime = self._held.created_at
        return at

    def stored(self, queue: Consuming) -> Stored | None:
        held = self._held
        return held.stored(queue) if isinstance(held, Delivery) else None

    def extended(self, due_ms: int) -> None:
        if isinstance(self._held, Delivery):
            self._held.extended(due_ms)

    # Whether it is still wanted.

    @property
    def cancelled(self) -> bool:
        """Whether the handler should end: the lease is lost, its time is up, or we stop."""
        return self._run.cause is not None

    @property
    def cause(self) -> BaseException | None:
        """Why the handler should end, once it should."""
        return self._run.cause

    def wait_cancelled(self, timeout: Duration) -> bool:
        """Wait at most ``timeout`` until it is cancelled. Returns whether it is."""
        return self._run.wait_cancelled(milliseconds("timeout", timeout) / 1000)

    def check(self) -> None:
        """Raise the cause if it is cancelled. To be called now and then in long work."""
        if self._run.cause is not None:
            raise self._run.cause

    # What the handler itself says.

    def ack(self, *, tx: Transaction | None = None) -> None:
        with self._completing(tx):
            self._held.ack(**_in(tx))

    def nack(
        self, *, delay: Duration | None = None, error: str = "", tx: Transaction | None = None
    ) -> None:
        with self._completing(tx):
            self._held.nack(delay=delay, error=error, **_in(tx))

    def extend(self, by: Duration) -> None:
        self._held.extend(by)

    def snooze(self, delay: Duration, *, tx: Transaction | None = None) -> None:
        with self._completing(tx):
            self._held.snooze(delay, **_in(tx))

    def cancel(self, reason: str = "", *, tx: Transaction | None = None) -> None:
        with self._completing(tx):
            self._held.cancel(reason, **_in(tx))

    @contextmanager
    def _completing(self, tx: Transaction | None) -> Iterator[None]:
        """Take the right to say what becomes of it; return it if that could not be said.

        Or if the transaction that says it is rolled back.
        """
        run = self._run
        if not run.take():
            raise Conflict(f"job {self.id} has been completed, or given up: {run.cause}")
        try:
            yield
        except BaseException:
            run.give_back()
            raise
        if tx is not None:
            tx.on_end(lambda committed: None if committed else run.give_back())


def _in(tx: Transaction | None) -> dict[str, Transaction]:
    """Only a queue of this process has transactions."""
    return {} if tx is None else {"tx": tx}
