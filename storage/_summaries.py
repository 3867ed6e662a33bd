"""Many topics, or many subscribers, at a glance: counts in one statement, some of them shown.

What is counted is in the cursors, so no delivery is looked at. Only for what is shown the
oldest message that is not done is found, which may open a block for each lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from . import limits
from ._errors import SubscriberNotFound, ValidationError
from ._lists import published_ms
from ._snapshot import Row, Snapshot
from ._subscriber import Subscriber
from ._topology import SUBSCRIBER, TOPIC, Topic

T = TypeVar("T")

_TALLY = """
    coalesce(sum(end_seq - coalesce(next_seq + ahead - waiting, 0)), 0) AS pending,
    coalesce(sum(waiting), 0) AS waiting, coalesce(sum(leased), 0) AS leased,
    coalesce(sum(dead), 0) AS dead, coalesce(sum(end_seq - coalesce(start_seq, 0)), 0) AS taken
    FROM subscriber LEFT JOIN lane USING (topic_id)
    LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
    WHERE subscriber.deleted_ms IS NULL"""
_TOPICS = f"""
    SELECT {TOPIC}, coalesce(subscribers, 0), (SELECT coalesce(sum(end_seq), 0) FROM lane
    WHERE topic_id = topic.id), coalesce(pending, 0) AS pending, coalesce(waiting, 0),
    coalesce(leased, 0) AS leased, coalesce(dead, 0) AS dead, coalesce(taken, 0)
    FROM topic LEFT JOIN (SELECT topic_id, count(DISTINCT subscriber.id) AS subscribers, {_TALLY}
    GROUP BY topic_id) ON topic_id = topic.id
    WHERE deleted_ms IS NULL AND instr(lower(name), lower(?)) > 0"""
_SUBSCRIBERS = f"""
    SELECT {SUBSCRIBER}, {_TALLY}
    AND topic_id = ? AND instr(lower(name), lower(?)) > 0 GROUP BY subscriber.id"""
_SUBSCRIBER = f"SELECT {SUBSCRIBER}, {_TALLY} AND subscriber.id = ? GROUP BY subscriber.id"
_PUBLISHED = "SELECT coalesce(sum(end_seq), 0) FROM lane WHERE topic_id = ?"
# A row for each lane in which something is not done, and where that begins.
_OLDEST = """
    SELECT {owner}, topic_id, lane.priority, end_seq, min(min(coalesce(next_seq, 0), coalesce(
    (SELECT min(first_seq) FROM delivery AS d WHERE d.subscriber_id = subscriber.id
     AND d.priority = lane.priority AND due_ms IS NOT NULL), end_seq))) AS first_seq
    FROM subscriber JOIN lane USING (topic_id)
    LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
    WHERE {owner} IN ({marks}) AND deleted_ms IS NULL
    GROUP BY {owner}, lane.priority HAVING first_seq < end_seq"""

#: What may come first, and how; equals come by name.
ORDERS = {
    "name": "name",
    "pending": "pending DESC, name",
    "leased": "leased DESC, name",
    "dead": "dead DESC, name",
}


class Tally(msgspec.Struct, frozen=True):
    """Deliveries by what they are: of a subscriber, a topic, or all.

    ``pending``: to be handed out; of these, ``waiting`` are in the retry bucket, for a retry
    or because they are delayed. ``leased``: handed out. ``dead``: the dead letters. ``done``:
    acknowledged or cancelled, ever since the subscriber is there.
    """

    pending: int
    waiting: int
    leased: int
    dead: int
    done: int


class TopicSummary(msgspec.Struct, frozen=True):
    """A topic. ``published``: its messages, ever. ``oldest_ms``: of what is not done."""

    topic: Topic
    subscribers: int
    published: int
    tally: Tally
    oldest_ms: int | None


class SubscriberSummary(msgspec.Struct, frozen=True):
    """A subscriber with its options. ``oldest_ms``: of what is not done, dead letters aside."""

    subscriber: Subscriber
    tally: Tally
    oldest_ms: int | None


class Summary(msgspec.Struct, Generic[T], frozen=True):
    """Some of what was found: ``found`` of them, to whose topics ``published`` messages went."""

    items: list[T]
    found: int
    published: int
    tally: Tally


def topic_summaries(
    snapshot: Snapshot, search: str = "", order: str = "name", offset: int = 0, limit: int = 50
) -> Summary[TopicSummary]:
    """Return ``limit`` topics from ``offset`` on, of those whose name contains ``search``.

    Raises ValidationError if there is no such order.
    """
    sql = f"{_TOPICS} ORDER BY {_order(order, limit)}"
    rows = snapshot.rows(sql, (_text(search),))
    shown = rows[offset : offset + limit]
    oldest = _oldest_ms(snapshot, "subscriber.topic_id", [row[0] for row in shown])
    items = [
        TopicSummary(Topic(*row[:5]), row[5], row[6], _tally(row), oldest.get(row[0]))
        for row in shown
    ]
    return Summary(items, len(rows), sum(row[6] for row in rows), _sum(rows))


def subscriber_summaries(
    snapshot: Snapshot,
    topic_id: int,
    search: str = "",
    order: str = "name",
    offset: int = 0,
    limit: int = 50,
) -> Summary[SubscriberSummary]:
    """Return some of a topic's subscribers; see ``topic_summaries``."""
    sql = f"{_SUBSCRIBERS} ORDER BY {_order(order, limit)}"
    rows = snapshot.rows(sql, (topic_id, _text(search)))
    shown = rows[offset : offset + limit]
    items = _subscribers(snapshot, shown)
    return Summary(items, len(rows), _published(snapshot, topic_id), _sum(rows))


