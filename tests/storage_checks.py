"""The storage's invariants, checked straight from its tables, and against the naive model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from blockqueue.storage import (
    BucketEntry,
    Delivery,
    Snapshot,
    State,
    Subscriber,
    bucket_lanes,
    bucket_page,
    look,
    message_id,
    subscriber,
    subscriber_statuses,
)
from blockqueue.storage._schema import MODELS

from .storage_model import FINAL, Consumer, Message, Place, Record, Topic

_RUNS = """SELECT priority, first_seq, count, state, due_ms, since_ms, delivery_count,
           failure_count, generation, reason
           FROM delivery WHERE subscriber_id = ? ORDER BY priority, first_seq"""
_CURSORS = """SELECT priority, start_seq, next_seq, waiting, leased, dead, ahead,
              waiting_due_ms, lease_due_ms FROM cursor WHERE subscriber_id = ?"""
_MINUTE_MS = 60_000


@dataclass(frozen=True)
class RunRow:
    """A row of ``delivery``."""

    priority: int
    first_seq: int
    count: int
    state: int
    due_ms: int | None
    since_ms: int | None
    delivery_count: int
    failure_count: int
    generation: int
    reason: str | None

    @property
    def end_seq(self) -> int:
        return self.first_seq + self.count


class CursorRow(NamedTuple):
    """A row of ``cursor``."""

    priority: int
    start_seq: int
    next_seq: int
    waiting: int
    leased: int
    dead: int
    ahead: int
    waiting_due_ms: int | None
    lease_due_ms: int | None


def read_runs(snapshot: Snapshot, subscriber_id: int) -> list[RunRow]:
    """Read a subscriber's rows of ``delivery``."""
    return [RunRow(*row) for row in snapshot.rows(_RUNS, (subscriber_id,))]


def check_lanes(snapshot: Snapshot, subscriber_id: int) -> None:
    """Check one subscriber's rows against each other, without any model."""
    runs = read_runs(snapshot, subscriber_id)
    cursors = [CursorRow(*row) for row in snapshot.rows(_CURSORS, (subscriber_id,))]
    assert {run.priority for run in runs} <= {cursor.priority for cursor in cursors}
    for cursor in cursors:
        lane = [run for run in runs if run.priority == cursor.priority]
        for run in lane:
            assert run.count > 0, "an empty run"
            assert not run.first_seq <= cursor.next_seq < run.end_seq, "a run covers the cursor"
            assert run.first_seq >= cursor.start_seq
        for left, right in pairwise(lane):
            assert left.end_seq <= right.first_seq, "runs overlap"
        _check_counts(cursor, lane)


def _check_counts(cursor: CursorRow, lane: list[RunRow]) -> None:
    counts: Counter[int] = Counter()
    for run in lane:
        counts[run.state] += run.count
    said = (cursor.waiting, cursor.leased, cursor.dead)
    assert said == (counts[State.WAITING], counts[State.LEASED], counts[State.DEAD])
    assert cursor.ahead == sum(run.count for run in lane if run.first_seq >= cursor.next_seq)
    due_ms = {
        state: min((run.due_ms for run in lane if run.state == state and run.due_ms), default=None)
        for state in (State.WAITING, State.LEASED)
    }
    assert (cursor.waiting_due_ms, cursor.lease_due_ms) == tuple(due_ms.values())


def stored_records(snapshot: Snapshot, topic_id: int, subscriber_id: int) -> dict[Place, Record]:
    """Expand rows into one record a message, by the design's rule for what has no row.

    Between ``start_seq`` and the cursor no row means done; at or above it, pending.
    """
    found: dict[Place, Record] = {}
    lanes = snapshot.rows(
        "SELECT lane.priority, coalesce(start_seq, 0), coalesce(next_seq, 0), end_seq FROM lane"
        " LEFT JOIN cursor ON subscriber_id = ? AND cursor.priority = lane.priority"
        " WHERE topic_id = ?",
        (subscriber_id, topic_id),
    )
    for priority, start_seq, next_seq, end_seq in lanes:
        for seq in range(start_seq, end_seq):
            state = State.PROCESSED if seq < next_seq else State.PENDING
            found[priority, seq] = Record(state)
    for run in read_runs(snapshot, subscriber_id):
        for seq in range(run.first_seq, run.end_seq):
            assert (run.priority, seq) in found, "a row for what was never published"
            found[run.priority, seq] = Record(
                State(run.state),
                run.due_ms,
                run.since_ms,
                run.delivery_count,
                run.failure_count,
                run.generation,
                run.reason,
            )
    return found


def _comparable(record: Record) -> tuple[object, ...]:
    ended_minute = None if record.since_ms is None else record.since_ms // _MINUTE_MS
    return (
        record.state,
        record.due_ms,
        # Joined history keeps one time for all, right to the minute.
        ended_minute if record.state in FINAL else record.since_ms,
        record.delivery_count,
        record.failure_count,
        record.generation,
        record.reason,
    )


