"""Publishing: one block per lane and commit, however many publishers and subscribers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import limits
from ._clock import from_wall
from ._cursors import Cursor
from ._errors import BlockQueueError, NoSubscribers, TopicNotFound
from ._frames import PackedSegment, pack_frame, pack_messages
from ._idempotency import Fresh, Keyed, Keys, Known, check_call
from ._ids import message_id, new_tags
from ._runs import Run, move
from ._snapshot import Tx
from ._states import Event, State
from ._verb import verb
from .meters import DUPLICATE, PERSISTED


class Batch(msgspec.Struct, frozen=True):
    """Messages that are published together: one priority, one delay, packed beforehand.

    ``messages`` is what ``pack_messages`` made of ``count`` bodies. At most
    ``BLOCK_MESSAGES_MAX`` of them, and ``BLOCK_BYTES_MAX`` unless it is a single one. They
    are visible ``delay_ms`` after the commit, or at ``at_ms`` by the clock on the wall.
    """

    count: int
    messages: bytes
    priority: int = 0
    delay_ms: int = 0
    at_ms: int | None = None
    #: There if any of the messages has an idempotency key.
    keyed: Keyed | None = None


class Published(msgspec.Struct, frozen=True):
    """Where messages of one batch are now: ``count`` of them from ``first_seq``.

    ``duplicate``: an earlier publish with the same idempotency key has put it there.
    """

    topic_id: int
    priority: int
    first_seq: int
    count: int
    tag: int
    created_ms: int
    visible_ms: int
    duplicate: bool = False

    def ids(self) -> list[str]:
        """Return the messages' ids, in the order they were given."""
        return [self.id(index) for index in range(self.count)]

    def id(self, index: int) -> str:
        return message_id(self.topic_id, self.priority, self.first_seq + index, self.tag)


def publish_in(tx: Tx, topic_id: int, batches: Sequence[Batch]) -> list[Published]:
    """Append batches to a topic, for all subscribers that exist now; all or nothing.

    Returns where they are, in their order: one entry a batch, or several where some of its
    messages were published before.

    Raises:
        TopicNotFound: the topic was deleted.
        NoSubscribers: nobody would get it.
        IdempotencyConflict: a key was used before for a different message.
        ValidationError: a key is given twice for different messages.
        DiskFull: there is less room than is kept free.
    """
    (published,) = publish_calls_in(tx, topic_id, [batches])
    if isinstance(published, BlockQueueError):
        raise published
    return published


def publish_calls_in(
    tx: Tx, topic_id: int, calls: Sequence[Sequence[Batch]]
) -> list[list[Published] | BlockQueueError]:
    """Do ``publish_in`` for several callers at once.

    Each call succeeds or fails for itself if it is its keys that are wrong. Raises what
    concerns all of them: TopicNotFound, NoSubscribers, DiskFull.
    """
    tx.store.check_room()
    if any(batch.keyed is not None for batches in calls for batch in batches):
        return _KeyedCalls(tx, topic_id).publish(calls)
    published = iter(_append_all(tx, topic_id, [batch for batches in calls for batch in batches]))
    return [[next(published) for _ in batches] for batches in calls]


def _append_all(tx: Tx, topic_id: int, batches: Sequence[Batch]) -> list[Published]:
    """Append batches, each to the lane of its priority."""
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
    delayed = [where for where in published if where.visible_ms != where.created_ms]
    if delayed:
        _delay(tx, topic_id, delayed)
    return published


class _KeyedCalls:
    """Calls of which some have idempotency keys, while they are published."""

    def __init__(self, tx: Tx, topic_id: int) -> None:
        self._tx = tx
        self._topic_id = topic_id
        self._keys = Keys(tx, topic_id)
        #: What is to be appended, of all calls.
        self._batches: list[Batch] = []

    def publish(self, calls: Sequence[Sequence[Batch]]) -> list[list[Published] | BlockQueueError]:
        admitted: list[list[_Admitted] | BlockQueueError] = []
        for batches in calls:
            try:
                admitted.append(self._admit(batches))
            except BlockQueueError as error:
                admitted.append(error)
        if self._batches:
            appended = _append_all(self._tx, self._topic_id, self._batches)
        else:
            _check_topic(self._tx, self._topic_id, with_subscriber=False)
            appended = []
        self._keys.store(
            [(key, _known(fresh, appended)) for key, fresh in self._keys.fresh.items()]
        )
        sound = [each for each in admitted if not isinstance(each, BlockQueueError)]
        repeats = [repeat for call in sound for batch in call for repeat in batch.repeats]
        self._tx.count(DUPLICATE, len(repeats) - repeats.count(None))
        return [
            each
            if isinstance(each, BlockQueueError)
            else [part for batch in each for part in batch.parts(self._topic_id, appended)]
            for each in admitted
        ]

    def _admit(self, batches: Sequence[Batch]) -> list[_Admitted]:
        """Find out what of a call is new. Raises if it must not be published."""
        check_call(batch.keyed for batch in batches if batch.keyed is not None)
        admitted: list[_Admitted] = []
        new: list[Batch] = []
        mine: dict[str, Fresh] = {}
        for batch in batches:
            number = len(self._batches) + len(new)
            repeats: list[Known | Fresh | None] = []
            if batch.keyed is not None:
                repeats = self._keys.admit(batch.keyed, number, mine)
            rest = _without(batch, repeats)
            if rest is not None:
                new.append(rest)
            admitted.append(_Admitted(number, repeats if rest is not batch else []))
        self._batches += new
        self._keys.fresh.update(mine)
        return admitted


