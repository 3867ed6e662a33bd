"""What operators look at: counters, the retry bucket, the dead letters."""

from __future__ import annotations

import msgspec

from ._cursors import pending
from ._errors import CorruptBlock
from ._frames import Body
from ._ids import message_id
from ._pages import After, Page, page_of
from ._runs import COLUMNS, Run
from ._settlements import Handle
from ._snapshot import Snapshot
from ._states import State
from ._subscriber import Subscriber
from ._topology import Topic, subscribers, topics

_PAGE = 500
_NO_SEQ = 2**63 - 1


class SubscriberStatus(msgspec.Struct, frozen=True):
    """A subscriber with its counters.

    ``waiting``: to be handed out, retries and delayed ones included. ``leased``: handed
    out, not settled (or run out and not yet swept). ``dead``: the dead letters.
    """

    name: str
    waiting: int
    leased: int
    dead: int
    paused: bool
    id: int
    topic_id: int


def subscriber_statuses(snapshot: Snapshot, topic_id: int) -> list[SubscriberStatus]:
    """Return a topic's subscribers with their counters, by name."""
    return [_status(snapshot, found) for found in subscribers(snapshot, topic_id)]


def subscriber_page(
    snapshot: Snapshot, topic_id: int, limit: int, after: After | None = None
) -> Page[SubscriberStatus]:
    """Return some of a topic's subscribers with their counters, by name."""
    found = subscribers(snapshot, topic_id, limit + 1, after)
    page = page_of(found, limit, lambda subscriber: (subscriber.name, subscriber.id))
    return Page([_status(snapshot, each) for each in page.items], page.after)


def topic_page(snapshot: Snapshot, limit: int, after: After | None = None) -> Page[Topic]:
    """Return some of the topics, by name."""
    return page_of(topics(snapshot, limit + 1, after), limit, lambda topic: (topic.name, topic.id))


def _status(snapshot: Snapshot, found: Subscriber) -> SubscriberStatus:
    waiting, leased, dead = pending(snapshot, found.id)
    return SubscriberStatus(
        found.name, waiting, leased, dead, bool(found.paused), found.id, found.topic_id
    )


class BucketEntry(msgspec.Struct, frozen=True):
    """A message in the retry bucket (state WAITING) or among the dead letters (DEAD).

    ``body`` is None if its block is damaged; ``reason`` says so then.
    """

    id: str
    handle: Handle
    state: State
    body: Body | None
    created_ms: int | None
    due_ms: int | None
    since_ms: int | None
    delivery_count: int
    failure_count: int
    reason: str | None


def bucket_lanes(snapshot: Snapshot, subscriber_id: int) -> list[int]:
    """Return the priorities in which a subscriber has waiting or dead messages."""
    rows = snapshot.rows(
        "SELECT priority FROM cursor WHERE subscriber_id = ? AND waiting + dead > 0"
        " ORDER BY priority DESC",
        (subscriber_id,),
    )
    return [priority for (priority,) in rows]


def bucket_page(
    snapshot: Snapshot,
    subscriber: Subscriber,
    priority: int,
    state: State,
    below_seq: int = _NO_SEQ,
) -> list[BucketEntry]:
    """Return some of a lane's waiting or dead messages below ``below_seq``, newest first.

    Empty: there are no more. The next page begins below the last entry's ``handle.seq``.
    """
    entries: list[BucketEntry] = []
    for row in snapshot.rows(
        f"SELECT {COLUMNS} FROM delivery WHERE subscriber_id = ? AND priority = ?"
        f" AND state = {int(state)} AND first_seq < ? ORDER BY first_seq DESC LIMIT ?",
        (subscriber.id, priority, below_seq, _PAGE),
    ):
        run = Run(*row)
        top = min(run.end_seq, below_seq)
        for seq in range(top - 1, run.first_seq - 1, -1):
            entries.append(_entry(snapshot, subscriber.topic_id, priority, run, seq))
            if len(entries) == _PAGE:
                return entries
    return entries


def _entry(snapshot: Snapshot, topic_id: int, priority: int, run: Run, seq: int) -> BucketEntry:
    try:
        block = snapshot.block(topic_id, priority, seq)
        segment = block.segment(seq)
        tag, created_ms, body = segment.tag, segment.created_ms, block.body(seq)
    except CorruptBlock:
        tag, created_ms, body = 0, None, None
    return BucketEntry(
        message_id(topic_id, priority, seq, tag),
        Handle(priority, seq, tag, run.generation),  # or it could be another failure's by then
        State(run.state),
        body,
        created_ms,
        run.due_ms,
        run.since_ms,
        run.delivery_count,
        run.failure_count,
        run.reason,
    )