def subscriber_summary(snapshot: Snapshot, subscriber_id: int) -> Summary[SubscriberSummary]:
    """Return one subscriber, as a list of one. Raises SubscriberNotFound."""
    items = _subscribers(snapshot, snapshot.rows(_SUBSCRIBER, (subscriber_id,)))
    if not items:
        raise SubscriberNotFound("the subscriber does not exist any more")
    return Summary(items, 1, _published(snapshot, items[0].subscriber.topic_id), items[0].tally)


def _subscribers(snapshot: Snapshot, rows: Sequence[Row]) -> list[SubscriberSummary]:
    found = [Subscriber(*row[:-5]) for row in rows]
    oldest = _oldest_ms(snapshot, "subscriber.id", [each.id for each in found])
    return [
        SubscriberSummary(each, _tally(row), oldest.get(each.id))
        for each, row in zip(found, rows, strict=True)
    ]


def _published(snapshot: Snapshot, topic_id: int) -> int:
    found: int = snapshot.rows(_PUBLISHED, (topic_id,))[0][0]
    return found


def _order(order: str, limit: int) -> str:
    limits.check_range("limit", limit, 1, limits.BATCH_MAX)
    if order not in ORDERS:
        raise ValidationError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    return ORDERS[order]


def _text(search: str) -> str:
    """Return what SQLite can look for; what is not valid Unicode is in no name."""
    return search.encode(errors="replace").decode()


def _tally(row: Sequence[Any]) -> Tally:
    pending, waiting, leased, dead, taken = row[-5:]
    return Tally(pending, waiting, leased, dead, taken - pending - leased - dead)


def _sum(rows: Sequence[Row]) -> Tally:
    return _tally([sum(row[column] for row in rows) for column in range(-5, 0)])


def _oldest_ms(snapshot: Snapshot, owner: str, numbers: Sequence[int]) -> dict[int, int]:
    """Return for each topic or subscriber when its oldest unfinished message was published."""
    marks = ", ".join("?" * len(numbers))
    oldest: dict[int, int] = {}
    for number, topic_id, priority, _, seq in snapshot.rows(
        _OLDEST.format(owner=owner, marks=marks), tuple(numbers)
    ):
        created_ms = published_ms(snapshot, topic_id, priority, seq)
        oldest[number] = min(created_ms, oldest.get(number, created_ms))
    return oldest
