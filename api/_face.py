"""What all parts of the embedded face stand on: the running queue of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pykka import ActorRef

from blockqueue import storage
from blockqueue.actors import System
from blockqueue.storage import Snapshot, Tx, limits

from ._durations import Duration, milliseconds
from ._opened import Opened
from ._transaction import Transaction

if TYPE_CHECKING:
    from blockqueue.otel import Tracing

R = TypeVar("R")


class Face:
    """A queue that is open, or opens itself anew after a fork."""

    _opened: Opened
    timeout: float
    #: Makes spans; None: nobody traces, and this look is all that it costs.
    tracing: Tracing | None

    @property
    def system(self) -> System:
        """The running actors, for those who build on them."""
        return self._opened.system()

    def job(self, topic: str) -> ActorRef[Any]:
        """Return the topic's actor, which answers ``blockqueue.actors.messages``.

        Raises TopicNotFound.
        """
        return self.system.job(topic)

    def change(self, run: Callable[[Tx], R]) -> R:
        """Run ``run`` in a write transaction, with those of others; return its value."""
        return self.system.change(run, self.timeout)

    @contextmanager
    def transaction(self, timeout: Duration = storage.OPEN_MS / 1000) -> Iterator[Transaction]:
        """Open a transaction for your own writes to the queue's file, and for the queue's.

        What is published or settled with ``tx=`` in its block is written together with your
        own statements when the block ends, or not at all if it raises. Use it on this thread
        only, briefly, for all other writers wait. Other calls that write are refused on this
        thread until it has ended.

        Args:
            timeout: after so long, at most 60 s, it is rolled back, even if its block stands
                still; what next uses it, or the end of the block, raises TransactionExpired.

        Raises, at the end of the block:
            TransactionExpired: it was open for too long; nothing was written.
            DiskFull, Unavailable: nothing was written.
            CommitUnknown: the disk failed; it may have been written or not.
        """
        open_ms = milliseconds("timeout", timeout)
        limits.check_range("timeout", open_ms, 1, storage.OPEN_MS_MAX, " ms")
        committed = False
        tx: Transaction | None = None
        try:
            with self.system.transaction(open_ms) as foreign:
                tx = Transaction(self, foreign)
                yield tx
            committed = True
        finally:
            if tx is not None:
                tx.end(committed)


def topic_id(snapshot: Snapshot, topic: str) -> int:
    """Return a topic's number. Raises TopicNotFound."""
    return storage.topic_named(snapshot, topic).id


def subscriber_of(snapshot: Snapshot, topic: str, subscriber: str) -> storage.Subscriber:
    """Return a subscriber of a topic. Raises TopicNotFound, SubscriberNotFound."""
    return storage.subscriber_named(snapshot, topic_id(snapshot, topic), subscriber)
