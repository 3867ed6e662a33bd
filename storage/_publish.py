"""Publishing: one block per lane and commit, however many publishers and subscribers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import limits
from ._cursors import Cursor
from ._errors import NoSubscribers, TopicNotFound
from ._frames import PackedSegment, pack_frame
from ._ids import message_id, new_tags
from ._runs import Run, move
from ._snapshot import Tx
from ._states import Event, State
from ._store import verb


class Batch(msgspec.Struct, frozen=True):
    """Messages that are published together: one priority, one delay, packed beforehand.

    ``messages`` is what ``pack_messages`` made of ``count`` bodies. At most
    ``BLOCK_MESSAGES_MAX`` of them, and ``BLOCK_BYTES_MAX`` unless it is a single one.
    """

    count: int
    messages: bytes
    priority: int = 0
    delay_ms: int = 0


class Published(msgspec.Struct, frozen=True):
    """Where the messages of one batch are now: ``count`` of them from ``first_seq``."""

    topic_id: int
    priority: int
    first_seq: int
    count: int
    tag: int
    created_ms: int
    visible_ms: int

    def ids(self) -> list[str]:
        """Return the messages' ids, in the order they were given."""
        return [self.id(index) for index in range(self.count)]

    def id(self, index: int) -> str:
        return message_id(self.topic_id, self.priority, self.first_seq + index, self.tag)


def publish_in(tx: Tx, topic_id: int, batches: Sequence[Batch]) -> list[Published]:
    """Append batches to a topic, for all subscribers that exist now.

    Returns where each of them is, in their order.

    Raises:
        TopicNotFound: the topic was deleted.
        NoSubscribers: nobody would get it.
    """
    priorities = {batch.priority for batch in batches}
    if len(priorities) == 1:
        published = _append(tx, topic_id, priorities.pop(), batches)
    else:
        appended = {
            priority: iter(
                _append(tx, topic_id, priority, [b for b in batches if b.priority == priority])
            )
            for priority in priorities
        }
        published = [next(appended[batch.priority]) for batch in batches]
    for where in published:
        if where.visible_ms != where.created_ms:
            _delay(tx, where)
    return published


_TAKE_NUMBERS = """
    UPDATE lane SET end_seq = end_seq + ?3 WHERE topic_id = ?1 AND priority = ?2
    AND EXISTS (SELECT 1 FROM topic WHERE id = ?1 AND deleted_ms IS NULL)
    AND EXISTS (SELECT 1 FROM subscriber WHERE topic_id = ?1 AND deleted_ms IS NULL)
    RETURNING end_seq"""


def _take_numbers(tx: Tx, topic_id: int, priority: int, count: int) -> int:
    """Take the lane's next sequence numbers, making it if it is new; return the first."""
    found = tx.rows(_TAKE_NUMBERS, (topic_id, priority, count))
    if found:
        return int(found[0][0]) - count
    _check_topic(tx, topic_id)
    tx.change(
        "INSERT INTO lane (topic_id, priority, end_seq) VALUES (?, ?, ?)",
        (topic_id, priority, count),
    )
    return 0


def _check_topic(tx: Tx, topic_id: int) -> None:
    """Raise unless the topic exists and somebody would get a message."""
    found = tx.row(
        "SELECT EXISTS (SELECT 1 FROM subscriber WHERE topic_id = ?1 AND deleted_ms IS NULL)"
        " FROM topic WHERE id = ?1 AND deleted_ms IS NULL",
        (topic_id,),
    )
    if found is None:
        raise TopicNotFound("the topic does not exist any more")
    if not found[0]:
        raise NoSubscribers("the topic has no subscriber: add one before publishing")


def _append(tx: Tx, topic_id: int, priority: int, batches: Sequence[Batch]) -> list[Published]:
    """Append batches to one lane, in as few blocks as they fit into."""
    seq = block_seq = _take_numbers(tx, topic_id, priority, sum([b.count for b in batches]))
    now_ms, nbytes = tx.now_ms, 0
    segments: list[PackedSegment] = []
    published: list[Published] = []
    for batch, tag in zip(batches, new_tags(len(batches)), strict=True):
        count = batch.count
        nbytes += len(batch.messages)
        full = seq + count - block_seq > limits.BLOCK_MESSAGES_MAX
        if segments and (full or nbytes > limits.BLOCK_BYTES_MAX):
            _write_block(tx, topic_id, priority, block_seq, seq, segments)
            block_seq, segments, nbytes = seq, [], len(batch.messages)
        segments.append((count, now_ms, tag, msgspec.Raw(batch.messages)))
        visible_ms = now_ms + batch.delay_ms
        published.append(Published(topic_id, priority, seq, count, tag, now_ms, visible_ms))
        seq += count
    _write_block(tx, topic_id, priority, block_seq, seq, segments)
    return published


def _write_block(
    tx: Tx,
    topic_id: int,
    priority: int,
    first_seq: int,
    end_seq: int,
    segments: Sequence[PackedSegment],
) -> None:
    count = end_seq - first_seq
    data = pack_frame(topic_id, priority, first_seq, count, segments)
    tx.change(
        "INSERT INTO block (topic_id, priority, first_seq, count, data) VALUES (?, ?, ?, ?, ?)",
        (topic_id, priority, first_seq, count, data),
    )
    tx.wrote_block(topic_id, priority, first_seq)


def _delay(tx: Tx, published: Published) -> None:
    """Put delayed messages into every subscriber's retry bucket: one row each, per batch."""
    fresh = Run(published.first_seq, published.count, State.PENDING)
    waiting = move(fresh, Event.DELAY, published.visible_ms)
    for (subscriber_id,) in tx.rows(
        "SELECT id FROM subscriber WHERE topic_id = ? AND deleted_ms IS NULL",
        (published.topic_id,),
    ):
        cursor = Cursor.open(tx, subscriber_id, published.priority)
        cursor.place(waiting)
        cursor.save()


publish = verb(publish_in)
