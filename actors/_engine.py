"""What the actors of one queue share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from pykka import ActorDeadError, ActorRef

from blockqueue.storage import (
    BlockQueueError,
    Clock,
    Delivery,
    Handle,
    QueueClosed,
    Release,
    Store,
    Tx,
    settle_in,
)

from ._alarm import Alarm
from ._promise import Promise
from ._runtime import Forwarded, Pool, inbox_of, tell
from ._siblings import Siblings
from ._signals import Wake, WakeTopics
from ._writer import Operation, WriterActor

logger = logging.getLogger("blockqueue")

R = TypeVar("R")


class Engine:
    """The store, the writer, the alarm and the threads. Passed to every actor."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        *,
        idle_s: float,
        on_fatal: Callable[[BlockQueueError], None],
    ) -> None:
        self.store = store
        self.clock: Clock = store.clock
        self.pool = pool
        self.idle_s = idle_s
        #: Set when the queue stops: whoever asks for messages is not made to wait.
        self.draining = False
        #: The QueueActor; known once it has started.
        self.root: ActorRef[Any] | None = None
        #: How the gauges of this process are read, by their place.
        self.gauges: dict[int, Callable[[], int]] = {}
        #: Called once when the queue cannot go on.
        self.fatal = on_fatal
        self.alarm = Alarm(store.clock)
        self.siblings = Siblings(store, self.alarm, self._wake_topics)
        self.writer: ActorRef[WriterActor] = WriterActor.start(
            pool, store, on_fatal, self.siblings.tell
        )
        self._writer_inbox = inbox_of(self.writer)

    def write(self, operation: Operation) -> None:
        """Hand an operation to the writer. It finishes with an error if the writer has stopped."""
        try:
            self._writer_inbox.put(Forwarded(operation, None))
        except ActorDeadError:
            reason = self.store.failed or "it is closed"
            error = QueueClosed(f"nothing was written, the queue has stopped: {reason}")
            operation.finish(None, error)

    def change(self, run: Callable[[Tx], R]) -> Promise[R]:
        """Run ``run`` in the writer's next transaction, unless its promise is withdrawn."""
        promise: Promise[R] = Promise()
        self.write(Operation(run, promise.begin, promise.finish))
        return promise

    def helped(self, topics: Collection[int]) -> None:
        """Let all look who wait for something of these topics, here and in other processes."""
        self._wake_topics(topics)
        self.siblings.tell(topics)

    def wake_all(self) -> None:
        """Let all who wait look again: something has changed, and whom it concerns is unknown."""
        self.tell_root(Wake())

    def _wake_topics(self, topic_ids: Collection[int]) -> None:
        self.tell_root(WakeTopics(topic_ids))

    def set_gauges(self) -> None:
        """Let the other processes know this one's gauges."""
        self.store.meters.set({place: read() for place, read in list(self.gauges.items())})

    def tell_root(self, message: Any) -> None:
        if self.root is not None:
            tell(self.root, message)

    def release(self, deliveries: Sequence[Delivery]) -> Promise[None]:
        """Undo a claim whose consumer has gone: the messages are visible again at once."""
        released = self.change(partial(_release_in, deliveries=deliveries))
        # Rare, so that it may wake too many: its subscriber's actor may be another one by now.
        released.on_done(lambda _: self.wake_all())
        return released


def _release_in(tx: Tx, deliveries: Sequence[Delivery]) -> None:
    handles = [Handle(each.priority, each.seq, each.tag, each.generation) for each in deliveries]
    settle_in(tx, deliveries[0].lease.subscriber_id, Release(), handles)
