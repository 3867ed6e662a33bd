"""The embedded face: messages and deliveries, as operators look at them."""

from __future__ import annotations

from functools import partial

from blockqueue import storage
from blockqueue.storage import (
    After,
    DeliveryStatus,
    DeliveryView,
    Failure,
    MessageStatus,
    Outcome,
    Page,
    Replay,
    ValidationError,
    limits,
)

from ._bucket import Bucket
from ._consuming import Consuming
from ._delivery import handle_of
from ._face import subscriber_of, topic_id
from ._metrics import Metrics, metrics_of
from ._schedules import Schedules


class Looking(Consuming):
    """Looking into topics: messages with their state, active deliveries, dead letters."""

    def message(self, topic: str, message_id: str) -> MessageStatus:
        """Return a message with what has become of it for each subscriber, by name.

        Raises TopicNotFound, MessageNotFound.
        """
        with self.system.reading() as snapshot:
            return storage.message_status(snapshot, topic_id(snapshot, topic), message_id)

    def cancel_message(self, topic: str, message_id: str, reason: str = "") -> list[DeliveryStatus]:
        """Give a message up for all subscribers that have not finished it. Repeatable.

        Leases are lost. Returns what the message is to each subscriber now.
        Raises TopicNotFound, MessageNotFound.
        """
        if not isinstance(reason, str):
            raise ValidationError(f"reason must be text, not {type(reason).__name__}")
        return self.change(
            lambda tx: storage.cancel_message_in(tx, topic_id(tx, topic), message_id, reason)
        )

    def active_page(
        self, topic: str, subscriber: str, limit: int = 100, after: After | None = None
    ) -> Page[DeliveryView]:
        """Return deliveries that are pending or leased, the newest first.

        ``after`` is that of the page before. Raises TopicNotFound, SubscriberNotFound.
        """
        with self.system.reading() as snapshot:
            found = subscriber_of(snapshot, topic, subscriber)
            return storage.active_page(snapshot, found, limit, after)

    def dead_page(
        self, topic: str, subscriber: str, limit: int = 100, after: After | None = None
    ) -> Page[DeliveryView]:
        """Return dead letters, the newest first; see ``active_page``."""
        with self.system.reading() as snapshot:
            found = subscriber_of(snapshot, topic, subscriber)
            return storage.dead_page(snapshot, found, limit, after)

    def failure_page(
        self,
        topic: str,
        subscriber: str,
        message_id: str,
        limit: int = 100,
        after: After | None = None,
    ) -> Page[Failure]:
        """Return a delivery's nacks and expired leases, the latest first; the last 100 are kept.

        Raises TopicNotFound, SubscriberNotFound, DeliveryNotFound.
        """
        with self.system.reading() as snapshot:
            found = subscriber_of(snapshot, topic, subscriber)
            return storage.failure_page(snapshot, found, message_id, limit, after)

    def replay(self, topic: str, subscriber: str, message_ids: list[str] | None = None) -> int:
        """Make dead letters visible again with both counts at 0: those named, or all.

        Returns how many that were. Raises TopicNotFound, SubscriberNotFound.
        """
        settle = partial(self.settle, topic, subscriber, Replay(dead_only=True))
        if message_ids is not None:
            parts = [
                message_ids[start : start + limits.BATCH_MAX]
                for start in range(0, len(message_ids), limits.BATCH_MAX)
            ]
            outcomes = [settle([handle_of(each, None) for each in part]) for part in parts]
            return sum(each.outcome is Outcome.DONE for part in outcomes for each in part)
        count, after = 0, None
        while True:
            page = self.dead_page(topic, subscriber, limits.BATCH_MAX, after)
            if page.items:
                done = settle([handle_of(each.message_id, None) for each in page.items])
                count += sum(each.outcome is Outcome.DONE for each in done)
            if page.after is None:
                return count
            after = page.after

    def metrics(self) -> Metrics:
        """Return what the queue holds, counts and measures, as plain numbers."""
        return metrics_of(self.system)

    def schedules(self, topic: str) -> Schedules:
        """Return the topic's schedules: to make, list, change, pause and run them."""
        return Schedules(self, topic)

    def bucket(self, topic: str, subscriber: str) -> Bucket:
        """Return the subscriber's retry bucket and dead letters, to list, replay and drop."""
        return Bucket(self, topic, subscriber)