class _Admitted(msgspec.Struct):
    """A batch of a call: where its new messages went, and what the others repeat.

    ``repeats`` has an entry for each message, None for a new one; empty: all are new.
    """

    number: int
    repeats: list[Known | Fresh | None]

    def parts(self, topic_id: int, appended: Sequence[Published]) -> list[Published]:
        """Return where the batch's messages are, in their order."""
        if not self.repeats:
            return [appended[self.number]]
        parts: list[Published] = []
        fresh = 0
        for repeat in self.repeats:
            if repeat is None:
                new = appended[self.number]
                seq, tag = new.first_seq + fresh, new.tag
                parts.append(
                    Published(topic_id, new.priority, seq, 1, tag, new.created_ms, new.visible_ms)
                )
                fresh += 1
                continue
            known = _known(repeat, appended)
            parts.append(
                Published(
                    topic_id,
                    known.priority,
                    known.seq,
                    1,
                    known.tag,
                    known.created_ms,
                    known.visible_ms,
                    duplicate=True,
                )
            )
        return parts


def _known(earlier: Known | Fresh, appended: Sequence[Published]) -> Known:
    if isinstance(earlier, Known):
        return earlier
    new = appended[earlier.batch]
    seq = new.first_seq + earlier.offset
    return Known(earlier.fingerprint, new.priority, seq, new.tag, new.created_ms, new.visible_ms)


def _without(batch: Batch, repeats: Sequence[Known | Fresh | None]) -> Batch | None:
    """Return the batch without the messages that repeat others; None if nothing is left."""
    if batch.keyed is None or not any(repeats):
        return batch
    bodies = [
        body for body, repeat in zip(batch.keyed.bodies, repeats, strict=True) if repeat is None
    ]
    if not bodies:
        return None
    return msgspec.structs.replace(
        batch, count=len(bodies), messages=pack_messages(bodies), keyed=None
    )


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


def _check_topic(tx: Tx, topic_id: int, *, with_subscriber: bool = True) -> None:
    """Raise unless the topic exists, and if it is asked for somebody would get a message."""
    found = tx.row(
        "SELECT EXISTS (SELECT 1 FROM subscriber WHERE topic_id = ?1 AND deleted_ms IS NULL)"
        " FROM topic WHERE id = ?1 AND deleted_ms IS NULL",
        (topic_id,),
    )
    if found is None:
        raise TopicNotFound("the topic does not exist any more")
    if with_subscriber and not found[0]:
        raise NoSubscribers("the topic has no subscriber: add one before publishing")


def _append(tx: Tx, topic_id: int, priority: int, batches: Sequence[Batch]) -> list[Published]:
    """Append batches to one lane, in as few blocks as they fit into."""
    tx.helped.add(topic_id)
    total = sum([batch.count for batch in batches])
    seq = block_seq = _take_numbers(tx, topic_id, priority, total)
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
        visible_ms = now_ms + batch.delay_ms
        if batch.at_ms is not None:
            visible_ms = from_wall(tx.store.clock, batch.at_ms)
        segment = (count, now_ms, tag, msgspec.Raw(batch.messages))
        segments.append(segment if visible_ms == now_ms else (*segment, visible_ms))
        published.append(Published(topic_id, priority, seq, count, tag, now_ms, visible_ms))
        seq += count
    _write_block(tx, topic_id, priority, block_seq, seq, segments)
    tx.count(PERSISTED, total)
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
        "INSERT INTO block (topic_id, priority, first_seq, count, created_ms, data)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (topic_id, priority, first_seq, count, tx.now_ms, data),
    )
    tx.wrote_block(topic_id, priority, first_seq)


def _delay(tx: Tx, topic_id: int, delayed: Sequence[Published]) -> None:
    """Put delayed messages into every subscriber's retry bucket: one row each, per batch."""
    lanes: dict[int, list[Run]] = {}
    for where in delayed:
        fresh = Run(where.first_seq, where.count, State.PENDING)
        waiting = move(fresh, Event.DELAY, where.visible_ms)
        lanes.setdefault(where.priority, []).append(waiting)
    for (subscriber_id,) in tx.rows(
        "SELECT id FROM subscriber WHERE topic_id = ? AND deleted_ms IS NULL", (topic_id,)
    ):
        for priority, runs in lanes.items():
            cursor = Cursor.open(tx, subscriber_id, priority)
            for run in runs:
                cursor.place(run)
            cursor.save()


publish = verb(publish_in)
