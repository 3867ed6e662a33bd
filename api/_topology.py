"""The embedded face: topics and subscribers."""

from __future__ import annotations

from collections.abc import Iterable

from blockqueue import storage
from blockqueue.storage import (
    After,
    Page,
    SubscriberNotFound,
    SubscriberStatus,
    SubscriberSummary,
    Summary,
    Topic,
    TopicNotFound,
    TopicSummary,
    Tx,
)

from ._durations import Duration, milliseconds
from ._face import Face, subscriber_of, topic_id
from ._options import Subscriber


class Topology(Face):
    """Making, deleting, pausing and listing topics and their subscribers."""

    def create_topic(
        self,
        name: str,
        subscribers: Iterable[Subscriber | str],
        *,
        retention: Duration = storage.DEFAULT_RETENTION_MS / 1000,
    ) -> Topic:
        """Make a topic with its subscribers (a name, or a Subscriber with options).

        ``retention``: how long consumed messages are kept, default 7 days, 0 = not at all.

        Raises:
            ValidationError: a name or an option is out of range, or there is no subscriber.
            AlreadyExists: the name is taken, or one subscriber is given twice.
        """
        stored = [_stored(each) for each in subscribers]
        retention_ms = milliseconds("retention", retention)
        return self.change(lambda tx: storage.create_topic_in(tx, name, stored, retention_ms))

    def delete_topic(self, name: str) -> None:
        """Delete a topic and all in it. The name is free and empty. Raises TopicNotFound."""
        self.change(lambda tx: storage.delete_topic_in(tx, topic_id(tx, name)))
        self.system.topic_gone(name, TopicNotFound(f"topic {name!r} was deleted"))

    def topics(self) -> list[str]:
        """Return the names of all topics, in order."""
        with self.system.reading() as snapshot:
            return [topic.name for topic in storage.topics(snapshot)]

    def topic(self, name: str) -> Topic:
        """Return a topic: its number, name, retention, whether it is paused. TopicNotFound."""
        with self.system.reading() as snapshot:
            return storage.topic_named(snapshot, name)

    def topic_page(self, limit: int, after: After | None = None) -> Page[Topic]:
        """Return up to ``limit`` topics by name, after where another page ended."""
        with self.system.reading() as snapshot:
            return storage.topic_page(snapshot, limit, after)

    def add_subscribers(self, topic: str, subscribers: Iterable[Subscriber | str]) -> None:
        """Add subscribers, all or none. They get what is published from now on.

        Raises TopicNotFound, ValidationError, AlreadyExists.
        """
        stored = [_stored(each) for each in subscribers]
        self.change(lambda tx: storage.add_subscribers_in(tx, topic_id(tx, topic), stored))

    def delete_subscriber(self, topic: str, subscriber: str) -> None:
        """Delete a subscriber with its deliveries. Raises TopicNotFound, SubscriberNotFound."""
        self.change(
            lambda tx: storage.delete_subscriber_in(tx, subscriber_of(tx, topic, subscriber).id)
        )
        gone = SubscriberNotFound(f"subscriber {subscriber!r} was deleted")
        self.system.subscriber_gone(topic, subscriber, gone)

    def subscribers(self, topic: str) -> list[SubscriberStatus]:
        """Return the topic's subscribers with their counters, by name. Raises TopicNotFound."""
        with self.system.reading() as snapshot:
            return storage.subscriber_statuses(snapshot, topic_id(snapshot, topic))

    def subscriber_page(
        self, topic: str, limit: int, after: After | None = None
    ) -> Page[SubscriberStatus]:
        """Return up to ``limit`` of what ``subscribers`` returns, after another page."""
        with self.system.reading() as snapshot:
            return storage.subscriber_page(snapshot, topic_id(snapshot, topic), limit, after)

    def topic_summaries(
        self, search: str = "", order: str = "name", offset: int = 0, limit: int = 50
    ) -> Summary[TopicSummary]:
        """Return some of the topics whose name contains ``search``, with all their counts.

        ``order``: ``"name"``, or the most ``"pending"``, ``"leased"`` or ``"dead"`` first.
        ``limit``: 1 to 1000. Raises ValidationError.
        """
        with self.system.reading() as snapshot:
            return storage.topic_summaries(snapshot, search, order, offset, limit)

    def subscriber_summaries(
        self,
        topic: str,
        search: str = "",
        order: str = "name",
        offset: int = 0,
        limit: int = 50,
    ) -> Summary[SubscriberSummary]:
        """Return some of a topic's subscribers; see ``topic_summaries``. Raises TopicNotFound."""
        with self.system.reading() as snapshot:
            number = topic_id(snapshot, topic)
            return storage.subscriber_summaries(snapshot, number, search, order, offset, limit)

    def subscriber_summary(self, topic: str, subscriber: str) -> SubscriberSummary:
        """Return one subscriber. Raises TopicNotFound, SubscriberNotFound."""
        with self.system.reading() as snapshot:
            found = subscriber_of(snapshot, topic, subscriber)
            return storage.subscriber_summary(snapshot, found.id)

    def pause(self, topic: str, subscriber: str | None = None) -> None:
        """Let nothing of a topic, or of one subscriber, be claimed. Repeatable."""
        self._pause(topic, subscriber, True)

    def resume(self, topic: str, subscriber: str | None = None) -> None:
        """End ``pause``: what waits can be claimed at once. Repeatable."""
        self._pause(topic, subscriber, False)

    def _pause(self, topic: str, subscriber: str | None, paused: bool) -> None:
        def run(tx: Tx) -> None:
            if subscriber is None:
                storage.pause_topic_in(tx, topic_id(tx, topic), paused)
            else:
                found = subscriber_of(tx, topic, subscriber).id
                storage.pause_subscriber_in(tx, found, paused)

        self.change(run)
        self.system.wake(topic)


def _stored(subscriber: Subscriber | str) -> storage.Subscriber:
    return (Subscriber(subscriber) if isinstance(subscriber, str) else subscriber).stored()
