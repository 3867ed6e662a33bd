"""Claiming: hand out what is due, priority first, then by visible time."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from . import limits
from ._cursors import Cursor
from ._errors import CorruptBlock, Paused
from ._expiry import expire_lane
from ._frames import Body
from ._ids import delivery_id, message_id, receipt_token
from ._runs import Run, move
from ._snapshot import Snapshot, Tx
from ._states import Event, State
from ._subscriber import Subscriber
from ._topology import subscriber, topic
from ._verb import verb
from .meters import DELIVERY_OPERATIONS

logger = logging.getLogger("blockqueue")


class Lease(msgspec.Struct, frozen=True):
    """What the deliveries of one claim share."""

    topic_id: int
    subscriber_id: int
    secret: bytes


class Delivery(msgspec.Struct):
    """One message in the hands of one consumer."""

    lease: Lease
    priority: int
    seq: int
    tag: int
    created_ms: int
    body: Body
    generation: int
    delivery_count: int
    failure_count: int
    lease_expires_ms: int
    #: Since when it could have been claimed.
    visible_ms: int

    @property
    def message_id(self) -> str:
        return message_id(self.lease.topic_id, self.priority, self.seq, self.tag)

    @property
    def delivery_id(self) -> str:
        return delivery_id(self.lease.subscriber_id, self.priority, self.seq, self.tag)

    @property
    def receipt_token(self) -> str:
        lease = self.lease
        return receipt_token(
            lease.secret, lease.subscriber_id, self.priority, self.seq, self.tag, self.generation
        )


class Look(msgspec.Struct, frozen=True):
    """What a subscriber could claim: something now, or the next thing at ``due_ms``."""

    ready: bool
    due_ms: int | None
    paused: bool


def look(snapshot: Snapshot, subscriber_id: int) -> Look:
    """Say whether a claim would find something. Raises SubscriberNotFound."""
    found = subscriber(snapshot, subscriber_id)
    paused = bool(found.paused or topic(snapshot, found.topic_id).paused)
    row = snapshot.row(
        "SELECT max(lane.end_seq > coalesce(next_seq, 0)), min(waiting_due_ms), min(lease_due_ms)"
        " FROM lane LEFT JOIN cursor ON subscriber_id = ? AND cursor.priority = lane.priority"
        " WHERE topic_id = ?",
        (subscriber_id, found.topic_id),
    )
    assert row is not None
    due_ms = min((due for due in row[1:] if due is not None), default=None)
    ready = bool(row[0]) or (due_ms is not None and due_ms <= snapshot.now_ms)
    return Look(ready, due_ms, paused)


def claim_in(
    tx: Tx, subscriber_id: int, limit: int | None = None, lease_ms: int | None = None
) -> list[Delivery]:
    """Lease up to ``limit`` messages for ``lease_ms``; the subscriber's options if not given.

    Raises:
        SubscriberNotFound: it was deleted.
        Paused: it or its topic is paused.
    """
    found = subscriber(tx, subscriber_id)
    limit = found.claim_limit if limit is None else limit
    limits.check_range("limit", limit, 1, limits.BATCH_MAX)
    if found.paused or topic(tx, found.topic_id).paused:
        raise Paused("the subscriber or its topic is paused")
    lease_ms = found.visibility_ms if lease_ms is None else lease_ms
    limits.check_range("lease", lease_ms, 1, limits.LEASE_MS_MAX, " ms (12h)")
    claim = _Claim(tx, found, limit, tx.now_ms + lease_ms)
    claim.fill()
    if claim.taken:
        tx.store.hints.lease_due_by(claim.expires_ms)
    return claim.taken


# The tag, the time and the bodies of neighbours that were published together.
_Piece = tuple[int, int, list[Body]]


def _length(pieces: list[_Piece]) -> int:
    return sum(len(bodies) for _, _, bodies in pieces)


class _Claim:
    """One claim in the making."""

    def __init__(self, tx: Tx, subscriber: Subscriber, limit: int, expires_ms: int) -> None:
        self.tx = tx
        self.subscriber = subscriber
        self.lease = Lease(subscriber.topic_id, subscriber.id, tx.store.receipt_secret)
        self.limit = limit
        self.expires_ms = expires_ms
        self.taken: list[Delivery] = []

    @property
    def room(self) -> int:
        return self.limit - len(self.taken)

    def fill(self) -> None:
        lanes = self.tx.rows(
            "SELECT lane.priority, end_seq FROM lane"
            " LEFT JOIN cursor ON subscriber_id = ? AND cursor.priority = lane.priority"
            " WHERE topic_id = ? AND (end_seq > coalesce(next_seq, 0)"
            " OR waiting_due_ms <= ? OR lease_due_ms <= ?) ORDER BY lane.priority DESC",
            (self.subscriber.id, self.subscriber.topic_id, self.tx.now_ms, self.tx.now_ms),
        )
        for priority, end_seq in lanes:
            if not self.room:
                break
            cursor = Cursor.open(self.tx, self.subscriber.id, priority)
            if cursor.leased:
                expire_lane(self.tx, cursor, self.subscriber)
            self._fill_from(cursor, end_seq)
            cursor.save()
        if self.taken:
            self.tx.count(DELIVERY_OPERATIONS["claim", "success"], len(self.taken))

    def _fill_from(self, cursor: Cursor, end_seq: int) -> None:
        while self.room:
            cursor.skip_rows()
            due = cursor.first_due(State.WAITING, self.tx.now_ms) if cursor.waiting else None
            fresh = cursor.next_seq < end_seq
            due_ms = None if due is None else due.due_ms
            if (
                due is not None
                and due_ms is not None
                and (not fresh or due_ms <= self._created_ms(cursor, cursor.next_seq))
            ):
                self._take_due(cursor, due)
            elif fresh:
                self._take_fresh(cursor, end_seq, due_ms)
            else:
                return

    def _created_ms(self, cursor: Cursor, seq: int) -> int:
        try:
            block = self.tx.block(self.lease.topic_id, cursor.priority, seq)
        except CorruptBlock:
            return 0  # first of all: taking it moves it to the dead letters
        return block.segment(seq).created_ms

    def _take_due(self, cursor: Cursor, run: Run) -> None:
        end_seq = min(run.end_seq, run.first_seq + self.room)
        readable = self._readable(cursor, run.first_seq, end_seq)
        count = _length(readable) or self._damaged(cursor, run)
        part = cursor.carve(run, run.first_seq, count)
        self._hand_out(cursor, part, readable)

    def _take_fresh(self, cursor: Cursor, end_seq: int, until_ms: int | None) -> None:
        """Take from the cursor on, up to the next row and what was published by ``until_ms``."""
        first_seq = cursor.next_seq
        end_seq = min(end_seq, first_seq + self.room)
        if cursor.ahead:
            ahead = next(iter(cursor.between(first_seq, end_seq)), None)
            end_seq = end_seq if ahead is None else ahead.first_seq
        fresh = Run(first_seq, end_seq - first_seq, State.PENDING)
        readable = self._readable(cursor, first_seq, end_seq, until_ms)
        count = _length(readable) or self._damaged(cursor, fresh)
        self._hand_out(cursor, fresh.part(first_seq, count), readable)
        cursor.advance(first_seq + count)

    def _hand_out(self, cursor: Cursor, run: Run, pieces: list[_Piece]) -> None:
        """Lease ``run``, carved out or fresh, or bury it if it cannot be read."""
        if not pieces:
            cursor.place(move(run, Event.BURY, self.tx.now_ms, reason=self._damage))
            self.tx.count(DELIVERY_OPERATIONS["claim", "dead_letter"], run.count)
            return
        due_ms = run.due_ms  # of a fresh one, None
        run = move(
            run,
            Event.CLAIM,
            self.expires_ms,
            delivery_count=run.delivery_count + 1,
            generation=run.generation + 1,
            reason=run.reason,
            since_ms=due_ms,
        )
        cursor.place(run)
        lease, priority, expires_ms = self.lease, cursor.priority, self.expires_ms
        generation, deliveries, failures = run.generation, run.delivery_count, run.failure_count
        seq = run.first_seq
        for tag, created_ms, bodies in pieces:
            visible_ms = created_ms if due_ms is None else due_ms
            self.taken += [
                Delivery(
                    lease,
                    priority,
                    seq + index,
                    tag,
                    created_ms,
                    body,
                    generation,
                    deliveries,
                    failures,
                    expires_ms,
                    visible_ms,
                )
                for index, body in enumerate(bodies)
            ]
            seq += len(bodies)

    def _readable(
        self, cursor: Cursor, first_seq: int, end_seq: int, until_ms: int | None = None
    ) -> list[_Piece]:
        """Return the messages from ``first_seq`` on, as far as blocks are sound."""
        found: list[_Piece] = []
        try:
            for piece in self._pieces(cursor, first_seq, end_seq):
                if found and until_ms is not None and piece[1] >= until_ms:
                    break
                found.append(piece)
        except CorruptBlock as error:
            self._damage = str(error)
            if not found:
                logger.error("%s: moved to the dead letters", error)
        return found

    _damage = ""

    def _pieces(self, cursor: Cursor, seq: int, end_seq: int) -> Iterator[_Piece]:
        while seq < end_seq:
            block = self.tx.block(self.lease.topic_id, cursor.priority, seq)
            segment = block.segment(seq)
            stop = min(end_seq, block.segment_end(seq))
            bodies = block.bodies[seq - block.first_seq : stop - block.first_seq]
            yield segment.tag, segment.created_ms, bodies
            seq = stop

    def _damaged(self, cursor: Cursor, run: Run) -> int:
        """Return how many messages the damage at the start of ``run`` takes with it."""
        try:
            self.tx.block(self.lease.topic_id, cursor.priority, run.first_seq)
        except CorruptBlock as error:
            return min(error.end_seq, run.end_seq) - run.first_seq
        raise AssertionError("the block is sound")


claim = verb(claim_in)
