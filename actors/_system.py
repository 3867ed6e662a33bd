"""A running queue: one database and its actors, started and stopped in order."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import pykka

from blockqueue.storage import (
    MIN_FREE_BYTES,
    BlockQueueError,
    Clock,
    Conflict,
    FileLock,
    ForeignTx,
    NotFound,
    QueueClosed,
    Snapshot,
    Store,
    Tx,
    Unavailable,
    Withdrawn,
    foreign_transaction,
    meters,
)

from . import _signals as signals
from ._admission import BYTES_MAX, MESSAGES_MAX, Admission
from ._engine import Engine
from ._promise import Promise
from ._queue import QueueActor
from ._runtime import Forwarded, Pool, inbox_of, tell
from ._signals import Ref
from ._sweeper import SweeperActor
from ._writer import Operation

logger = logging.getLogger("blockqueue")

R = TypeVar("R")

IDLE_S = 60.0
_POOL_THREADS = 4
_STOP_S = 8.0
_FIND_S = 10.0


class System:
    """The actors over one database. Safe for any thread; not for a forked child."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        idle_s: float = IDLE_S,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        min_free_bytes: int = MIN_FREE_BYTES,
        on_fatal: Callable[[BlockQueueError], None] | None = None,
    ) -> None:
        self.store = Store(path, clock=clock, min_free_bytes=min_free_bytes)
        self._role = FileLock(self.store.path + "-hints")  # the sweeper's
        self.admission = Admission(messages_max, bytes_max)
        #: Why the queue refuses work, once it does.
        self.failed: BlockQueueError | None = None
        self._on_fatal = on_fatal
        self._failing = threading.Lock()  # guards the change of ``failed``
        self._stopping = threading.Lock()  # held by the one call of ``close`` that stops
        self._closed = False
        self._pool = Pool("blockqueue-actors", _POOL_THREADS)
        self._engine = Engine(self.store, self._pool, idle_s=idle_s, on_fatal=self._fail)
        #: How this process's gauges are read. Whoever has another one adds it.
        self.gauges = self._engine.gauges
        own, admission = self.store.meters.own, self.admission
        admitted, refused = own(meters.ADMITTED), own(meters.PUBLISH_REFUSED)
        self.gauges.update(
            {
                # These count on from whoever had the row before.
                meters.ADMITTED: lambda: admitted + admission.admitted,
                meters.PUBLISH_REFUSED: lambda: refused + admission.refused,
                meters.PENDING_MESSAGES: lambda: admission.waiting()[0],
                meters.PENDING_BYTES: lambda: admission.waiting()[1],
                meters.PERSISTENCE_LAG: lambda: round(admission.lag_s() * 1000),
            }
        )
        self._queue: Ref = QueueActor.start(self._engine)
        self._sweeper: Ref = SweeperActor.start(self._engine, self._queue, self._role)
        # A cache: an entry may be dead, never wrong; it does not keep an actor that has stopped.
        self._jobs: weakref.WeakValueDictionary[str, Ref] = weakref.WeakValueDictionary()

    @property
    def clock(self) -> Clock:
        return self.store.clock

    def _fail(self, error: BlockQueueError) -> None:
        with self._failing:
            if self.failed is not None:
                return
            self.failed = error
        logger.critical("the queue stops: %s", error)
        self._engine.tell_root(signals.Gone(QueueClosed(f"the queue has stopped: {error}")))
        if self._on_fatal is not None:
            try:
                self._on_fatal(error)
            except Exception:
                logger.exception("on_fatal failed")

    def _check_open(self) -> None:
        if self.failed is not None:
            raise QueueClosed(f"the queue has stopped: {self.failed}") from self.failed
        if self._closed:
            raise QueueClosed("the queue is closed")

    # Asking.

    def job(self, topic: str) -> Ref:
        """Return the actor of a topic, started if need be. Raises TopicNotFound."""
        self._check_open()
        ref = self._jobs.get(topic)
        if ref is None or not ref.is_alive():
            try:
                found: Any = self._queue.ask(signals.FindJob(topic), timeout=_FIND_S)
            except pykka.ActorDeadError as error:
                self._check_open()
                raise QueueClosed("the queue is closing") from error
            except pykka.Timeout as error:
                raise Unavailable(f"no actor for topic {topic!r} within {_FIND_S:g} s") from error
            ref = self._jobs[topic] = found
        return ref

    def _check_outside(self) -> None:
        """Raise in the middle of a transaction of this thread: it would wait for itself."""
        if self.store.is_mine:
            raise Conflict("this thread is inside a transaction: give tx=, or do it afterwards")

    def ask(self, topic: str, message: Any) -> Promise[Any]:
        """Send a message to a topic's actor; the promise is its answer.

        Does not wait, but may do on this thread what the message sets off.
        """
        self._check_outside()
        promise: Promise[Any] = Promise()
        envelope = Forwarded(message, promise)
        while True:
            try:
                self._pool.lend(inbox_of(self.job(topic)), envelope, promise)
            except pykka.ActorDeadError:  # it has just stopped, being idle: find the next one
                self._jobs.pop(topic, None)
            else:
                return promise

    def call(self, topic: str, message: Any, timeout: float) -> Any:
        """Send a message to a topic's actor and wait for the answer."""
        try:
            return self._await(self.ask(topic, message), timeout)
        except (NotFound, pykka.ActorDeadError):
            # The actor has just stopped, or another process has deleted the topic and may
            # have made a new one of that name. Either way nothing was done.
            self._jobs.pop(topic, None)
            return self._await(self.ask(topic, message), timeout)

    @staticmethod
    def _await(promise: Promise[Any], timeout: float) -> Any:
        try:
            return promise.result(timeout)
        except BaseException as error:
            # After Ctrl-C nobody waits any more: what was claimed is given back.
            promise.fail(Withdrawn(f"the caller went away: {error!r}"))
            raise

    def change(self, run: Callable[[Tx], R], timeout: float) -> R:
        """Run ``run`` in the writer's next transaction and return what it returns."""
        self._check_open()
        self._check_outside()
        promise: Promise[R] = Promise()
        operation = Operation(run, promise.begin, promise.finish)
        try:
            self._pool.lend(inbox_of(self._engine.writer), Forwarded(operation, None), promise)
        except pykka.ActorDeadError as error:
            self._check_open()
            raise QueueClosed("the queue is closing") from error
        return promise.result(timeout)

    def start_change(self, run: Callable[[Tx], R]) -> Promise[R]:
        """Do the same as ``change``, on another thread; the promise is what it returns."""
        self._check_open()
        return self._engine.change(run)

    @contextmanager
    def transaction(self, open_ms: int) -> Iterator[ForeignTx]:
        """Open a transaction on this thread; see ``BlockQueue.transaction``."""
        self._check_open()
        self._check_outside()
        topics: set[int] = set()
        try:
            with foreign_transaction(self.store, open_ms) as foreign:
                topics = foreign.topics
                yield foreign
        finally:
            if topics:  # rolled back or not: to look in vain is harmless
                self._engine.helped(topics)
            if self.store.failed is not None:
                self._fail(self.store.failed)
            elif self.store.is_untidy:
                self._engine.change(_nothing)  # the writer tidies up behind it

    def total(self) -> tuple[list[int], int]:
        """Return what all processes have counted, and how many live; see ``Meters.total``."""
        self._engine.set_gauges()
        return self.store.meters.total()

    @property
    def is_listening(self) -> bool:
        """Whether other processes can wake those who wait in this one."""
        return self._engine.siblings.is_listening

    def reading(self) -> AbstractContextManager[Snapshot]:
        """Open a consistent view of the database."""
        self._check_open()
        return self.store.reading()

    def release(self, deliveries: Any) -> Promise[None]:
        """Undo a claim that nobody received."""
        return self._engine.release(deliveries)

    @property
    def draining(self) -> bool:
        """Whether ``flush`` was called: nobody waits any more."""
        return self._engine.draining

    # What the actors must be told after a change.

    def topic_gone(self, name: str, error: BlockQueueError) -> None:
        self._jobs.pop(name, None)
        tell(self._queue, signals.TopicGone(name, error))

    def subscriber_gone(self, topic: str, name: str, error: BlockQueueError) -> None:
        ref = self._jobs.get(topic)
        if ref is not None:
            tell(ref, signals.SubscriberGone(name, error))

    def wake(self, topic: str) -> None:
        """Let the topic's waiting consumers look again."""
        ref = self._jobs.get(topic)
        if ref is not None:
            tell(ref, signals.Wake())

    # Stopping.

    def flush(self) -> None:
        """Answer all waiting consumers with an empty list; from now on nobody waits."""
        self._engine.draining = True
        tell(self._queue, signals.Flush())

    def close(self) -> bool:
        """Stop: answer who waits, write what was admitted, checkpoint, close. Idempotent.

        Returns whether everything ended in time.
        """
        self._check_outside()
        with self._stopping:
            if self._closed:
                return True
            deadline = time.monotonic() + _STOP_S
            self.flush()
            self._closed = True
            self._await_admitted(deadline)
            gone = QueueClosed("the queue is closing")
            tell(self._sweeper, signals.Gone(gone))
            tell(self._queue, signals.Gone(gone))
            self._engine.alarm.stop()
            self._engine.siblings.close()
            self._stop_writer(deadline)
            ended = self._pool.stop(max(0.1, deadline - time.monotonic()))
            self._engine.set_gauges()
            self.store.close()
            if self.store.failed is not None:  # its last checkpoint met a broken disk
                self._fail(self.store.failed)
            return ended

    def _await_admitted(self, deadline: float) -> None:
        """Wait for a turn of every actor that may still hand something to the writer."""
        try:
            for ref in list(self._jobs.values()):
                ref.ask(signals.Flush(), block=False).get(
                    timeout=max(0.1, deadline - time.monotonic())
                )
            self._engine.change(_nothing).get(timeout=max(0.1, deadline - time.monotonic()))
        except (pykka.ActorDeadError, pykka.Timeout, BlockQueueError):
            pass  # it has stopped, or is stuck: its callers are answered below

    def _stop_writer(self, deadline: float) -> None:
        try:
            self._engine.writer.stop(timeout=max(0.1, deadline - time.monotonic()))
        except pykka.Timeout:
            logger.error("the writer did not end in time")
        except BlockQueueError:
            pass  # it has failed, and said so

    def before_fork(self) -> bool:
        """See ``Store``: nothing is written or read until ``after_fork``."""
        return self.store.before_fork()

    def after_fork(self) -> None:
        self.store.after_fork()

    def abandon(self) -> None:
        """Let go in a forked child: no thread of this exists here."""
        self._closed = True
        self._engine.siblings.abandon()
        self._role.abandon()  # or no other process could have it while this one lives
        self.store.abandon()


def _nothing(tx: Tx) -> None:
    """An operation that is done when those before it are."""
