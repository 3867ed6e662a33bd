"""Publishing: one block per lane and commit, however many publishers and subscribers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from . import limits
from ._cursors import Cursor
from ._errors import NoSubscribers, TopicNotFound
from ._frames import pack_frame
from ._ids import message_id, new_tag
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

    Raises:
        TopicNotFound: the topic was deleted.
        NoSubscribers: nobody would get it.
    """
    _check_topic(tx, topic_id)
    lanes: dict[int, list[int]] = {}
    for index, batch in enumerate(batches):
        lanes.setdefault(batch.priority, []).append(index)
    published: dict[int, Published] = {}
    for priority, indexes in lanes.items():
        count = sum(batches[index].count for index in indexes)
        first_seq = _take_numbers(tx, topic_id, priority, count)
        for block in _fill_blocks(batches, indexes):
            first_seq = _append(tx, topic_id, priority, first_seq, block, batches, published)
    for index, batch in enumerate(batches):
        if batch.delay_ms:
            _delay(tx, published[index])
    return [published[index] for index in range(len(batches))]


def _check_topic(tx: Tx, topic_id: int) -> None:
    found = tx.row(
        "SELECT EXISTS (SELECT 1 FROM subscriber WHERE topic_id = ?1 AND deleted_ms IS NULL)"
        " FROM topic WHERE id = ?1 AND deleted_ms IS NULL",
        (topic_id,),
    )
    if found is None:
        raise TopicNotFound("the topic does not exist any more")
    if not found[0]:
        raise NoSubscribers("the topic has no subscriber: add one before publishing")


def _take_numbers(tx: Tx, topic_id: int, priority: int, count: int) -> int:
    """Take the lane's next sequence numbers, making it if it is new; return the first."""
    rows = tx.rows(
        "UPDATE lane SET end_seq = end_seq + ? WHERE topic_id = ? AND priority = ?"
        " RETURNING end_seq",
        (count, topic_id, priority),
    )
    if rows:
        return int(rows[0][0]) - count
    tx.change(
        "INSERT INTO lane (topic_id, priority, end_seq) VALUES (?, ?, ?)",
        (topic_id, priority, count),
    )
    return 0


def _fill_blocks(batches: Sequence[Batch], indexes: Iterable[int]) -> Iterable[list[int]]:
    """Put whole batches together until a block is full."""
    block: list[int] = []
    count = nbytes = 0
    for index in indexes:
        batch = batches[index]
        count += batch.count
        nbytes += len(batch.messages)
        if block and (count > limits.BLOCK_MESSAGES_MAX or nbytes > limits.BLOCK_BYTES_MAX):
            yield block
            block, count, nbytes = [], batch.count, len(batch.messages)
        block.append(index)
    yield block


def _append(
    tx: Tx,
    topic_id: int,
    priority: int,
    first_seq: int,
    block: Iterable[int],
    batches: Sequence[Batch],
    published: dict[int, Published],
) -> int:
    """Write one block and note where each of its batches went; return the next number."""
    segments = []
    seq = first_seq
    for index in block:
        batch, tag = batches[index], new_tag()
        segments.append((batch.count, tx.now_ms, tag, batch.messages))
        visible_ms = tx.now_ms + batch.delay_ms
        published[index] = Published(
            topic_id, priority, seq, batch.count, tag, tx.now_ms, visible_ms
        )
        seq += batch.count
    data = pack_frame(topic_id, priority, first_seq, segments)
    tx.change(
        "INSERT INTO block (topic_id, priority, first_seq, count, data) VALUES (?, ?, ?, ?, ?)",
        (topic_id, priority, first_seq, seq - first_seq, data),
    )
    tx.wrote_block(topic_id, priority, first_seq)
    return seq


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
