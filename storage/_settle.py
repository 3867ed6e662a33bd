"""Settling: what a consumer or an operator says about deliveries, one verb for all of it.

Each kind of settlement is a small class below: which runs it accepts, and what becomes
of them. ``settle_in`` finds the runs, checks the receipts, carves, moves and places.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from enum import Enum
from hmac import compare_digest

import msgspec

from . import limits
from ._cursors import Cursor
from ._errors import CorruptBlock
from ._failures import fail_in
from ._ids import receipt_token
from ._runs import Run, move
from ._snapshot import Tx
from ._states import ACTIVE, Event, State
from ._subscriber import Subscriber
from ._topology import subscriber
from ._verb import verb


class Handle(msgspec.Struct, frozen=True):
    """A delivery as its holder names it.

    ``proof`` is the claim's generation (from a Delivery of this process), its receipt
    token, or None: whoever knows the id may. ``subscriber_id``, ``topic_id``: whose the id
    says it is, if it does. ``count``: so many neighbours (with a generation).
    """

    priority: int
    seq: int
    tag: int
    proof: int | str | None = None
    subscriber_id: int | None = None
    count: int = 1
    topic_id: int | None = None


class Outcome(Enum):
    """What became of one handle."""

    DONE = "done"
    LOST = "delivery lease lost"
    UNKNOWN = "delivery not found"
    #: It is processed or dead, which the settlement does not allow.
    FINISHED = "delivery operation failed"


class Settled(msgspec.Struct, frozen=True):
    """The outcome for one handle, and if done the delivery's new state and due time."""

    outcome: Outcome
    state: State | None = None
    due_ms: int | None = None


_LOST, _UNKNOWN = Settled(Outcome.LOST), Settled(Outcome.UNKNOWN)
_FINISHED = Settled(Outcome.FINISHED)


class Settlement(msgspec.Struct, frozen=True):
    """What is to happen. Base: it ends or changes a lease that has not run out."""

    def accepts(self, run: Run, now_ms: int) -> bool:
        return run.state == State.LEASED and run.due_ms is not None and run.due_ms > now_ms

    def accepts_pending(self) -> bool:
        """Say whether it may happen to what was never handed out."""
        return False

    def repeats(self, run: Run, handle: Handle) -> bool:
        """Say whether it was done before: no change, no error."""
        return False

    def refusal(self, handle: Handle) -> Settled:
        """Return what to answer if the delivery is there but the settlement is not accepted."""
        return _UNKNOWN if handle.proof is None else _LOST

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        raise NotImplementedError


class Ack(Settlement, frozen=True):
    """Done. The same receipt again is fine for as long as the delivery is kept."""

    def repeats(self, run: Run, handle: Handle) -> bool:
        return run.state == State.PROCESSED and handle.proof is not None

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.ACK, tx.now_ms)


class Nack(Settlement, frozen=True):
    """Failed: try again after ``delay_ms`` (None or 0: the subscriber's policy), or bury."""

    delay_ms: int | None = None
    error: str = ""

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        reason = limits.cut_reason(self.error)
        return fail_in(tx, run, Event.NACK, subscriber, priority, reason, self.delay_ms or None)


class Extend(Settlement, frozen=True):
    """Make the lease last ``ms`` longer, at most until 12 hours from now.

    None: for as long as the subscriber's leases last.
    """

    ms: int | None = None

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        assert run.due_ms is not None
        by_ms = subscriber.visibility_ms if self.ms is None else self.ms
        due_ms = min(run.due_ms + by_ms, tx.now_ms + limits.LEASE_MS_MAX)
        return move(run, Event.EXTEND, due_ms, reason=run.reason)


class Snooze(Settlement, frozen=True):
    """End the lease without a failure; visible again after ``delay_ms``."""

    delay_ms: int

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.SNOOZE, tx.now_ms + self.delay_ms, reason=run.reason)


class Release(Settlement, frozen=True):
    """Undo the claim: nobody received it. It goes back to the front, nothing is counted."""

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        visible_ms = run.since_ms
        if visible_ms is None:
            try:
                block = tx.block(subscriber.topic_id, priority, run.first_seq)
                visible_ms = block.segment(run.first_seq).created_ms
            except CorruptBlock:
                visible_ms = tx.now_ms
        count = run.delivery_count - 1
        return move(run, Event.RELEASE, visible_ms, delivery_count=count, reason=run.reason)


