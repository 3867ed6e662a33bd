"""Counts of many topics and subscribers at a glance, compared with the naive model."""

from __future__ import annotations

from collections.abc import Iterable

from blockqueue.storage import (
    ORDERS,
    Snapshot,
    State,
    SubscriberNumbers,
    Tally,
    overview,
    subscriber_summaries,
    subscriber_summary,
    topic_summaries,
)

from .storage_model import Consumer, Topic
from .storage_view_checks import ACTIVE


def tally(consumers: Iterable[Consumer]) -> Tally:
    """Count deliveries one by one."""
    states = [record.state for each in consumers for record in each.records.values()]
    waiting, leased, dead = map(states.count, (State.WAITING, State.LEASED, State.DEAD))
    done = states.count(State.PROCESSED) + states.count(State.CANCELLED)
    return Tally(states.count(State.PENDING) + waiting, waiting, leased, dead, done)


def oldest_ms(topic: Topic, consumers: Iterable[Consumer]) -> int | None:
    times = [
        topic.messages[place].created_ms
        for each in consumers
        for place, record in each.records.items()
        if record.state in ACTIVE
    ]
    return min(times, default=None)


def numbers(topic: Topic, consumer: Consumer, now_ms: int) -> SubscriberNumbers:
    """Return what the metrics must tell of a subscriber."""
    counted = tally([consumer])
    since = [
        topic.messages[place].created_ms if record.state == State.PENDING else record.due_ms
        for place, record in consumer.records.items()
        if record.state in (State.PENDING, State.WAITING)
    ]
    lag_ms = max(0, now_ms - min((each for each in since if each is not None), default=now_ms))
    return SubscriberNumbers(
        topic.name,
        consumer.options.name,
        counted.pending,
        counted.waiting,
        counted.leased,
        counted.dead,
        lag_ms / 1000,
        topic.paused or consumer.paused,
    )


def check_overview(snapshot: Snapshot, topics: list[Topic]) -> None:
    """Compare what the metrics tell."""
    seen = overview(snapshot)
    assert {(each.topic, each.subscriber): each for each in seen.subscribers} == {
        (topic.name, consumer.options.name): numbers(topic, consumer, snapshot.now_ms)
        for topic in topics
        for consumer in topic.consumers.values()
    }
    assert seen.published == {topic.name: len(topic.messages) for topic in topics}


def check_topics(snapshot: Snapshot, topics: list[Topic]) -> None:
    """Compare the list of topics, in each order."""
    everybody = [consumer for topic in topics for consumer in topic.consumers.values()]
    for order in ORDERS:
        found = topic_summaries(snapshot, order=order, limit=1_000)
        assert found.found == len(topics)
        assert found.tally == tally(everybody)
        assert found.published == sum(len(topic.messages) for topic in topics)
        expected = sorted(topics, key=lambda topic: topic.name)
        if order != "name":
            counts = {each.name: tally(each.consumers.values()) for each in topics}
            expected.sort(key=lambda topic: -getattr(counts[topic.name], order))
        assert [each.topic.name for each in found.items] == [each.name for each in expected]
        for each, topic in zip(found.items, expected, strict=True):
            consumers = topic.consumers.values()
            assert each.tally == tally(consumers)
            assert each.oldest_ms == oldest_ms(topic, consumers)
            assert each.published == len(topic.messages)
            assert each.subscribers == len(consumers)
            assert each.paused == sum(consumer.paused for consumer in consumers)


def check_subscribers(snapshot: Snapshot, topic: Topic) -> None:
    """Compare a topic's list of subscribers, and each of them by itself."""
    found = subscriber_summaries(snapshot, topic.id, limit=1_000)
    by_name = sorted(topic.consumers.items(), key=lambda item: item[1].options.name)
    assert found.found == len(by_name)
    assert found.tally == tally(topic.consumers.values())
    for each, (number, consumer) in zip(found.items, by_name, strict=True):
        assert each.subscriber.name == consumer.options.name
        assert each.tally == tally([consumer])
        assert each.oldest_ms == oldest_ms(topic, [consumer])
        assert each.published == found.published == len(topic.messages)
        assert subscriber_summary(snapshot, number) == each
