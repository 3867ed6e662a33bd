"""The client for programs with an event loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from functools import partial

import anyio

from blockqueue.api._durations import Duration
from blockqueue.api._message import Message
from blockqueue.api._options import Subscriber
from blockqueue.storage import BlockQueueError, QueueClosed, limits

from . import _consuming, _looking, _publishing, _topics
from ._async import AsyncTransport
from ._async_delivery import AsyncDelivery
from ._async_schedules import AsyncSchedules
from ._held import Held
from ._rounds import Rounds, Stop, give_back_failed
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


class AsyncClient(AsyncTransport):
    """A queue behind HTTP, for the tasks of one event loop.

    What it is made with, its methods, and what they raise are those of ``Client``; here they
    are awaited. A task that is cancelled leaves open whether its request was done.

    Leave ``consume`` within ``contextlib.aclosing``, so that what was claimed and not looked
    at is given back at once, and not when the loop collects its garbage.
    """

    async def create_topic(self, name: str, subscribers: Iterable[Subscriber | str]) -> Topic:
        """See ``Client.create_topic``."""
        return await self.run(_topics.create_topic(name, subscribers))

    async def delete_topic(self, name: str) -> None:
        """See ``Client.delete_topic``."""
        await self.run(_topics.delete_topic(name))

    async def topics(self) -> list[str]:
        """See ``Client.topics``."""
        return [topic.name for topic in await self.run(_topics.all_topics())]

    async def topic(self, name: str) -> Topic:
        """See ``Client.topic``."""
        return await self.run(_topics.topic(name))

    async def topic_page(self, limit: int = 100, after: str | None = None) -> Page[Topic]:
        """See ``Client.topic_page``."""
        return await self.run(_topics.topic_page(limit, after))

    async def add_subscribers(self, topic: str, subscribers: Iterable[Subscriber | str]) -> None:
        """See ``Client.add_subscribers``."""
        await self.run(_topics.add_subscribers(topic, subscribers))

    async def delete_subscriber(self, topic: str, subscriber: str) -> None:
        """See ``Client.delete_subscriber``."""
        await self.run(_topics.delete_subscriber(topic, subscriber))

    async def subscribers(self, topic: str) -> list[SubscriberStatus]:
        """See ``Client.subscribers``."""
        return await self.run(_topics.subscribers(topic))

    async def subscriber_page(
        self, topic: str, limit: int = 100, after: str | None = None
    ) -> Page[SubscriberStatus]:
        """See ``Client.subscriber_page``."""
        return await self.run(_topics.subscriber_page(topic, limit, after))

    async def pause(self, topic: str, subscriber: str | None = None) -> None:
        """See ``Client.pause``."""
        await self.run(_topics.pause(topic, subscriber, "pause"))

    async def resume(self, topic: str, subscriber: str | None = None) -> None:
        """See ``Client.resume``."""
        await self.run(_topics.pause(topic, subscriber, "resume"))

    async def publish(
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
        """See ``Client.publish``."""
        given = Message(
            message, headers, correlation_id, priority, delay, schedule_at, idempotency_key
        )
        if self.tracing is None:
            return await self.run(_publishing.publish(topic, given))
        with self.tracing.publishing(topic, 1) as span:
            receipt = await self.run(_publishing.publish(topic, given, span.trace))
            span.published(receipt.id)
            return receipt

    async def publish_many(
        self,
        topic: str,
        messages: Iterable[str | Message],
        *,
        priority: int = 0,
        delay: Duration | None = None,
    ) -> list[Receipt]:
        """See ``Client.publish_many``."""
        if self.tracing is None:
            return await self.run(_publishing.publish_many(topic, messages, priority, delay))
        listed = list(messages)
        with self.tracing.publishing(topic, len(listed)) as span:
            steps = _publishing.publish_many(topic, listed, priority, delay, span.trace)
            return await self.run(steps)

    async def claim(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int | None = None,
        wait: Duration = 0,
        lease: Duration | None = None,
    ) -> list[AsyncDelivery]:
        """See ``Client.claim``."""
        span = None if self.tracing is None else self.tracing.claiming(topic, subscriber)
        claimed = await self.run(_consuming.claim(topic, subscriber, limit, wait, lease))
        deliveries = [AsyncDelivery(self, topic, subscriber, each) for each in claimed]
        if span is not None:
            span.end(deliveries)
        return deliveries

    async def consume(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int = 10,
        wait: Duration = 30.0,
        lease: Duration | None = None,
        stop_when_paused: bool = False,
        stop: Stop | None = None,
    ) -> AsyncIterator[AsyncDelivery]:
        """See ``Client.consume``."""
        rounds = Rounds(wait, stop_when_paused)
        while stop is None or not stop.is_set():
            started = time.monotonic()
            claimed: list[AsyncDelivery] = []
            try:
                claimed = await self.claim(topic, subscriber, limit=limit, wait=wait, lease=lease)
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
                await self._give_back(topic, subscriber, left)
            if pause_s:
                await self._pause(pause_s)

    async def _give_back(self, topic: str, subscriber: str, left: Sequence[AsyncDelivery]) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self.run(_consuming.snooze(topic, subscriber, left, 0), _GIVE_BACK_S)
        except BlockQueueError as error:
            give_back_failed(error)

    async def ack(self, topic: str, subscriber: str, deliveries: Sequence[Held]) -> None:
        """See ``Client.ack``."""
        await self.run(_consuming.ack(topic, subscriber, deliveries))

    async def nack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        delay: Duration | None = None,
        error: str = "",
    ) -> None:
        """See ``Client.nack``."""
        await self.run(_consuming.nack(topic, subscriber, deliveries, delay, error))

    async def extend(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, by: Duration
    ) -> None:
        """See ``Client.extend``."""
        await self.run(_consuming.extend(topic, subscriber, deliveries, by))

    async def snooze(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, delay: Duration
    ) -> None:
        """See ``Client.snooze``."""
        await self.run(_consuming.snooze(topic, subscriber, deliveries, delay))

    async def cancel(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held | str],
        *,
        reason: str = "",
    ) -> None:
        """See ``Client.cancel``."""
        await self.run(_consuming.cancel(topic, subscriber, deliveries, reason))

    async def message(self, topic: str, message_id: str) -> MessageStatus:
        """See ``Client.message``."""
        return await self.run(_looking.message(topic, message_id))

    async def cancel_message(
        self, topic: str, message_id: str, reason: str = ""
    ) -> list[DeliveryStatus]:
        """See ``Client.cancel_message``."""
        return await self.run(_looking.cancel_message(topic, message_id, reason))

    async def active_page(
        self, topic: str, subscriber: str, limit: int = 100, after: str | None = None
    ) -> Page[DeliveryView]:
        """See ``Client.active_page``."""
        return await self.run(_looking.delivery_page(topic, subscriber, "messages", limit, after))

    def active(self, topic: str, subscriber: str) -> AsyncIterator[DeliveryView]:
        """See ``Client.active``."""
        page = _looking.delivery_page
        return self.each(partial(page, topic, subscriber, "messages", limits.BATCH_MAX))

    async def dead_page(
        self, topic: str, subscriber: str, limit: int = 100, after: str | None = None
    ) -> Page[DeliveryView]:
        """See ``Client.dead_page``."""
        return await self.run(_looking.delivery_page(topic, subscriber, "dlq", limit, after))

    def dead(self, topic: str, subscriber: str) -> AsyncIterator[DeliveryView]:
        """See ``Client.dead``."""
        page = _looking.delivery_page
        return self.each(partial(page, topic, subscriber, "dlq", limits.BATCH_MAX))

    async def failure_page(
        self,
        topic: str,
        subscriber: str,
        message_id: str,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Failure]:
        """See ``Client.failure_page``."""
        return await self.run(_looking.failure_page(topic, subscriber, message_id, limit, after))

    async def replay(
        self, topic: str, subscriber: str, message_ids: list[str] | None = None
    ) -> int:
        """See ``Client.replay``."""
        return await self.run(_looking.replay(topic, subscriber, message_ids))

    def schedules(self, topic: str) -> AsyncSchedules:
        """See ``Client.schedules``."""
        return AsyncSchedules(self, topic)
