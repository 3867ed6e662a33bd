"""Making room: what nobody needs any more goes, in steps that are short.

Every step is a write transaction of its own, of at most ``_STEP_MS``, so that publishers
and consumers never wait long. A pass is over when a step says that nothing more is to do.
"""

from __future__ import annotations

import time

import msgspec

from ._cursors import Cursor
from ._failures import erase_failures
from ._idempotency import delete_keys, release_keys
from ._snapshot import Tx
from ._topology import subscribers
from .meters import MAINTENANCE_ROWS

# Half of what the writer may be held; the commit takes the rest.
_STEP_MS = 25
_BLOCKS_MAX = 200
_MESSAGES_MAX = 5_000
_ROWS_MAX = 1_000
# Free pages the file keeps for what comes next; more are given back to the disk.
_FREE_PAGES_KEPT = 2_048
_VACUUM_PAGES = 256


class Position(msgspec.Struct):
    """How far a pass has come: first through the lanes, then through the held blocks."""

    topic_id: int = 0
    priority: int = -(2**31)
    first_seq: int = -1
    lanes_done: bool = False


def mark_step_in(tx: Tx, position: Position) -> bool:
    """Mark blocks that no subscriber needs for deletion. False: the pass is over.

    Looks on from ``position`` for as long as a step may last, and moves it.
    """
    started = time.monotonic()
    while True:
        if not position.lanes_done:
            if not _check_lane(tx, position):
                position.topic_id, position.priority, position.lanes_done = 0, -(2**31), True
        elif not _check_held(tx, position):
            return False
        if (time.monotonic() - started) * 1000 > _STEP_MS:
            return True


def _check_lane(tx: Tx, position: Position) -> bool:
    """Check the next stretch of blocks that all cursors have passed. False: no more lanes."""
    row = tx.row(
        "SELECT topic_id, priority, checked_seq FROM lane"
        " WHERE (topic_id, priority) >= (?, ?) AND checked_seq < end_seq"
        " ORDER BY topic_id, priority LIMIT 1",
        (position.topic_id, position.priority),
    )
    if row is None:
        return False
    topic_id, priority, checked_seq = row
    blocks = _passed_blocks(tx, topic_id, priority, checked_seq)
    if not blocks:  # the rest of the lane lies ahead of somebody's cursor
        position.topic_id, position.priority = topic_id, priority + 1
        return True
    end_seq = blocks[-1][1]
    needed = _needed(tx, topic_id, priority, blocks[0][0], end_seq)
    for first, end in blocks:
        held = any(start < end and stop > first for start, stop in needed)
        _mark(tx, topic_id, priority, first, held)
    tx.change(
        "UPDATE lane SET checked_seq = ? WHERE topic_id = ? AND priority = ?",
        (end_seq, topic_id, priority),
    )
    position.topic_id, position.priority = topic_id, priority
    return True


def _check_held(tx: Tx, position: Position) -> bool:
    """Check the next block that was needed when it was last looked at. False: no more."""
    row = tx.row(
        "SELECT topic_id, priority, first_seq, count FROM block"
        " WHERE held = 1 AND (topic_id, priority, first_seq) > (?, ?, ?)"
        " ORDER BY topic_id, priority, first_seq LIMIT 1",
        (position.topic_id, position.priority, position.first_seq),
    )
    if row is None:
        return False
    topic_id, priority, first_seq, count = row
    if not _needed(tx, topic_id, priority, first_seq, first_seq + count):
        _mark(tx, topic_id, priority, first_seq, False)
    position.topic_id, position.priority, position.first_seq = topic_id, priority, first_seq
    return True


def _mark(tx: Tx, topic_id: int, priority: int, first_seq: int, held: bool) -> None:
    delete_ms = None if held else tx.now_ms + _retention_ms(tx, topic_id)
    tx.change(
        "UPDATE block SET delete_ms = ?, held = ?"
        " WHERE topic_id = ? AND priority = ? AND first_seq = ?",
        (delete_ms, int(held), topic_id, priority, first_seq),
    )


def _passed_blocks(tx: Tx, topic_id: int, priority: int, first_seq: int) -> list[tuple[int, int]]:
    """Return the next blocks, as [first, end), that lie below every subscriber's cursor."""
    floor = tx.row(
        "SELECT min(coalesce(next_seq, 0)) FROM subscriber"
        " LEFT JOIN cursor ON subscriber_id = subscriber.id AND priority = ?"
        " WHERE topic_id = ? AND deleted_ms IS NULL",
        (priority, topic_id),
    )
    passed: list[tuple[int, int]] = []
    messages = 0
    for first, count in tx.rows(
        "SELECT first_seq, count FROM block"
        " WHERE topic_id = ? AND priority = ? AND first_seq >= ? ORDER BY first_seq LIMIT ?",
        (topic_id, priority, first_seq, _BLOCKS_MAX),
    ):
        below = floor is None or floor[0] is None or first + count <= floor[0]
        messages += count
        if not below or (passed and messages > _MESSAGES_MAX):
            break
        passed.append((first, first + count))
    return passed


