"""The history of failures: one row for all messages of a run that failed together."""

from __future__ import annotations

import uuid

import msgspec

from . import limits
from ._retries import failed
from ._runs import Run
from ._snapshot import Snapshot, Tx
from ._states import Event
from ._subscriber import Subscriber

# What was leased by one claim fails together, and no claim takes more than this.
_ROW_MESSAGES_MAX = limits.BATCH_MAX

_LANE = "subscriber_id = ? AND priority = ?"
_ROW = f"{_LANE} AND first_seq = ? AND generation = ?"
_INSERT = """INSERT INTO failure (subscriber_id, priority, first_seq, generation, count,
             failed_ms, failure_count, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_COPY = f"""INSERT INTO failure
            SELECT subscriber_id, priority, ?, generation, ?, failed_ms, failure_count, error
            FROM failure WHERE {_ROW}"""
# Rows of several messages have an index of their own, so that those which begin to the left
# of a message are found without a walk over its neighbours' histories.
_ABOUT = f"""SELECT first_seq, generation, count FROM failure WHERE {_LANE} AND first_seq = ?
             UNION ALL
             SELECT first_seq, generation, count FROM failure WHERE {_LANE} AND count > 1
             AND first_seq > ? AND first_seq < ? AND first_seq + count > ?"""
_TOLD = f"SELECT failure_count, error, failed_ms FROM failure WHERE {_ROW}"
_INSIDE = f"""SELECT first_seq, generation, count FROM failure
              WHERE {_LANE} AND first_seq >= ? AND first_seq < ? LIMIT ?"""


class Failure(msgspec.Struct, frozen=True):
    """One nack or expired lease of one delivery. ``failure_count`` is what it reached then."""

    id: str
    message_id: str
    subscriber_id: int
    failure_count: int
    error: str
    failed_ms: int
    #: The claim that failed, counted from 1.
    generation: int


def fail_in(
    tx: Tx,
    run: Run,
    event: Event,
    subscriber: Subscriber,
    priority: int,
    error: str,
    delay_ms: int | None = None,
) -> Run:
    """Return a leased ``run`` after one more failure, which is noted in its history.

    See ``failed``. The last ``FAILURES_KEPT`` failures of a delivery are kept.
    """
    moved = failed(run, event, subscriber, tx.now_ms, error, delay_ms)
    lane = (subscriber.id, priority)
    said = (run.count, tx.now_ms, moved.failure_count, error)
    tx.change(_INSERT, (*lane, run.first_seq, run.generation, *said))
    # Neighbours in a run have gone through the same, so all of it is one history.
    if run.generation > limits.FAILURES_KEPT:
        for row in _about(tx, lane, run.first_seq)[limits.FAILURES_KEPT :]:
            _cut(tx, lane, row, run.first_seq, run.end_seq)
    return moved


def failures(
    snapshot: Snapshot, subscriber_id: int, priority: int, seq: int, message_id: str
) -> list[Failure]:
    """Return the failures of one delivery that are kept, the latest first."""
    lane = (subscriber_id, priority)
    rows = [
        (generation, *snapshot.rows(_TOLD, (*lane, first_seq, generation))[0])
        for first_seq, generation, _ in _about(snapshot, lane, seq)
    ]
    return [
        Failure(
            _id(message_id, subscriber_id, generation),
            message_id,
            subscriber_id,
            failure_count,
            error,
            failed_ms,
            generation,
        )
        for generation, failure_count, error, failed_ms in rows
    ]


def _id(message_id: str, subscriber_id: int, generation: int) -> str:
    """Return an id that is the same whenever the failure is listed."""
    return str(uuid.uuid5(uuid.UUID(message_id), f"{subscriber_id},{generation}"))


_Lane = tuple[int, int]  # subscriber_id, priority
_Row = tuple[int, int, int]  # first_seq, generation, count


def _about(snapshot: Snapshot, lane: _Lane, seq: int) -> list[_Row]:
    """Return the rows that tell of one message, the latest first."""
    rows: list[_Row] = snapshot.rows(_ABOUT, (*lane, seq, *lane, seq - _ROW_MESSAGES_MAX, seq, seq))
    return sorted(rows, key=_generation, reverse=True)


def _generation(row: _Row) -> int:
    return row[1]


def _cut(tx: Tx, lane: _Lane, row: _Row, first_seq: int, end_seq: int) -> None:
    """Take [first_seq, end_seq) out of a row; what it says of other messages stays."""
    row_seq, generation, count = row
    key = (*lane, row_seq, generation)
    right = row_seq + count - end_seq
    if right > 0:
        tx.change(_COPY, (end_seq, right, *key))
    if row_seq < first_seq:
        tx.change(f"UPDATE failure SET count = ? WHERE {_ROW}", (first_seq - row_seq, *key))
    else:
        tx.change(f"DELETE FROM failure WHERE {_ROW}", key)


def erase_failures(
    tx: Tx, subscriber_id: int, priority: int, first_seq: int, end_seq: int, rows_max: int
) -> bool:
    """Forget the failures of messages that are being removed. False: of these none is left.

    Looks at about ``rows_max`` rows at most.
    """
    lane = (subscriber_id, priority)
    begun = [row for row in _about(tx, lane, first_seq) if row[0] < first_seq]
    inside: list[_Row] = tx.rows(_INSIDE, (*lane, first_seq, end_seq, rows_max))
    for row in begun + inside:
        _cut(tx, lane, row, first_seq, end_seq)
    return len(inside) == rows_max
