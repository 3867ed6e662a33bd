"""Reading a topic's log onwards: what is published, whoever consumes it."""

from __future__ import annotations

import msgspec

from ._errors import CorruptBlock
from ._frames import Body
from ._ids import message_id
from ._snapshot import Snapshot

#: For each priority, the first sequence number that was not read.
Places = dict[int, int]

_BLOCKS = """SELECT first_seq, count FROM block WHERE topic_id = ? AND priority = ?
             AND first_seq + count > ? ORDER BY first_seq LIMIT ?"""
_BLOCKS_AT_ONCE = 20


class Logged(msgspec.Struct, frozen=True):
    """A message as it stands in the log. ``body`` is None if its block is damaged."""

    id: str
    priority: int
    created_ms: int
    body: Body | None


def log_ends(snapshot: Snapshot, topic_id: int) -> Places:
    """Return the places behind all that is published now."""
    return dict(snapshot.rows("SELECT priority, end_seq FROM lane WHERE topic_id = ?", (topic_id,)))


def read_on(snapshot: Snapshot, topic_id: int, places: Places) -> tuple[list[Logged], Places]:
    """Return what was published since ``places``, or the start of it, and the places behind.

    By priority, then in order. What retention has removed meanwhile is passed over.
    """
    found: list[Logged] = []
    behind = dict(places)
    for priority, end_seq in sorted(log_ends(snapshot, topic_id).items(), reverse=True):
        place = places.get(priority, 0)
        if place >= end_seq:
            continue
        blocks = snapshot.rows(_BLOCKS, (topic_id, priority, place, _BLOCKS_AT_ONCE))
        for first_seq, count in blocks:
            for seq in range(max(place, first_seq), first_seq + count):
                found.append(_logged(snapshot, topic_id, priority, seq))
            behind[priority] = first_seq + count
        if len(blocks) < _BLOCKS_AT_ONCE:
            behind[priority] = end_seq
    return found, behind


def _logged(snapshot: Snapshot, topic_id: int, priority: int, seq: int) -> Logged:
    try:
        block = snapshot.block(topic_id, priority, seq)
        segment, body = block.segment(seq), block.body(seq)
    except CorruptBlock:
        return Logged(message_id(topic_id, priority, seq, 0), priority, 0, None)
    return Logged(
        message_id(topic_id, priority, seq, segment.tag), priority, segment.created_ms, body
    )