class Cancel(Settlement, frozen=True):
    """Give it up for ``reason``, whether it waits or is leased. Again: the first reason stays.

    ``leased``: only for who holds the lease; then the handle must prove that.
    """

    reason: str = ""
    leased: bool = False

    def accepts(self, run: Run, now_ms: int) -> bool:
        if self.leased:
            return super().accepts(run, now_ms)
        return run.state in ACTIVE or run.state == State.PENDING

    def accepts_pending(self) -> bool:
        return not self.leased

    def repeats(self, run: Run, handle: Handle) -> bool:
        return run.state == State.CANCELLED

    def refusal(self, handle: Handle) -> Settled:
        return _LOST if self.leased else _FINISHED

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.CANCEL, tx.now_ms, reason=limits.cut_reason(self.reason))


class Replay(Settlement, frozen=True):
    """An operator's word: try again now. A dead letter starts over with both counts 0.

    ``dead_only``: what waits for a retry is left alone.
    """

    dead_only: bool = False

    def accepts(self, run: Run, now_ms: int) -> bool:
        return run.state == State.DEAD or (run.state == State.WAITING and not self.dead_only)

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        if run.state == State.WAITING:
            return move(run, Event.REPLAY, tx.now_ms, reason=run.reason)
        return move(
            run, Event.REPLAY, tx.now_ms, delivery_count=0, failure_count=0, reason=run.reason
        )


class Drop(Replay, frozen=True):
    """An operator's word: give it up, whether dead or waiting."""

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.DROP, tx.now_ms, reason="dropped by an operator")


def settle_in(
    tx: Tx,
    subscriber_id: int,
    settlement: Settlement | Sequence[Settlement],
    handles: Sequence[Handle],
) -> list[Settled]:
    """Settle deliveries, each for itself: all alike, or each by a settlement of its own.

    Returns an outcome for each message, in the order of ``handles``. Raises
    SubscriberNotFound.
    """
    found = subscriber(tx, subscriber_id)
    if isinstance(settlement, Settlement):
        return _settle_alike(tx, found, settlement, handles)
    settled: list[Settled] = []
    pairs = zip(settlement, handles, strict=True)
    for each, group in itertools.groupby(pairs, operator.itemgetter(0)):
        settled += _settle_alike(tx, found, each, [handle for _, handle in group])
    return settled


def _settle_alike(
    tx: Tx, found: Subscriber, settlement: Settlement, handles: Sequence[Handle]
) -> list[Settled]:
    settled: list[list[Settled]] = [[] for _ in handles]
    lanes: dict[int, list[int]] = {}
    for index, handle in enumerate(handles):
        lanes.setdefault(handle.priority, []).append(index)
    for priority, indexes in lanes.items():
        end_seq = _lane_end(tx, found.topic_id, priority)
        if end_seq is None:
            for index in indexes:
                settled[index] = [_UNKNOWN] * handles[index].count
            continue
        cursor = Cursor.open(tx, found.id, priority)
        indexes.sort(key=lambda index: handles[index].seq)
        pieces = [_Piece(handles[index], settled[index]) for index in indexes]
        if _Lane(tx, found, cursor, settlement, end_seq).settle(pieces):
            cursor.save()
            if not isinstance(settlement, Ack):
                tx.helped.add(found.topic_id)
    return [outcome for outcomes in settled for outcome in outcomes]


def _lane_end(tx: Tx, topic_id: int, priority: int) -> int | None:
    row = tx.row(
        "SELECT end_seq FROM lane WHERE topic_id = ? AND priority = ?", (topic_id, priority)
    )
    return None if row is None else int(row[0])


class _Piece:
    """What is left to settle of a handle: [first_seq, end_seq), and where to say how it went."""

    __slots__ = ("end_seq", "first_seq", "handle", "settled")

    def __init__(self, handle: Handle, settled: list[Settled]) -> None:
        self.handle = handle
        self.first_seq = handle.seq
        self.end_seq = handle.seq + handle.count
        self.settled = settled