def check_records(snapshot: Snapshot, topic_id: int, topic: Topic, subscriber_id: int) -> None:
    """Compare every single delivery of a subscriber with the model's."""
    stored = stored_records(snapshot, topic_id, subscriber_id)
    expected = topic.consumers[subscriber_id].records
    assert stored.keys() == expected.keys()
    for place, record in expected.items():
        if topic.messages[place].block_gone:
            # Its history went with its block: no row, and below the cursor.
            assert _comparable(stored[place]) == _comparable(Record(State.PROCESSED)), place
        else:
            assert _comparable(stored[place]) == _comparable(record), place


def check_conservation(snapshot: Snapshot, topic_id: int, subscriber_id: int) -> None:
    """What was published since the start is somewhere, once."""
    states = Counter(
        record.state for record in stored_records(snapshot, topic_id, subscriber_id).values()
    )
    published, pending, below = snapshot.rows(
        "SELECT coalesce(sum(end_seq - coalesce(start_seq, 0)), 0),"
        " coalesce(sum(end_seq - coalesce(next_seq, 0) - coalesce(ahead, 0)), 0),"
        " coalesce(sum(next_seq - start_seq + ahead), 0) FROM lane"
        " LEFT JOIN cursor ON subscriber_id = ? AND cursor.priority = lane.priority"
        " WHERE topic_id = ?",
        (subscriber_id, topic_id),
    )[0]
    assert published == sum(states.values())
    assert pending == states[State.PENDING]
    assert below == published - pending


def check_views(snapshot: Snapshot, topic_id: int, topic: Topic) -> None:
    """Compare what operators and waiting consumers are told."""
    assert subscriber_statuses(snapshot, topic_id) == topic.statuses()
    for subscriber_id, consumer in topic.consumers.items():
        assert look(snapshot, subscriber_id) == topic.look(consumer, snapshot.now_ms)


def _pages(
    snapshot: Snapshot, found: Subscriber, priority: int, state: State
) -> Iterator[BucketEntry]:
    below_seq = 2**63 - 1
    while page := bucket_page(snapshot, found, priority, state, below_seq):
        yield from page
        below_seq = page[-1].handle.seq


def check_bucket(snapshot: Snapshot, topic_id: int, topic: Topic, subscriber_id: int) -> None:
    """Compare the retry bucket and the dead letters, message by message."""
    states = (State.WAITING, State.DEAD)
    found = subscriber(snapshot, subscriber_id)
    listed = {
        entry.id: (entry.state, entry.body, entry.created_ms, entry.due_ms, entry.reason)
        for priority in bucket_lanes(snapshot, subscriber_id)
        for state in states
        for entry in _pages(snapshot, found, priority, state)
    }
    expected = {}
    for (priority, seq), record in topic.consumers[subscriber_id].records.items():
        message = topic.messages[priority, seq]
        if record.state in states:
            expected[message_id(topic_id, priority, seq, message.tag)] = (
                record.state,
                message.body,
                message.created_ms,
                record.due_ms,
                record.reason,
            )
    assert listed == expected


def check_lease_hint(snapshot: Snapshot, consumers: list[Consumer]) -> None:
    """The bound that other processes look at is never later than a lease's end."""
    due_ms = min((due for each in consumers for due in each.due(State.LEASED)), default=None)
    if due_ms is not None:
        hint = snapshot.store.hints.lease_due_ms
        assert hint is not None
        assert hint <= due_ms


def all_rows(snapshot: Snapshot) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, less cursors that say no more than their absence."""
    nothing = (0, 0, 0, 0, 0, 0, None, None)
    found = {}
    for table in (model._meta.table_name for model in MODELS):
        rows = sorted(snapshot.rows(f"SELECT * FROM {table}"), key=repr)
        found[table] = [row for row in rows if table != "cursor" or row[2:] != nothing]
    return found


def check_nothing_left(snapshot: Snapshot, topic_ids: list[int], subscriber_ids: list[int]) -> None:
    """After a purge only living topics and subscribers have rows."""
    for table, column, alive in (
        ("delivery", "subscriber_id", subscriber_ids),
        ("cursor", "subscriber_id", subscriber_ids),
        ("failure", "subscriber_id", subscriber_ids),
        ("subscriber", "id", subscriber_ids),
        ("block", "topic_id", topic_ids),
        ("lane", "topic_id", topic_ids),
        ("idempotency", "topic_id", topic_ids),
        ("topic", "id", topic_ids),
    ):
        found = {row[0] for row in snapshot.rows(f"SELECT DISTINCT {column} FROM {table}")}
        assert found <= set(alive), table


def check_delivery(
    delivery: Delivery, place: Place, message: Message, record: Record, now_ms: int
) -> None:
    """Compare what was handed out with what the model says."""
    assert (delivery.priority, delivery.seq) == place
    assert (delivery.body, delivery.created_ms) == (message.body, message.created_ms)
    assert delivery.tag == message.tag
    assert delivery.delivery_count == record.delivery_count
    assert delivery.failure_count == record.failure_count
    assert delivery.generation == record.generation
    assert delivery.lease_expires_ms == record.due_ms
    since_ms = message.created_ms if record.since_ms is None else record.since_ms
    assert delivery.visible_ms == since_ms
