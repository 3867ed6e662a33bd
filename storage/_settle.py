"""Settling: what a consumer or an operator says about deliveries, one verb for all of it.

``settle_in`` finds the runs, checks the receipts, carves, and places what the settlement
has made of each.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from hmac import compare_digest

from ._cursors import Cursor
from ._errors import CorruptBlock
from ._ids import receipt_token
from ._runs import Run
from ._settlements import LOST, UNKNOWN, Ack, Handle, Nack, Outcome, Settled, Settlement
from ._snapshot import Tx
from ._states import State
from ._subscriber import Subscriber
from ._topology import subscriber
from ._verb import verb
from .meters import DELIVERY_OPERATIONS, result_of


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
                settled[index] = _refused(tx, settlement, UNKNOWN, handles[index].count)
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


def _refused(tx: Tx, settlement: Settlement, settled: Settled, count: int) -> list[Settled]:
    """Return the outcomes of messages that were left as they are: refused, or done before."""
    if settled.outcome is not Outcome.DONE:
        result = "lease_lost" if settled.outcome is Outcome.LOST else "failed"
        tx.count(DELIVERY_OPERATIONS[settlement.operation, result], count)
    return [settled] * count


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
        refusal = None
        if not (pending and self._is_here(handle) and self._names(handle, seq)):
            refusal = UNKNOWN
        elif handle.proof is not None:  # from a claim that was rolled back, perhaps
            refusal = LOST
        elif not self.settlement.accepts_pending():
            refusal = self.settlement.refusal(handle)
        if refusal is not None:
            piece.settled += _refused(self.tx, self.settlement, refusal, 1)
            return False
        fresh = Run(seq, 1, State.PENDING)
        moved = self.settlement.apply(self.tx, self.subscriber, self.cursor.priority, fresh)
        self._place(moved)
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
                count = stop_seq - piece.first_seq
                piece.settled += _refused(self.tx, self.settlement, check, count)
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
        self._place(moved)
        done = Settled(Outcome.DONE, State(moved.state), moved.due_ms)
        for piece, count in passed:
            piece.settled += [done] * count
        return rest.part(end_seq, rest.end_seq - end_seq)

    def _place(self, moved: Run) -> None:
        self.cursor.place(moved)
        operation = self.settlement.operation
        result = result_of(moved) if operation == Nack.operation else "success"
        self.tx.count(DELIVERY_OPERATIONS[operation, result], moved.count)

    def _check(self, run: Run, handle: Handle) -> Settled | None:
        """Return None if the handle may settle ``run``, else what to answer."""
        if not self._is_here(handle):
            return UNKNOWN
        if self._proven(run, handle):
            if self.settlement.accepts(run, self.tx.now_ms):
                return None
            if self.settlement.repeats(run, handle):
                return Settled(Outcome.DONE, State(run.state))
            return self.settlement.refusal(handle)
        return LOST if self._names(handle, handle.seq) else UNKNOWN

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
