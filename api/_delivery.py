"""A message in the hands of a consumer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from blockqueue.storage import Delivery as Stored
from blockqueue.storage import Envelope, Handle

from ._durations import Duration
from ._messages import from_ms

if TYPE_CHECKING:
    from .queue import BlockQueue


class Delivery:
    """One message, leased to whoever holds this until ``lease_expires_at``.

    Settle it with ``ack``, ``nack``, ``extend`` or ``snooze``. Each raises LeaseLost once the
    lease ran out or another consumer has the message: then nothing has changed.
    """

    __slots__ = ("_queue", "_stored", "_subscriber", "_topic")

    def __init__(self, queue: BlockQueue, topic: str, subscriber: str, stored: Stored) -> None:
        self._queue = queue
        self._topic = topic
        self._subscriber = subscriber
        self._stored = stored

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self._topic!r} to {self._subscriber!r}>"

    @property
    def id(self) -> str:
        """The message's id, the same for every subscriber."""
        return self._stored.message_id

    @property
    def message(self) -> str | bytes:
        """The payload as it was published, text or bytes."""
        body = self._stored.body
        return body.payload if isinstance(body, Envelope) else body

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; empty if it was published without."""
        body = self._stored.body
        return (body.headers or {}) if isinstance(body, Envelope) else {}

    @property
    def correlation_id(self) -> str | None:
        body = self._stored.body
        return body.correlation_id if isinstance(body, Envelope) else None

    @property
    def priority(self) -> int:
        """From −1000 to 1000; higher ones are handed out first."""
        return self._stored.priority

    @property
    def receipt_token(self) -> str:
        """Proves this claim to any process: ``queue.ack(…, [(id, receipt_token)])``."""
        return self._stored.receipt_token

    @property
    def delivery_count(self) -> int:
        """How often it was handed out, this time included."""
        return self._stored.delivery_count

    @property
    def failure_count(self) -> int:
        """How often it was nacked or its lease ran out."""
        return self._stored.failure_count

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends, by the queue's clock; ``extend`` moves it."""
        return from_ms(self._stored.lease_expires_ms)

    @property
    def created_at(self) -> datetime:
        """When it was published, by the queue's clock."""
        return from_ms(self._stored.created_ms)

    def ack(self) -> None:
        """Done: it is never handed out to this subscriber again. Repeating it is fine."""
        self._queue.ack(self._topic, self._subscriber, [self])

    def nack(self, *, delay: Duration | None = None, error: str = "") -> None:
        """Failed: again after ``delay`` (None: the subscriber's retry policy), or dead."""
        self._queue.nack(self._topic, self._subscriber, [self], delay=delay, error=error)

    def extend(self, by: Duration) -> None:
        """Make the lease last longer by ``by``, at most until 12 hours from now."""
        self._queue.extend(self._topic, self._subscriber, [self], by=by)

    def snooze(self, delay: Duration) -> None:
        """Give it back without a failure, visible again after ``delay``."""
        self._queue.snooze(self._topic, self._subscriber, [self], delay=delay)

    def handle(self) -> Handle:
        """Return what the storage knows it by."""
        stored = self._stored
        return Handle(stored.priority, stored.seq, stored.tag, stored.generation)

    def extended(self, due_ms: int) -> None:
        """Note the lease's new end."""
        self._stored.lease_expires_ms = due_ms
