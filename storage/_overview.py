"""All subscribers of all topics at a glance, by one statement.

It opens no block, but those of an older version, whose rows do not say when they were written.
"""

from __future__ import annotations

import msgspec

from ._cursors import COUNTS
from ._lists import published_ms
from ._snapshot import Row, Snapshot

# ``next_seq`` has no row (see Cursor), so it is pending if the lane goes on from there; the
# block that holds it says since when. What waits for a time is in the cursor's due time.
# -1: there is a block that does not say.
_SUBSCRIBERS = f"""
    SELECT subscriber.id, topic.name, subscriber.name, {COUNTS},
        min(CASE WHEN end_seq > coalesce(next_seq, 0) THEN coalesce((
            SELECT created_ms FROM block
            WHERE block.topic_id = lane.topic_id AND block.priority = lane.priority
            AND first_seq <= coalesce(next_seq, 0) ORDER BY first_seq DESC LIMIT 1), -1) END),
        min(waiting_due_ms), topic.paused OR subscriber.paused
    FROM subscriber
    JOIN topic ON topic.id = subscriber.topic_id
    LEFT JOIN lane ON lane.topic_id = topic.id
    LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
    WHERE subscriber.deleted_ms IS NULL AND topic.deleted_ms IS NULL
    GROUP BY subscriber.id"""

# The same of one subscriber, as places to look into.
_FIRST_PENDING = """
    SELECT topic_id, lane.priority, coalesce(next_seq, 0)
    FROM subscriber JOIN lane USING (topic_id)
    LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority
    WHERE subscriber.id = ? AND end_seq > coalesce(next_seq, 0)"""

_TOPICS = """
    SELECT topic.name, coalesce(sum(end_seq), 0)
    FROM topic LEFT JOIN lane ON lane.topic_id = topic.id
    WHERE deleted_ms IS NULL GROUP BY topic.id"""

_LATE_MS = """
    SELECT min(next_run_ms) FROM schedule WHERE paused = 0 AND deleted_ms IS NULL"""


class SubscriberNumbers(msgspec.Struct, frozen=True):
    """A subscriber's messages: how many, and how late the first of them is."""

    topic: str
    subscriber: str
    #: To be handed out, those that wait for a time included.
    pending: int
    #: Of these, how many are in the retry bucket: retries, snoozed, delayed ones.
    waiting: int
    #: Handed out, and not settled yet.
    leased: int
    #: The dead letters.
    dead: int
    #: For how long the one that has waited the longest could have been handed out; 0: none.
    lag_s: float
    #: Nothing is handed out: it is paused, or its topic.
    paused: bool


class Overview(msgspec.Struct, frozen=True):
    """What the database holds at one moment."""

    subscribers: list[SubscriberNumbers]
    #: How many messages were ever published, by topic.
    published: dict[str, int]
    #: For how long the schedule that is due the longest has been due; 0: none is.
    schedule_lag_s: float


def overview(snapshot: Snapshot) -> Overview:
    """Return all topics and subscribers with their numbers, in the order they were made."""
    wall_ms = snapshot.store.clock.wall_ms()
    row = snapshot.row(_LATE_MS)
    due_ms = wall_ms if row is None or row[0] is None else row[0]
    return Overview(
        [_numbers(snapshot, row) for row in snapshot.rows(_SUBSCRIBERS)],
        dict(snapshot.rows(_TOPICS)),
        max(0, wall_ms - due_ms) / 1000,
    )


def _numbers(snapshot: Snapshot, row: Row) -> SubscriberNumbers:
    number, topic, subscriber, pending, waiting, leased, dead, created_ms, due_ms, paused = row
    if created_ms == -1:
        places = snapshot.rows(_FIRST_PENDING, (number,))
        created_ms = min(published_ms(snapshot, *place) for place in places)
    times = [each for each in (created_ms, due_ms) if each is not None]
    lag_s = max(0, snapshot.now_ms - min(times, default=snapshot.now_ms)) / 1000
    return SubscriberNumbers(topic, subscriber, pending, waiting, leased, dead, lag_s, bool(paused))
