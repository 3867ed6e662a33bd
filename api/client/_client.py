"""The client for programs with threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial

from blockqueue.api._durations import Duration
from blockqueue.api._message import Message
from blockqueue.api._options import Subscriber
from blockqueue.storage import BlockQueueError, QueueClosed, limits

from . import _consuming, _looking, _publishing, _topics
from ._delivery import Delivery
from ._held import Held
from ._rounds import Rounds, Stop, give_back_failed
from ._schedules import Schedules
from ._sync import Transport
from ._values import (
    DeliveryStatus,
    DeliveryView,
    Failure,
    MessageStatus,
    Page,
    Receipt,
    SubscriberStatus,
    Topic,
)

# To give back what was claimed and not looked at; its leases would run out otherwise.
_GIVE_BACK_S = 2.0


class Client(Transport):
    """A queue behind HTTP, with the methods of ``BlockQueue``.

    Thread-safe; a forked child opens connections of its own. Use it as a context manager or
    call ``close``. What fails for a moment is tried again, with growing pauses, until the
    ``timeout``: a server that is restarted is only a delay. Nothing is done twice by that.

    Differs from ``BlockQueue``: messages are text, a claim takes 10 unless told otherwise, a
    delay of 0 for ``nack`` is the policy's, views name states as ``status``.

    Args:
        url: where the server is, like ``http://localhost:8080``.
        token: sent as ``Authorization: Bearer``, if given.
        timeout: how long a call may take, all its tries together, besides a claim's wait;
            seconds, a timedelta or text. A single try gets a third of it.
        tracing: makes OpenTelemetry's spans; see ``blockqueue.otel``.
        options: what ``httpx2.Client`` takes besides, as ``verify`` or ``proxy``.

    Raises, wherever a method says what it raises besides:
        ServerUnreachable, Unavailable, BackPressure: nothing was done until the timeout.
        AnswerLost, CommitUnknown: it may have been done or not.
        StrangeAnswer: what answers is no BlockQueue server.
        ValidationError: an argument is wrong.
    """

    def create_topic(self, name: str, subscribers: Iterable[Subscriber | str]) -> Topic:
        """Make a topic with its subscribers (a name, or a Subscriber with options).

        Raises:
            ValidationError: a name or an option is out of range, or there is no subscriber.
            AlreadyExists: the name is taken, or one subscriber is given twice.
        """
        return self.run(_topics.create_topic(name, subscribers))

    def delete_topic(self, name: str) -> None:
        """Delete a topic and all in it. The name is free and empty. Raises TopicNotFound."""
        self.run(_topics.delete_topic(name))

    def topics(self) -> list[str]:
        """Return the names of all topics, in order."""
        return [topic.name for topic in self.run(_topics.all_topics())]

    def topic(self, name: str) -> Topic:
        """Return a topic: its id, name, whether it is paused. Raises TopicNotFound."""
        return self.run(_topics.topic(name))

    def topic_page(self, limit: int = 100, after: str | None = None) -> Page[Topic]:
        """Return up to ``limit`` (1 to 1000) topics by name, from a page's ``after`` on."""
        return self.run(_topics.topic_page(limit, after))

    def add_subscribers(self, topic: str, subscribers: Iterable[Subscriber | str]) -> None:
        """Add subscribers, all or none. They get what is published from now on.

        Raises TopicNotFound, ValidationError, AlreadyExists.
        """
        self.run(_topics.add_subscribers(topic, subscribers))

    def delete_subscriber(self, topic: str, subscriber: str) -> None:
        """Delete a subscriber with its deliveries. Raises TopicNotFound, SubscriberNotFound."""
        self.run(_topics.delete_subscriber(topic, subscriber))

    def subscribers(self, topic: str) -> list[SubscriberStatus]:
        """Return the topic's subscribers with their counters, by name. Raises TopicNotFound."""
        return self.run(_topics.subscribers(topic))

    def subscriber_page(
        self, topic: str, limit: int = 100, after: str | None = None
    ) -> Page[SubscriberStatus]:
        """Return up to ``limit`` of what ``subscribers`` returns, from ``after`` on."""
        return self.run(_topics.subscriber_page(topic, limit, after))

    def pause(self, topic: str, subscriber: str | None = None) -> None:
        """Let nothing of a topic, or of one subscriber, be claimed. Repeatable."""
        self.run(_topics.pause(topic, subscriber, "pause"))

    def resume(self, topic: str, subscriber: str | None = None) -> None:
        """End ``pause``: what waits can be claimed at once. Repeatable."""
        self.run(_topics.pause(topic, subscriber, "resume"))

    def publish(
        self,
        topic: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        schedule_at: datetime | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Publish one message; it is on the server's disk when this returns.

        However often it has to be sent, it is one message: it gets an idempotency key, unless
        it has one. Arguments are those of ``BlockQueue.publish``.

        Raises:
            TopicNotFound, NoSubscribers, ValidationError: nothing was written.
            IdempotencyConflict: the key was used for a different publish; nothing was written.
            AnswerLost, CommitUnknown: call again with the same ``idempotency_key`` to be sure;
                give one for that, it is not known otherwise. ``ids`` are those that a server
                has told, if it has.
        """
        given = Message(
            message, headers, correlation_id, priority, delay, schedule_at, idempotency_key
        )
        if self.tracing is None:
            return self.run(_publishing.publish(topic, given))
        with self.tracing.publishing(topic, 1) as span:
            receipt = self.run(_publishing.publish(topic, given, span.trace))
            span.published(receipt.id)
            return receipt

    def publish_many(
        self,
        topic: str,
        messages: Iterable[str | Message],
        *,
        priority: int = 0,
        delay: Duration | None = None,
    ) -> list[Receipt]:
        """Publish 1 to 1000 messages, all or none. Errors are those of ``publish``."""
        if self.tracing is None:
            return self.run(_publishing.publish_many(topic, messages, priority, delay))
        listed = list(messages)
        with self.tracing.publishing(topic, len(listed)) as span:
            steps = _publishing.publish_many(topic, listed, priority, delay, span.trace)
            return self.run(steps)

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
            limit: at most so many, 1 to 1000; default 10.
            wait: how long to wait for the first one; never to fill up.
            lease: how long they are yours, 1ms to 12h; default: the subscriber's visibility.

        Returns:
            The deliveries, or [] when nothing came in time.

        Raises:
            TopicNotFound, SubscriberNotFound, Paused, ValidationError.
            AnswerLost: messages may be leased to nobody now; they come again when that lease
                has run out. Claiming again at once would not bring them, so this is yours to
                decide. ``consume`` goes on by itself.
        """
        span = None if self.tracing is None else self.tracing.claiming(topic, subscriber)
        claimed = self.run(_consuming.claim(topic, subscriber, limit, wait, lease))
        deliveries = [Delivery(self, topic, subscriber, each) for each in claimed]
        if span is not None:
            span.end(deliveries)
        return deliveries

    def consume(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int = 10,
        wait: Duration = 30.0,
        lease: Duration | None = None,
        stop_when_paused: bool = False,
        stop: Stop | None = None,
    ) -> Iterator[Delivery]:
        """Yield messages as they come, without end; the server may go away meanwhile.

        Up to ``limit`` are claimed at a time, and their leases run while the others are
        worked on: take fewer, or a longer ``lease``, if that may take long. What was claimed
        and not yielded is given back when the loop is left.

        Args:
            limit, wait, lease: as for ``claim``.
            stop_when_paused: end when the topic or subscriber is paused; else wait until it
                is not.
            stop: end when this is set, a ``threading.Event`` say; it is looked at before each
                claim and each message.

        Raises:
            TopicNotFound, SubscriberNotFound, ValidationError, StrangeAnswer.
            QueueClosed: the client was closed.
        """
        rounds = Rounds(wait, stop_when_paused)
        while stop is None or not stop.is_set():
            started = time.monotonic()
            claimed: list[Delivery] = []
            try:
                claimed = self.claim(topic, subscriber, limit=limit, wait=wait, lease=lease)
                pause_s: float | None = rounds.claimed(len(claimed), time.monotonic() - started)
            except BlockQueueError as error:
                if self.closed:
                    raise QueueClosed("the client is closed") from error
                pause_s = rounds.failed(error)
            if pause_s is None:
                return
            left = deque(claimed)
            try:
                while left and (stop is None or not stop.is_set()):
                    yield left.popleft()
            finally:
                self._give_back(topic, subscriber, left)
            if pause_s:
                self._pause(pause_s)

    def _give_back(self, topic: str, subscriber: str, left: Sequence[Delivery]) -> None:
        try:
            self.run(_consuming.snooze(topic, subscriber, left, 0), _GIVE_BACK_S)
        except BlockQueueError as error:
            give_back_failed(error)

    def ack(self, topic: str, subscriber: str, deliveries: Sequence[Held]) -> None:
        """Settle deliveries as done, in one request. Repeating it is fine.

        Raises:
            LeaseLost: for some the lease had ended; ``lost`` names them, the others are done.
        """
        self.run(_consuming.ack(topic, subscriber, deliveries))

    def nack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        delay: Duration | None = None,
        error: str = "",
    ) -> None:
        """Settle deliveries as failed, in one request, with the reason; see ``ack``.

        If an answer is lost, LeaseLost can mean that a first try has done it. So it is with
        ``snooze``: either way the message is not yours any more.
        """
        self.run(_consuming.nack(topic, subscriber, deliveries, delay, error))

    def extend(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, by: Duration
    ) -> None:
        """Make leases last longer by ``by``, at most until 12 hours from now; see ``ack``.

        A request each. If an answer is lost a lease may be extended twice.
        """
        self.run(_consuming.extend(topic, subscriber, deliveries, by))

    def snooze(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, delay: Duration
    ) -> None:
        """Give deliveries back without a failure, visible again after ``delay``; see ``ack``."""
        self.run(_consuming.snooze(topic, subscriber, deliveries, delay))

    def cancel(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held | str],
        *,
        reason: str = "",
    ) -> None:
        """Give deliveries up: they are neither handed out again nor dead. Repeatable.

        A delivery, or an (id, receipt), is cancelled by who holds its lease; by a message's id
        alone whatever is pending or leased is cancelled, and the lease is lost. A request each;
        where there are tokens it takes one with the scope ``manage``.

        Raises:
            LeaseLost: for some the lease had ended; the others are cancelled.
            DeliveryNotFound: an id is none of the subscriber's; the other ids are cancelled.
            Finished: one is acknowledged or dead; the other ids are cancelled.
        """
        self.run(_consuming.cancel(topic, subscriber, deliveries, reason))

    def message(self, topic: str, message_id: str) -> MessageStatus:
        """Return a message with what has become of it for each subscriber, by name.

        Raises TopicNotFound, MessageNotFound.
        """
        return self.run(_looking.message(topic, message_id))

    def cancel_message(self, topic: str, message_id: str, reason: str = "") -> list[DeliveryStatus]:
        """Give a message up for all subscribers that have not finished it. Repeatable.

        Leases are lost. Returns what the message is to each subscriber now.
        Raises TopicNotFound, MessageNotFound.
        """
        return self.run(_looking.cancel_message(topic, message_id, reason))

    def active_page(
        self, topic: str, subscriber: str, limit: int = 100, after: str | None = None
    ) -> Page[DeliveryView]:
        """Return deliveries that are pending or leased, the newest first.

        ``after`` is that of the page before. Raises TopicNotFound, SubscriberNotFound.
        """
        return self.run(_looking.delivery_page(topic, subscriber, "messages", limit, after))

    def active(self, topic: str, subscriber: str) -> Iterator[DeliveryView]:
        """Yield what all pages of ``active_page`` have."""
        page = _looking.delivery_page
        return self.each(partial(page, topic, subscriber, "messages", limits.BATCH_MAX))

    def dead_page(
        self, topic: str, subscriber: str, limit: int = 100, after: str | None = None
    ) -> Page[DeliveryView]:
        """Return dead letters, the newest first; see ``active_page``."""
        return self.run(_looking.delivery_page(topic, subscriber, "dlq", limit, after))

    def dead(self, topic: str, subscriber: str) -> Iterator[DeliveryView]:
        """Yield what all pages of ``dead_page`` have."""
        page = _looking.delivery_page
        return self.each(partial(page, topic, subscriber, "dlq", limits.BATCH_MAX))

    def failure_page(
        self,
        topic: str,
        subscriber: str,
        message_id: str,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Failure]:
        """Return a delivery's nacks and expired leases, the latest first; the last 100 are kept.

        Raises TopicNotFound, SubscriberNotFound, DeliveryNotFound.
        """
        return self.run(_looking.failure_page(topic, subscriber, message_id, limit, after))

    def replay(self, topic: str, subscriber: str, message_ids: list[str] | None = None) -> int:
        """Make dead letters visible again with both counts at 0: those named, or all.

        Returns how many that were; fewer, if an answer was lost and a first try had done it.
        Raises TopicNotFound, SubscriberNotFound.
        """
        return self.run(_looking.replay(topic, subscriber, message_ids))

    def schedules(self, topic: str) -> Schedules:
        """Return the topic's schedules: to make, list, change, pause and run them."""
        return Schedules(self, topic)