class _Lane:
    """The part of one ``settle_in`` that concerns one lane."""

    def __init__(
        self,
        tx: Tx,
        subscriber: Subscriber,
        cursor: Cursor,
        settlement: Settlement,
        lane_end_seq: int,
    ) -> None:
        self.tx = tx
        self.lane_end_seq = lane_end_seq
        self.subscriber = subscriber
        self.cursor = cursor
        self.settlement = settlement

    def settle(self, pieces: Sequence[_Piece]) -> bool:
        """Settle ``pieces``, ordered by ``first_seq``. Returns whether a row has changed."""
        changed = False
        start = 0
        while start < len(pieces):
            piece = pieces[start]
            run = self.cursor.find(piece.first_seq)
            if run is None:
                changed = self._settle_rowless(piece) or changed
            else:
                changed = self._settle_run(run, pieces, start) or changed
            while start < len(pieces) and pieces[start].first_seq == pieces[start].end_seq:
                start += 1
        return changed

    def _settle_rowless(self, piece: _Piece) -> bool:
        """Settle the next message of ``piece``: never handed out, or its history is gone."""
        seq, handle = piece.first_seq, piece.handle
        piece.first_seq += 1
        pending = self.cursor.next_seq <= seq < self.lane_end_seq
        if not (pending and self._is_here(handle) and self._names(handle, seq)):
            piece.settled.append(_UNKNOWN)
            return False
        if handle.proof is not None:  # from a claim that was rolled back, perhaps
            piece.settled.append(_LOST)
            return False
        if not self.settlement.accepts_pending():
            piece.settled.append(self.settlement.refusal(handle))
            return False
        fresh = Run(seq, 1, State.PENDING)
        moved = self.settlement.apply(self.tx, self.subscriber, self.cursor.priority, fresh)
        self.cursor.place(moved)
        piece.settled.append(Settled(Outcome.DONE, State(moved.state), moved.due_ms))
        return True

    def _settle_run(self, run: Run, pieces: Sequence[_Piece], start: int) -> bool:
        """Settle what ``pieces`` name of one run, carving from the left to the right."""
        rest, changed = run, False
        first_seq = end_seq = pieces[start].first_seq  # the stretch that passed the check
        passed: list[tuple[_Piece, int]] = []
        for piece in itertools.islice(pieces, start, None):
            if not end_seq <= piece.first_seq < run.end_seq:
                break  # in another run, or named twice: that is looked at again
            stop_seq = min(piece.end_seq, run.end_seq)
            check = self._check(run, piece.handle)
            if check is not None:
                piece.settled += [check] * (stop_seq - piece.first_seq)
            else:
                if piece.first_seq != end_seq:
                    rest = self._apply(rest, first_seq, end_seq, passed)
                    first_seq, passed = piece.first_seq, []
                passed.append((piece, stop_seq - piece.first_seq))
                end_seq, changed = stop_seq, True
            piece.first_seq = stop_seq
        self._apply(rest, first_seq, end_seq, passed)
        return changed

    def _apply(
        self, rest: Run, first_seq: int, end_seq: int, passed: Sequence[tuple[_Piece, int]]
    ) -> Run:
        """Settle [first_seq, end_seq) and return what is right of it in the run."""
        if not passed:
            return rest
        part = self.cursor.carve(rest, first_seq, end_seq - first_seq)
        moved = self.settlement.apply(self.tx, self.subscriber, self.cursor.priority, part)
        self.cursor.place(moved)
        done = Settled(Outcome.DONE, State(moved.state), moved.due_ms)
        for piece, count in passed:
            piece.settled += [done] * count
        return rest.part(end_seq, rest.end_seq - end_seq)

    def _check(self, run: Run, handle: Handle) -> Settled | None:
        """Return None if the handle may settle ``run``, else what to answer."""
        if not self._is_here(handle):
            return _UNKNOWN
        if self._proven(run, handle):
            if self.settlement.accepts(run, self.tx.now_ms):
                return None
            if self.settlement.repeats(run, handle):
                return Settled(Outcome.DONE, State(run.state))
            return self.settlement.refusal(handle)
        return _LOST if self._names(handle, handle.seq) else _UNKNOWN

    def _proven(self, run: Run, handle: Handle) -> bool:
        if isinstance(handle.proof, int):
            return handle.proof == run.generation
        if handle.proof is None:
            return self._names(handle, handle.seq)
        token = receipt_token(
            self.tx.store.receipt_secret,
            self.subscriber.id,
            handle.priority,
            handle.seq,
            handle.tag,
            run.generation,
        )
        return compare_digest(token.encode(), handle.proof.encode(errors="replace"))

    def _is_here(self, handle: Handle) -> bool:
        """Say whether the handle is one of this topic and subscriber, as far as it says."""
        return handle.topic_id in (None, self.subscriber.topic_id) and handle.subscriber_id in (
            None,
            self.subscriber.id,
        )

    def _names(self, handle: Handle, seq: int) -> bool:
        """Say whether the handle names the message at ``seq``."""
        if isinstance(handle.proof, int):
            return True  # it comes from a delivery of this process
        try:
            block = self.tx.block(self.subscriber.topic_id, handle.priority, seq)
        except CorruptBlock:
            return True  # nobody can tell any more; an operator must be able to drop it
        return block.segment(seq).tag == handle.tag


settle = verb(settle_in)
