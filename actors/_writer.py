"""The only actor that writes: group commit without a timer.

While one group is being committed the next one gathers in the inbox. So a lone caller
waits for one commit, and a hundred callers share one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec

from blockqueue.storage import (
    BlockQueueError,
    CommitUnknown,
    QueueClosed,
    Store,
    Tx,
    Unavailable,
    Withdrawn,
    meters,
)

from ._runtime import LATER, Envelope, Pool, PooledActor, refuse

logger = logging.getLogger("blockqueue")

_GROUP_S_MAX = 0.020


def _nobody() -> None:
    """Nobody else comes."""


class Operation(msgspec.Struct):
    """A piece of work for the writer: ``begin``, ``run`` in a transaction, then ``finish``.

    ``begin`` says whether it is still wanted; it is asked once, just before the work, while
    ``run`` may be repeated after a rollback. ``finish`` gets the value or the error, after
    the commit, on the thread that committed; with CommitUnknown also the value that there is
    if it was written. ``urgent`` ones go before the others.
    ``await_callers`` may wait a moment for those with whom the work could be shared.
    """

    run: Callable[[Tx], Any]
    begin: Callable[[], bool]
    finish: Callable[[Any, BaseException | None], object]
    urgent: bool = False
    await_callers: Callable[[], object] = _nobody
    begun: bool = False


_Done = tuple[Operation, Any, BaseException | None]


class _Undone(Exception):
    """An operation failed after it had changed something: the group is rolled back."""


class WriterActor(PooledActor):
    """Owns the store's write transactions: whichever thread pumps it, it is one at a time."""

    blocks = True

    def __init__(
        self,
        pool: Pool,
        store: Store,
        on_fatal: Callable[[BlockQueueError], None],
        on_helped: Callable[[set[int]], None],
    ) -> None:
        super().__init__(pool)
        #: Told of the topics for which a commit may help somebody who waits elsewhere.
        self._on_helped = on_helped
        self._store = store
        self._on_fatal = on_fatal
        self._operations: list[Operation] = []

    def on_receive(self, message: Operation) -> Any:
        self._operations.append(message)
        return LATER

    def on_drained(self) -> None:
        self._write()
        if self._store.failed is not None:
            self._give_up(self._store.failed)

    def on_stop(self) -> None:
        self._write()  # what came before the stop

    def _write(self) -> None:
        if len(self._operations) > 1:
            self._operations.sort(key=_is_patient)
        while self._operations and self._store.failed is None:
            self._operations[0].await_callers()
            count = self._commit(self._operations)
            del self._operations[:count]
            if self._store.is_untidy:  # everybody has been answered: nobody waits for that
                self._store.tidy()

    def _give_up(self, error: BlockQueueError) -> None:
        """Refuse all work for good: only opening the database anew tells what it holds."""
        operations, self._operations = self._operations, []
        for operation in operations:
            _answer(operation, None, _not_written(error))
        self.close(_not_written(error))
        self._on_fatal(error)

    def refuse(self, rest: Sequence[Envelope], error: BaseException) -> None:
        if not isinstance(error, BlockQueueError):
            error = QueueClosed("nothing was written, the queue is closed")
        for envelope in rest:
            if isinstance(envelope.message, Operation):
                _answer(envelope.message, None, error)
        refuse(rest, error)

    def _commit(self, operations: Sequence[Operation]) -> int:
        """Commit as many operations as fit into one group; return how many that were."""
        done: list[_Done] = []
        try:
            with self._store.transaction() as tx:
                self._run_group(tx, operations, done)
        except _Undone:
            return self._commit_singly(operations[: len(done) + 1])
        except (BlockQueueError, apsw.Error) as error:
            # Whoever met the error is the one after ``done``, and will be first next time.
            if self._store.failed is None and done:
                return self._commit_singly(operations[: len(done)])
            if self._store.make_room():
                return self._commit_singly(operations[:1])
            count = max(1, len(done))
            # What it would have been goes along: a publish tells its ids if it is unknown.
            values = [value for _, value, _ in done] or [None]
            for operation, value in zip(operations, values, strict=False):
                _answer(operation, value, error)
            return count
        if tx.helped:
            self._on_helped(tx.helped)
        for operation, value, failure in done:
            _answer(operation, value, failure)
        return len(done)

    def _run_group(
        self,
        tx: Tx,
        operations: Sequence[Operation],
        done: list[_Done],
    ) -> None:
        started = time.monotonic()
        for operation in operations:
            if done and time.monotonic() - started > _GROUP_S_MAX:
                break
            done.append((operation, *self._run(tx, operation)))

    def _run(self, tx: Tx, operation: Operation) -> tuple[Any, BaseException | None]:
        """Run one operation; return its value or error. Raises _Undone after a half change."""
        if not operation.begun and not operation.begin():
            return None, Withdrawn("nobody wants it any more; nothing was written")
        operation.begun = True
        changes = tx.total_changes()
        try:
            return operation.run(tx), None
        except apsw.Error:
            raise
        except Exception as error:
            if not isinstance(error, BlockQueueError):
                logger.exception("an operation failed")
            if tx.total_changes() != changes:
                raise _Undone from error
            return None, error

    def _commit_singly(self, operations: Sequence[Operation]) -> int:
        """Commit each operation by itself, so that one that fails spoils no other."""
        self._store.meters.add(meters.FLUSH_RETRIED)
        for operation in operations:
            if self._store.failed is not None:
                _answer(operation, None, _not_written(self._store.failed))
                continue
            value, failure = self._commit_one(operation)
            if failure is not None and self._store.make_room():
                value, failure = self._commit_one(operation)
            _answer(operation, value, failure)
        return len(operations)

    def _commit_one(self, operation: Operation) -> tuple[Any, BaseException | None]:
        value: Any = None
        failure: BaseException | None = None
        try:
            with self._store.transaction() as tx:
                value, failure = self._run(tx, operation)
            self._on_helped(tx.helped)
        except _Undone as undone:
            failure = undone.__cause__
        except Exception as error:
            failure = error
        return value, failure

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        fatal = self._store.failed or Unavailable(f"the writer failed: {error!r}")
        self._store.failed = fatal
        unknown = CommitUnknown(f"{fatal}: the work may have been written or not")
        for operation in self._operations:
            if operation.begun:
                _answer(operation, None, unknown)
        self._operations = [each for each in self._operations if not each.begun]
        self.refuse(rest, _not_written(fatal))
        self._give_up(fatal)


def _is_patient(operation: Operation) -> bool:
    return not operation.urgent


def _answer(operation: Operation, value: Any, error: BaseException | None) -> None:
    try:
        operation.finish(value, error)
    except Exception:  # the others of its group must have their answers, too
        logger.exception("an operation could not tell how it ended")


def _not_written(error: BlockQueueError) -> QueueClosed:
    return QueueClosed(f"nothing was written, the queue has stopped: {error}")
