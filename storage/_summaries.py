"""Many topics, or many subscribers, at a glance: counts in one statement, some of them shown.

What is counted is in the cursors, so no delivery is looked at. Only for what is shown the
oldest message that is not done is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from . import limits
from ._cursors import COUNTS
from ._errors import SubscriberNotFound, ValidationError
from ._lists import published_ms
from ._snapshot import Row, Snapshot
from ._subscriber import Subscriber
from ._topology import SUBSCRIBER, TOPIC, Topic

T = TypeVar("T")

_TALLY = f"""
    {COUNTS}, coalesce(sum(end_seq - coalesce(start_seq, 0)), 0) AS taken
    FROM subscriber LEFT JOIN lane USING (topic_id)
    LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
    WHERE subscriber.deleted_ms IS NULL"""
_COUNTS = "published, pending, waiting, leased, dead, taken"
# A page's rows bring the sums over all that was found, so that they are of one look.
_TOTALS = """
    count(*) OVER (), sum(published) OVER (), sum(pending) OVER (), sum(waiting) OVER (),
    sum(leased) OVER (), sum(dead) OVER (), sum(taken) OVER ()"""
_PAGE = " ORDER BY {order} LIMIT ? OFFSET ?"
_TOPICS = f"""
    WITH counted AS (SELECT topic_id, count(DISTINCT subscriber.id) AS subscribers,
        count(DISTINCT iif(subscriber.paused, subscriber.id, NULL)) AS paused_ones, {_TALLY}
        GROUP BY topic_id),
    found AS (SELECT {TOPIC}, coalesce(subscribers, 0) AS subscribers,
        coalesce(paused_ones, 0) AS paused_ones,
        (SELECT coalesce(sum(end_seq), 0) FROM lane WHERE topic_id = topic.id) AS published,
        coalesce(pending, 0) AS pending, coalesce(waiting, 0) AS waiting,
        coalesce(leased, 0) AS leased, coalesce(dead, 0) AS dead, coalesce(taken, 0) AS taken
        FROM topic LEFT JOIN counted ON topic_id = topic.id
        WHERE deleted_ms IS NULL AND instr(lower(name), lower(?)) > 0)
    SELECT {_TOTALS}, {TOPIC}, subscribers, paused_ones, {_COUNTS} FROM found"""
_OF_TOPIC = f"SELECT {SUBSCRIBER}, coalesce(sum(end_seq), 0) AS published, {_TALLY}"
_SUBSCRIBERS = f"""
    WITH found AS ({_OF_TOPIC}
        AND topic_id = ? AND instr(lower(name), lower(?)) > 0 GROUP BY subscriber.id)
    SELECT {_TOTALS}, {SUBSCRIBER}, {_COUNTS} FROM found"""
_SUBSCRIBER = f"{_OF_TOPIC} AND subscriber.id = ? GROUP BY subscriber.id"
_PUBLISHED = "SELECT coalesce(sum(end_seq), 0) FROM lane WHERE topic_id = ?"
# Where in each lane the first is that is not done, and when its block was written.
_OLDEST = """
    WITH place AS (
        SELECT {owner} AS owner, topic_id, lane.priority, end_seq, min(min(coalesce(next_seq, 0),
        iif(waiting + leased > 0, (SELECT min(first_seq) FROM delivery
            WHERE delivery.subscriber_id = subscriber.id AND delivery.priority = lane.priority
            AND due_ms IS NOT NULL), end_seq))) AS seq
        FROM subscriber JOIN lane USING (topic_id)
        LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
        WHERE {owner} IN ({marks}) AND deleted_ms IS NULL
        GROUP BY {owner}, lane.priority HAVING seq < end_seq)
    SELECT owner, topic_id, priority, seq, (SELECT created_ms FROM block
        WHERE block.topic_id = place.topic_id AND block.priority = place.priority
        AND first_seq <= seq ORDER BY first_seq DESC LIMIT 1)
    FROM place"""

#: A page may begin so far from the first.
OFFSET_MAX = 2**31

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
    """A topic, and how many subscribers it has; ``paused`` of them are paused themselves.

    ``published``: its messages, ever. ``oldest_ms``: of what is not done, dead letters aside.
    """

    topic: Topic
    subscribers: int
    paused: int
    published: int
    tally: Tally
    oldest_ms: int | None


class SubscriberSummary(msgspec.Struct, frozen=True):
    """A subscriber with its options, and how many messages its topic has ever got.

    ``oldest_ms``: of what is not done, dead letters aside.
    """

    subscriber: Subscriber
    published: int
    tally: Tally
    oldest_ms: int | None


class Summary(msgspec.Struct, Generic[T], frozen=True):
    """Some of what was found, from ``offset`` on: ``found`` of them, with the sums of all."""

    items: list[T]
    offset: int
    found: int
    published: int
    tally: Tally


def topic_summaries(
    snapshot: Snapshot, search: str = "", order: str = "name", offset: int = 0, limit: int = 50
) -> Summary[TopicSummary]:
    """Return ``limit`` topics from ``offset`` on, of those whose name contains ``search``.

    Case is ignored for a to z. Where nothing is at ``offset`` any more, the first ones are
    returned. Raises ValidationError if there is no such order.
    """
    offset, rows = _page(snapshot, _TOPICS, (_text(search),), order, offset, limit)
    oldest = _oldest_ms(snapshot, "subscriber.topic_id", [row[7] for row in rows])
    items: list[TopicSummary] = []
    for row in rows:
        topic, (subscribers, paused, published), counts = Topic(*row[7:12]), row[12:15], row[15:]
        oldest_ms = oldest.get(topic.id)
        items.append(TopicSummary(topic, subscribers, paused, published, _tally(counts), oldest_ms))
    found, published, *tally = rows[0][:7] if rows else [0] * 7
    return Summary(items, offset, found, published, _tally(tally))


def subscriber_summaries(
    snapshot: Snapshot,
    topic_id: int,
    search: str = "",
    order: str = "name",
    offset: int = 0,
    limit: int = 50,
) -> Summary[SubscriberSummary]:
    """Return some of a topic's subscribers; see ``topic_summaries``.

    ``published`` of the summary is the topic's, whoever was found.
    """
    asked = (topic_id, _text(search))
    offset, rows = _page(snapshot, _SUBSCRIBERS, asked, order, offset, limit)
    found, _, *tally = rows[0][:7] if rows else [0] * 7
    items = _subscribers(snapshot, [row[7:] for row in rows])
    published = snapshot.rows(_PUBLISHED, (topic_id,))[0][0]
    return Summary(items, offset, found, published, _tally(tally))


def subscriber_summary(snapshot: Snapshot, subscriber_id: int) -> SubscriberSummary:
    """Return one subscriber. Raises SubscriberNotFound."""
    found = _subscribers(snapshot, snapshot.rows(_SUBSCRIBER, (subscriber_id,)))
    if not found:
        raise SubscriberNotFound("the subscriber does not exist any more")
    return found[0]


def _subscribers(snapshot: Snapshot, rows: Sequence[Row]) -> list[SubscriberSummary]:
    found = [Subscriber(*row[:-6]) for row in rows]
    oldest = _oldest_ms(snapshot, "subscriber.id", [each.id for each in found])
    return [
        SubscriberSummary(each, row[-6], _tally(row[-5:]), oldest.get(each.id))
        for each, row in zip(found, rows, strict=True)
    ]


def _page(
    snapshot: Snapshot, sql: str, asked: tuple[Any, ...], order: str, offset: int, limit: int
) -> tuple[int, list[Row]]:
    """Return a page's rows, and where it begins."""
    limits.check_range("limit", limit, 1, limits.BATCH_MAX)
    limits.check_range("offset", offset, 0, OFFSET_MAX)
    if order not in ORDERS:
        raise ValidationError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
    sql += _PAGE.format(order=ORDERS[order])
    rows = snapshot.rows(sql, (*asked, limit, offset))
    if rows or not offset:
        return offset, rows
    return 0, snapshot.rows(sql, (*asked, limit, 0))


def _text(search: str) -> str:
    """Return what SQLite can look for; what is not valid Unicode is in no name."""
    return search.encode(errors="replace").decode()


def _tally(row: Sequence[int]) -> Tally:
    pending, waiting, leased, dead, taken = row
    return Tally(pending, waiting, leased, dead, taken - pending - leased - dead)


def _oldest_ms(snapshot: Snapshot, owner: str, numbers: Sequence[int]) -> dict[int, int]:
    """Return for each topic or subscriber when its oldest unfinished message was published."""
    marks = ", ".join("?" * len(numbers))
    oldest: dict[int, int] = {}
    for number, topic_id, priority, seq, created_ms in snapshot.rows(
        _OLDEST.format(owner=owner, marks=marks), tuple(numbers)
    ):
        if created_ms is None:  # an older version's block
            created_ms = published_ms(snapshot, topic_id, priority, seq)
        oldest[number] = min(created_ms, oldest.get(number, created_ms))
    return oldest
