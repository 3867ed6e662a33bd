"""Keys, failures, statuses and lists, compared with the naive model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from blockqueue.storage import (
    After,
    DeliveryStatus,
    DeliveryView,
    Failure,
    MessageStatus,
    Page,
    Snapshot,
    State,
    Subscriber,
    active_page,
    dead_page,
    failure_page,
    message_status,
    subscriber,
    subscriber_page,
    topic_page,
    topics,
)

from .storage_model import Consumer, Failed, Key, Place, Record, Topic

MINUTE_MS = 60_000
ACTIVE = frozenset({State.PENDING, State.WAITING, State.LEASED})

T = TypeVar("T")


def check_keys(snapshot: Snapshot, topic: Topic) -> None:
    """Compare a topic's idempotency keys with the model's."""
    rows = snapshot.rows(
        "SELECT key, fingerprint, priority, seq, created_ms, visible_ms, tag, delete_ms"
        " FROM idempotency WHERE topic_id = ?",
        (topic.id,),
    )
    stored = {row[0]: Key(row[1], (row[2], row[3]), *row[4:]) for row in rows}
    assert stored == topic.keys


def check_failures(snapshot: Snapshot, topic: Topic, subscriber_id: int) -> None:
    """Compare the history of every delivery with the model's, straight from the rows."""
    found: dict[Place, list[Failed]] = {}
    for priority, first_seq, count, *failed in snapshot.rows(
        "SELECT priority, first_seq, count, generation, failure_count, error, failed_ms"
        " FROM failure WHERE subscriber_id = ? ORDER BY generation",
        (subscriber_id,),
    ):
        for seq in range(first_seq, first_seq + count):
            found.setdefault((priority, seq), []).append(Failed(*failed))
    for place, record in topic.consumers[subscriber_id].records.items():
        stored = found.pop(place, [])
        if topic.messages[place].block_gone:
            assert not stored, "the history of a message outlives it"
        else:
            assert stored == record.failures
    assert not found, "a history of what was never delivered"


def all_pages(fetch: Callable[[After | None], Page[T]], size: int) -> list[T]:
    """Read a list page by page. All but the last are full, and no page leads back."""
    found: list[T] = []
    after: After | None = None
    for _ in range(10_000):
        page = fetch(after)
        found += page.items
        if page.after is None:
            assert len(page.items) <= size
            return found
        assert len(page.items) == size
        after = page.after
    raise AssertionError("a list without end")


def listed(topic: Topic, consumer: Consumer, *, dead: bool) -> list[Place]:
    """Return what a list shows, in its order: the newest first."""
    states = {State.DEAD} if dead else ACTIVE
    places = [place for place, record in consumer.records.items() if record.state in states]
    return sorted(places, key=lambda place: (topic.messages[place].created_ms, place), reverse=True)


def expected_view(topic: Topic, consumer: Consumer, place: Place) -> DeliveryView:
    message, record = topic.messages[place], consumer.records[place]
    leased = record.state == State.LEASED
    return DeliveryView(
        topic.message_id(place),
        message.body,
        message.created_ms,
        record.state,
        record.delivery_count,
        record.failure_count,
        place[0],
        record.tokens[-1] if leased else None,
        record.due_ms if leased else None,
        visible_ms(topic, place, record),
        record.reason,
    )


def visible_ms(topic: Topic, place: Place, record: Record) -> int:
    """Return when a delivery can be claimed, or since when it could have been."""
    said = record.due_ms if record.state == State.WAITING else None
    said = record.since_ms if record.state == State.LEASED else said
    return topic.messages[place].visible_ms if said is None else said


def page_fetcher(
    snapshot: Snapshot, found: Subscriber, size: int, *, dead: bool
) -> Callable[[After | None], Page[DeliveryView]]:
    read = dead_page if dead else active_page
    return lambda after: read(snapshot, found, size, after)


def check_lists(snapshot: Snapshot, topic: Topic, subscriber_id: int, size: int) -> None:
    """Compare both lists of a subscriber, read in pages, with the model's."""
    consumer = topic.consumers[subscriber_id]
    found = subscriber(snapshot, subscriber_id)
    for dead in (False, True):
        views = all_pages(page_fetcher(snapshot, found, size, dead=dead), size)
        places = listed(topic, consumer, dead=dead)
        assert views == [expected_view(topic, consumer, place) for place in places]


def check_topology_lists(snapshot: Snapshot, known: list[Topic], size: int) -> None:
    """Compare the lists of topics and of their subscribers with the model's."""
    found = all_pages(lambda after: topic_page(snapshot, size, after), size)
    assert found == topics(snapshot)
    assert [each.name for each in found] == sorted(topic.name for topic in known)
    for topic in known:
        read = partial(subscriber_page, snapshot, topic.id, size)
        assert all_pages(read, size) == topic.statuses()


def expected_deliveries(topic: Topic, place: Place) -> list[DeliveryStatus]:
    """Return what a message is to each subscriber that it was published to, by name."""
    statuses = []
    for consumer in sorted(topic.consumers.values(), key=lambda each: each.options.name):
        record = consumer.records.get(place)
        if record is not None:
            statuses.append(
                DeliveryStatus(
                    consumer.options.id,
                    consumer.options.name,
                    record.state,
                    record.delivery_count,
                    record.failure_count,
                    visible_ms(topic, place, record),
                    None if record.state in ACTIVE else record.since_ms,
                    record.reason,
                )
            )
    return statuses


def to_the_minute(statuses: list[DeliveryStatus]) -> list[DeliveryStatus]:
    """Joined history keeps one time for all, right to the minute."""
    return [
        replace(
            each, ended_ms=each.ended_ms if each.ended_ms is None else each.ended_ms // MINUTE_MS
        )
        for each in statuses
    ]


def check_message(snapshot: Snapshot, topic: Topic, place: Place, size: int) -> None:
    """Compare the status of a message and the failures of its deliveries with the model's."""
    message = topic.messages[place]
    status = message_status(snapshot, topic.id, topic.message_id(place))
    deliveries = to_the_minute(expected_deliveries(topic, place))
    assert replace(status, deliveries=to_the_minute(status.deliveries)) == MessageStatus(
        topic.message_id(place),
        topic.id,
        message.body,
        place[0],
        message.visible_ms,
        message.created_ms,
        deliveries,
    )
    for consumer in topic.consumers.values():
        if place in consumer.records:
            found = check_failure_pages(snapshot, topic, consumer, place, size)
            assert len({each.id for each in found}) == len(found)


def check_failure_pages(
    snapshot: Snapshot, topic: Topic, consumer: Consumer, place: Place, size: int
) -> list[Failure]:
    """Compare the failures of one delivery, read in pages, with the model's."""
    named = topic.message_id(place)
    found = all_pages(
        lambda after: failure_page(snapshot, consumer.options, named, size, after), size
    )
    assert [
        Failed(each.generation, each.failure_count, each.error, each.failed_ms) for each in found
    ] == consumer.records[place].failures[::-1]
    assert {(each.message_id, each.subscriber_id) for each in found} <= {
        (named, consumer.options.id)
    }
    return found