def _needed(
    tx: Tx, topic_id: int, priority: int, first_seq: int, end_seq: int
) -> list[tuple[int, int]]:
    """Return where leased, waiting or dead messages lie in a stretch, as [start, stop)."""
    found: list[tuple[int, int]] = []
    for subscriber in subscribers(tx, topic_id):
        cursor = Cursor.find_in(tx, subscriber.id, priority)
        if cursor is not None and cursor.has_unfinished:
            found += [
                (run.first_seq, run.end_seq)
                for run in cursor.between(first_seq, end_seq)
                if not run.is_history()
            ]
    return found


def _retention_ms(tx: Tx, topic_id: int) -> int:
    row = tx.row("SELECT retention_ms FROM topic WHERE id = ? AND deleted_ms IS NULL", (topic_id,))
    return 0 if row is None else int(row[0])


def delete_step_in(tx: Tx) -> bool:
    """Delete blocks whose retention is over, with their history. False: none is left."""
    started = time.monotonic()
    for topic_id, priority, first_seq, count in tx.rows(
        "SELECT topic_id, priority, first_seq, count FROM block WHERE delete_ms <= ?"
        " ORDER BY delete_ms LIMIT ?",
        (tx.now_ms, _BLOCKS_MAX),
    ):
        for subscriber in subscribers(tx, topic_id):
            cursor = Cursor.find_in(tx, subscriber.id, priority)
            if cursor is None:
                continue
            stretch = (first_seq, first_seq + count)
            while erase_failures(tx, subscriber.id, priority, *stretch, _ROWS_MAX):
                if (time.monotonic() - started) * 1000 > _STEP_MS:
                    return True
            erased = cursor.erase_history(*stretch)
            # Only after some progress, or a step would begin the same block for ever.
            if erased and (time.monotonic() - started) * 1000 > _STEP_MS:
                return True
        release_keys(tx, topic_id, priority, first_seq, first_seq + count)
        tx.change(
            "DELETE FROM block WHERE topic_id = ? AND priority = ? AND first_seq = ?",
            (topic_id, priority, first_seq),
        )
        tx.count(MAINTENANCE_ROWS["retention"])
        if (time.monotonic() - started) * 1000 > _STEP_MS:
            return True
    if delete_keys(tx, _ROWS_MAX):
        return True
    row = tx.row("SELECT 1 FROM block WHERE delete_ms <= ? LIMIT 1", (tx.now_ms,))
    return row is not None


def next_delete_ms(tx: Tx) -> int | None:
    """Return when the next block or key is to be deleted."""
    row = tx.row(
        "SELECT (SELECT min(delete_ms) FROM block WHERE delete_ms IS NOT NULL),"
        " (SELECT min(delete_ms) FROM idempotency WHERE delete_ms IS NOT NULL)"
    )
    assert row is not None
    return min((due for due in row if due is not None), default=None)


_PURGES = (
    "DELETE FROM delivery WHERE (subscriber_id, priority, first_seq) IN"
    " (SELECT delivery.subscriber_id, priority, first_seq FROM subscriber"
    "  JOIN delivery ON delivery.subscriber_id = subscriber.id"
    "  WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM failure WHERE (subscriber_id, priority, first_seq, generation) IN"
    " (SELECT failure.subscriber_id, priority, first_seq, generation FROM subscriber"
    "  JOIN failure ON failure.subscriber_id = subscriber.id"
    "  WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM cursor WHERE (subscriber_id, priority) IN"
    " (SELECT cursor.subscriber_id, priority FROM subscriber"
    "  JOIN cursor ON cursor.subscriber_id = subscriber.id"
    "  WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM subscriber WHERE id IN"
    " (SELECT id FROM subscriber WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM block WHERE (topic_id, priority, first_seq) IN"
    " (SELECT topic_id, priority, first_seq FROM topic"
    "  JOIN block ON topic_id = topic.id WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM lane WHERE (topic_id, priority) IN"
    " (SELECT topic_id, priority FROM topic"
    "  JOIN lane ON topic_id = topic.id WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM idempotency WHERE (topic_id, key) IN"
    " (SELECT topic_id, key FROM topic"
    "  JOIN idempotency ON topic_id = topic.id WHERE deleted_ms IS NOT NULL LIMIT ?)",
    "DELETE FROM topic WHERE id IN (SELECT id FROM topic WHERE deleted_ms IS NOT NULL LIMIT ?)",
)


def purge_step_in(tx: Tx) -> bool:
    """Remove rows of deleted topics and subscribers, the inmost first. False: none is left."""
    for statement in _PURGES:
        tx.execute(statement, (_ROWS_MAX,))
        if tx.changes():
            tx.count(MAINTENANCE_ROWS["topology_cleanup"], tx.changes())
            return True
    return False


def vacuum_step_in(tx: Tx) -> bool:
    """Give free pages back to the disk, beyond a reserve. False: no more to give."""
    row = tx.row("PRAGMA freelist_count")
    if row is None or row[0] <= _FREE_PAGES_KEPT + _VACUUM_PAGES:
        return False
    tx.rows(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
    return True
