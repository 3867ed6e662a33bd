"""The embedded face: a durable queue inside the caller's program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from pykka import ActorRef

from blockqueue import storage
from blockqueue.actors import BYTES_MAX, MESSAGES_MAX, Claim, Promise, Publish, Settle, System
from blockqueue.storage import (
    Ack,
    Batch,
    Extend,
    Handle,
    LeaseLost,
    Nack,
    Outcome,
    Published,
    Settled,
    Settlement,
    Snooze,
    SubscriberNotFound,
    SubscriberStatus,
    TopicNotFound,
    Tx,
    ValidationError,
    limits,
)

from ._bucket import Bucket
from ._delivery import Delivery, Held, handles_of
from ._durations import Duration, milliseconds
from ._messages import Message, Receipt, Receipts, batch_of, batches_of
from ._opened import Opened
from ._options import Subscriber


class BlockQueue:
    """A durable queue with topics and subscribers in one SQLite file.

    Thread-safe. Several processes may open the same file. Use it as a context manager or
    call ``close``. After a crash just open it again.

    Args:
        path: the database file, made if missing, on a local disk.
        timeout: seconds to wait for a write before it is withdrawn; see ``Withdrawn``.
        messages_max, bytes_max: how much may wait to be written before ``BackPressure``.
        clock: where time comes from; only tests give one.
        idle_s: seconds after which an unused topic's actors stop.

    Raises:
        DatabaseUnusable, NewerSchema, DiskFull: the file cannot be used; the text says why.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 30.0,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        clock: storage.Clock | None = None,
        idle_s: float = 60.0,
        on_fatal: Any = None,
    ) -> None:
        self.timeout = timeout
        self._opened = Opened(
            partial(
                System,
                os.path.abspath(os.fspath(path)),
                clock=clock,
                idle_s=idle_s,
                messages_max=messages_max,
                bytes_max=bytes_max,
                on_fatal=on_fatal,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> bool:
        """Answer who waits, write what was admitted, and close. Safe to call again.

        Returns whether everything ended in time (8 s).
        """
        return self._opened.close()

    def drain(self) -> None:
        """Answer all who wait for messages with [], and let nobody wait from now on."""
        self.system.flush()

    @property
    def system(self) -> System:
        """The running actors, for those who build on them."""
        return self._opened.system()

    def job(self, topic: str) -> ActorRef[Any]:
        """Return the topic's actor, which answers ``blockqueue.actors.messages``.

        Raises TopicNotFound.
        """
        return self.system.job(topic)

    # Topics and subscribers.

    def create_topic(
        self,
        name: str,
        subscribers: Iterable[Subscriber | str],
        *,
        retention: Duration = storage.DEFAULT_RETENTION_MS / 1000,
    ) -> None:
        """Make a topic with its subscribers (a name, or a Subscriber with options).

        ``retention``: how long consumed messages are kept, default 7 days, 0 = not at all.

        Raises:
            ValidationError: a name or an option is out of range, or there is no subscriber.
            AlreadyExists: the name is taken, or one subscriber is given twice.
        """
        stored = [_stored(each) for each in subscribers]
        retention_ms = milliseconds("retention", retention)
        self._change(lambda tx: storage.create_topic_in(tx, name, stored, retention_ms))

    def delete_topic(self, name: str) -> None:
        """Delete a topic and all in it. The name is free and empty. Raises TopicNotFound."""
        self._change(lambda tx: storage.delete_topic_in(tx, storage.topic_named(tx, name).id))
        self.system.topic_gone(name, TopicNotFound(f"topic {name!r} was deleted"))

    def topics(self) -> list[str]:
        """Return the names of all topics, in order."""
        with self.system.reading() as snapshot:
            return [topic.name for topic in storage.topics(snapshot)]

    def add_subscribers(self, topic: str, subscribers: Iterable[Subscriber | str]) -> None:
        """Add subscribers, all or none. They get what is published from now on.

        Raises TopicNotFound, ValidationError, AlreadyExists.
        """
        stored = [_stored(each) for each in subscribers]
        self._change(
            lambda tx: storage.add_subscribers_in(tx, storage.topic_named(tx, topic).id, stored)
        )

    def delete_subscriber(self, topic: str, subscriber: str) -> None:
        """Delete a subscriber with its deliveries. Raises TopicNotFound, SubscriberNotFound."""
        self._change(
            lambda tx: storage.delete_subscriber_in(tx, _subscriber_id(tx, topic, subscriber))
        )
        gone = SubscriberNotFound(f"subscriber {subscriber!r} was deleted")
        self.system.subscriber_gone(topic, subscriber, gone)

    def subscribers(self, topic: str) -> list[SubscriberStatus]:
        """Return the topic's subscribers with their counters, by name. Raises TopicNotFound."""
        with self.system.reading() as snapshot:
            found = storage.topic_named(snapshot, topic)
            return storage.subscriber_statuses(snapshot, found.id)

    def pause(self, topic: str, subscriber: str | None = None) -> None:
        """Let nothing of a topic, or of one subscriber, be claimed. Repeatable."""
        self._pause(topic, subscriber, True)

    def resume(self, topic: str, subscriber: str | None = None) -> None:
        """End ``pause``: what waits can be claimed at once. Repeatable."""
        self._pause(topic, subscriber, False)

    def _pause(self, topic: str, subscriber: str | None, paused: bool) -> None:
        def run(tx: Tx) -> None:
            if subscriber is None:
                storage.pause_topic_in(tx, storage.topic_named(tx, topic).id, paused)
            else:
                found = _subscriber_id(tx, topic, subscriber)
                storage.pause_subscriber_in(tx, found, paused)

        self._change(run)
        self.system.wake(topic)

    # Messages.

    def publish(
        self,
        topic: str,
        message: str | bytes,
        *,
        headers: dict[str, str] | None = None,
        priority: int = 0,
        delay: Duration = 0,
        correlation_id: str | None = None,
    ) -> Receipt:
        """Publish one message; it is on the disk when this returns.

        Args:
            message: text or bytes up to 1 MiB, returned to consumers as given.
            headers: text to text, up to 16 KiB as JSON.
            priority: −1000 to 1000; higher ones are handed out first.
            delay: visible only that long after the commit.
            correlation_id: up to 255 bytes, handed through.

        Raises:
            TopicNotFound, NoSubscribers, ValidationError: nothing was written.
            BackPressure, DiskFull, Withdrawn, QueueClosed: nothing was written; try again.
            CommitUnknown: the disk failed; it may have been written or not.
        """
        batch = batch_of(Message(message, headers, correlation_id, priority, delay))
        (published,) = self._publish(topic, [batch])
        return Receipt(published, 0)

    def publish_many(
        self,
        topic: str,
        messages: Iterable[str | bytes | Message],
        *,
        priority: int = 0,
        delay: Duration = 0,
    ) -> Receipts:
        """Publish 1 to 1000 messages, all or none. Errors are those of ``publish``."""
        batches = batches_of(messages, priority, delay)
        return Receipts(self._publish(topic, batches))

    def start_publish(self, topic: str, message: Message) -> Promise[list[Published]]:
        """Begin to publish a message, and return the promise that it is on the disk.

        For servers, whose threads must not wait. Errors of ``publish`` that come later are
        the promise's.
        """
        batch = batch_of(message)
        admission = self.system.admission
        nbytes = len(batch.messages)
        admission.enter(1, nbytes)
        try:
            promise: Promise[list[Published]] = self.system.ask(topic, Publish([batch]))
        except BaseException:
            admission.leave(1, nbytes)
            raise
        promise.on_done(lambda _: admission.leave(1, nbytes))
        return promise

    def _publish(self, topic: str, batches: list[Batch]) -> list[Published]:
        system, count, nbytes = self.system, 0, 0
        for batch in batches:
            count += batch.count
            nbytes += len(batch.messages)
        system.admission.enter(count, nbytes)
        try:
            published: list[Published] = system.call(topic, Publish(batches), self.timeout)
        finally:
            system.admission.leave(count, nbytes)
        return published

    def claim(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int | None = None,
        wait: Duration = 0,
        lease: Duration | None = None,
    ) -> list[Delivery]:
        """Lease messages: what is due, higher priorities first, then the oldest.

        Args:
            limit: at most so many, 1 to 1000; default: the subscriber's claim limit.
            wait: how long to wait for the first one; never to fill up.
            lease: how long they are yours, 1ms to 12h; default: the subscriber's visibility.

        Returns:
            The deliveries, or [] when nothing came in time.

        Raises:
            TopicNotFound, SubscriberNotFound, Paused, ValidationError.
        """
        if limit is not None:
            limits.check_range("limit", limit, 1, limits.BATCH_MAX)
        wait_ms = max(0, milliseconds("wait", wait))
        lease_ms = None if lease is None else _lease_ms("lease", lease)
        claim = Claim(subscriber, limit, lease_ms, wait_ms)
        found = self.system.call(topic, claim, self.timeout + wait_ms / 1000)
        return [Delivery(self, topic, subscriber, stored) for stored in found]

    def ack(self, topic: str, subscriber: str, deliveries: Sequence[Held]) -> None:
        """Settle deliveries as done. Repeating it is fine.

        Raises:
            LeaseLost: for some the lease had ended; ``lost`` names them, the others are done.
        """
        self._settle(topic, subscriber, Ack(), deliveries)

    def nack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        delay: Duration | None = None,
        error: str = "",
    ) -> None:
        """Settle deliveries as failed, with the reason; see ``Delivery.nack``, ``ack``."""
        delay_ms = None if delay is None else milliseconds("delay", delay)
        limits.check_range("delay", delay_ms or 0, 0, limits.DELAY_MS_MAX, " ms")
        if not isinstance(error, str):
            raise ValidationError(f"error must be text, not {type(error).__name__}")
        self._settle(topic, subscriber, Nack(delay_ms, error), deliveries)

    def extend(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, by: Duration
    ) -> None:
        """Make leases last longer by ``by``, at most until 12 hours from now; see ``ack``."""
        by_ms = _lease_ms("by", by)
        self._settle(topic, subscriber, Extend(by_ms), deliveries)

    def snooze(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, delay: Duration
    ) -> None:
        """Give deliveries back without a failure, visible again after ``delay``; see ``ack``."""
        delay_ms = milliseconds("delay", delay)
        limits.check_range("delay", delay_ms, 0, limits.DELAY_MS_MAX, " ms")
        self._settle(topic, subscriber, Snooze(delay_ms), deliveries)

    def bucket(self, topic: str, subscriber: str) -> Bucket:
        """Return the subscriber's retry bucket and dead letters, to list, replay and drop."""
        return Bucket(self, topic, subscriber)

    def settle(
        self, topic: str, subscriber: str, settlement: Settlement, handles: Sequence[Handle]
    ) -> list[Settled]:
        """Settle by handle, each for itself; return an outcome per message, in order."""
        count = sum(handle.count for handle in handles)
        limits.check_range("number of deliveries", count, 1, limits.BATCH_MAX)
        settle = Settle(subscriber, settlement, handles)
        settled: list[Settled] = self.system.call(topic, settle, self.timeout)
        return settled

    def start_settle(
        self, topic: str, subscriber: str, settlement: Settlement, handles: Sequence[Handle]
    ) -> Promise[list[Settled]]:
        """Begin to settle, and return the promise of what ``settle`` returns."""
        return self.system.ask(topic, Settle(subscriber, settlement, handles))

    def _settle(
        self, topic: str, subscriber: str, settlement: Settlement, deliveries: Sequence[Held]
    ) -> None:
        if not deliveries:
            return
        settled = self.settle(topic, subscriber, settlement, handles_of(self, deliveries))
        lost: list[str] = []
        for held, outcome in zip(deliveries, settled, strict=True):
            if outcome.outcome is not Outcome.DONE:
                lost.append(held.id if isinstance(held, Delivery) else held[0])
            elif isinstance(settlement, Extend) and isinstance(held, Delivery):
                assert outcome.due_ms is not None
                held.extended(outcome.due_ms)
        if lost:
            raise LeaseLost(
                f"{len(lost)} of {len(deliveries)} leases had ended: {', '.join(lost[:5])}", lost
            )

    def _change(self, run: Any) -> Any:
        return self.system.change(run, self.timeout)


def _stored(subscriber: Subscriber | str) -> storage.Subscriber:
    return (Subscriber(subscriber) if isinstance(subscriber, str) else subscriber).stored()


def _subscriber_id(tx: Tx, topic: str, subscriber: str) -> int:
    return storage.subscriber_named(tx, storage.topic_named(tx, topic).id, subscriber).id


def _lease_ms(what: str, value: Duration) -> int:
    return limits.check_range(what, milliseconds(what, value), 1, limits.LEASE_MS_MAX, " ms (12h)")
