"""A subscriber's place in one lane, and the two primitives every operation is made of.

*carve* cuts messages out of the row that holds them, leaving 0 to 2 remainders; *place*
puts a run back, *joining* it with its neighbours where both are history. Between the two
a transition changes the run's state. Counts change here, beside the rows, and nowhere else.

Invariants, true whenever ``save`` has returned:
- rows of one lane never overlap, and none is empty;
- no row covers ``next_seq``: the cursor has moved past every row it met;
- the counts and due times equal what the rows say.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._runs import COLUMNS, Run
from ._snapshot import Row, Snapshot, Tx
from ._states import State

_LANE = "subscriber_id = ? AND priority = ?"
_ROW = f"{_LANE} AND first_seq = ? AND count = ? AND state = ? AND generation = ?"

_INSERT = f"""INSERT INTO delivery (subscriber_id, priority, {COLUMNS})
              VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_RESIZE = f"UPDATE delivery SET first_seq = ?, count = ? WHERE {_ROW}"
_DELETE = f"DELETE FROM delivery WHERE {_ROW}"
_AT_OR_BELOW = f"""SELECT {COLUMNS} FROM delivery WHERE {_LANE} AND first_seq <= ?
                   ORDER BY first_seq DESC LIMIT 1"""
_AT = f"SELECT {COLUMNS} FROM delivery WHERE {_LANE} AND first_seq = ?"
_BETWEEN = f"""SELECT {COLUMNS} FROM delivery WHERE {_LANE} AND first_seq >= ? AND first_seq < ?
               ORDER BY first_seq"""
_DUE = f"""SELECT {COLUMNS} FROM delivery WHERE {_LANE} AND state = ? AND due_ms <= ?
           ORDER BY due_ms, first_seq LIMIT 1"""
_EARLIEST = f"""(SELECT min(due_ms) FROM delivery
                 WHERE {_LANE} AND state = ? AND due_ms IS NOT NULL)"""
_LOAD = f"""SELECT start_seq, next_seq, waiting, leased, dead, ahead FROM cursor WHERE {_LANE}"""
_SAVE = f"""UPDATE cursor SET next_seq = ?, waiting = ?, leased = ?, dead = ?, ahead = ?,
            waiting_due_ms = {_EARLIEST}, lease_due_ms = {_EARLIEST} WHERE {_LANE}"""
_SAVE_COUNTS = f"""UPDATE cursor SET next_seq = ?, waiting = ?, leased = ?, dead = ?, ahead = ?
                   WHERE {_LANE}"""
#: What a subscriber has in all its lanes, where these are joined with its cursors.
COUNTS = """
    coalesce(sum(end_seq - coalesce(next_seq + ahead - waiting, 0)), 0) AS pending,
    coalesce(sum(waiting), 0) AS waiting, coalesce(sum(leased), 0) AS leased,
    coalesce(sum(dead), 0) AS dead"""
_CREATE = """INSERT INTO cursor (subscriber_id, priority, start_seq, next_seq,
             waiting, leased, dead, ahead) VALUES (?, ?, 0, 0, 0, 0, 0, 0)"""


class Cursor:
    """One subscriber in one lane, within one transaction. Ends with ``save``."""

    @classmethod
    def open(cls, tx: Tx, subscriber_id: int, priority: int) -> Cursor:
        """Return the cursor in a lane of the subscriber's topic, making it if need be."""
        cursor = cls.find_in(tx, subscriber_id, priority)
        if cursor is not None:
            return cursor
        # The lane was born after the subscriber, or there would be a row.
        tx.change(_CREATE, (subscriber_id, priority))
        return cls(tx, subscriber_id, priority, (0, 0, 0, 0, 0, 0))

    @classmethod
    def find_in(cls, tx: Tx, subscriber_id: int, priority: int) -> Cursor | None:
        """Return the cursor if the subscriber ever came to use the lane."""
        found = tx.row(_LOAD, (subscriber_id, priority))
        return None if found is None else cls(tx, subscriber_id, priority, found)

    def __init__(self, tx: Tx, subscriber_id: int, priority: int, found: Row) -> None:
        self.tx = tx
        self.priority = priority
        self._lane = (subscriber_id, priority)
        self.start_seq: int = found[0]
        self.next_seq: int = found[1]
        #: Messages by state, indexed by WAITING, LEASED, DEAD; history is not counted.
        self._counts: list[int] = [found[3], found[2], found[4], 0, 0]
        self.ahead: int = found[5]
        self._due_changed = False

    @property
    def waiting(self) -> int:
        return self._counts[State.WAITING]

    @property
    def leased(self) -> int:
        return self._counts[State.LEASED]

    @property
    def has_unfinished(self) -> bool:
        return any(self._counts)

    def find(self, seq: int) -> Run | None:
        """Return the run that holds ``seq``, or None: pending or done."""
        return run_at(self.tx, *self._lane, seq)

    def between(self, first_seq: int, end_seq: int) -> Iterator[Run]:
        """Yield the runs that touch [first_seq, end_seq), read beforehand."""
        before = self.find(first_seq - 1) if first_seq else None
        if before is not None and before.end_seq > first_seq:
            yield before
        for row in self.tx.rows(_BETWEEN, (*self._lane, first_seq, end_seq)):
            yield Run(*row)

    def first_due(self, state: State, now_ms: int) -> Run | None:
        """Return the run in ``state`` that has been due the longest, if any is due."""
        row = self.tx.row(_DUE, (*self._lane, int(state), now_ms))
        return None if row is None else Run(*row)

    def carve(self, run: Run, first_seq: int, count: int) -> Run:
        """Cut [first_seq, first_seq + count) out of ``run``, a row, and return that part."""
        end_seq = first_seq + count
        assert run.first_seq <= first_seq < end_seq <= run.end_seq
        left, right = first_seq - run.first_seq, run.end_seq - end_seq
        row = (*self._lane, run.first_seq, run.count, run.state, run.generation)
        if left:
            self.tx.change(_RESIZE, (run.first_seq, left, *row))
            if right:
                self._insert(run.part(end_seq, right))
        elif right:
            self.tx.change(_RESIZE, (end_seq, right, *row))
        else:
            self.tx.change(_DELETE, row)
        self._count(run, first_seq, -count)
        return run.part(first_seq, count)

    def place(self, run: Run) -> None:
        """Put ``run`` into the lane, where no row may be, joining history with history."""
        self._count(run, run.first_seq, run.count)
        if run.is_history():
            self._join(run)
        else:
            self._insert(run)

    def _join(self, run: Run) -> None:
        left = self.find(run.first_seq - 1) if run.first_seq else None
        if left is not None and not left.joins(run):
            left = None
        at_end = self.tx.row(_AT, (*self._lane, run.end_seq))
        right = None if at_end is None else Run(*at_end)
        if right is not None and not right.joins(run):
            right = None
        if right is not None:
            row = (*self._lane, right.first_seq, right.count, right.state, right.generation)
            if left is None:
                self.tx.change(_RESIZE, (run.first_seq, run.count + right.count, *row))
                return
            self.tx.change(_DELETE, row)
        if left is None:
            self._insert(run)
            return
        count = left.count + run.count + (right.count if right is not None else 0)
        row = (*self._lane, left.first_seq, left.count, left.state, left.generation)
        self.tx.change(_RESIZE, (left.first_seq, count, *row))

    def erase_history(self, first_seq: int, end_seq: int) -> bool:
        """Forget the history of messages that are being removed, below the cursor only.

        Returns whether there was any.
        """
        assert end_seq <= self.next_seq
        runs = list(self.between(first_seq, end_seq))
        for run in runs:
            assert run.is_history()
            start, end = max(run.first_seq, first_seq), min(run.end_seq, end_seq)
            self.carve(run, start, end - start)
        return bool(runs)

    def _insert(self, run: Run) -> None:
        values = (
            run.first_seq,
            run.count,
            run.state,
            run.due_ms,
            run.since_ms,
            run.delivery_count,
            run.failure_count,
            run.generation,
            run.reason,
        )
        self.tx.change(_INSERT, self._lane + values)

    def _count(self, run: Run, first_seq: int, count: int) -> None:
        self._counts[run.state] += count
        if first_seq >= self.next_seq:
            self.ahead += count
        if run.due_ms is not None:
            self._due_changed = True

    def advance(self, end_seq: int) -> None:
        """Move the cursor to ``end_seq``, over messages that have been placed."""
        self.ahead -= end_seq - self.next_seq
        self.next_seq = end_seq

    def skip_rows(self) -> None:
        """Move the cursor past the rows it has met, so that no row covers it."""
        while self.ahead:
            run = self.find(self.next_seq)
            if run is None:
                break
            self.advance(run.end_seq)

    def save(self) -> None:
        """Write the cursor. Nothing that this object did is whole before that."""
        self.skip_rows()
        counts = self._counts
        values = (
            self.next_seq,
            counts[State.WAITING],
            counts[State.LEASED],
            counts[State.DEAD],
            self.ahead,
        )
        assert min(values) >= 0
        if self._due_changed:
            waiting, leased = (*self._lane, int(State.WAITING)), (*self._lane, int(State.LEASED))
            self.tx.change(_SAVE, values + waiting + leased + self._lane)
        else:
            self.tx.change(_SAVE_COUNTS, values + self._lane)


def run_at(snapshot: Snapshot, subscriber_id: int, priority: int, seq: int) -> Run | None:
    """Return the run that holds ``seq``, or None: pending or done."""
    row = snapshot.row(_AT_OR_BELOW, (subscriber_id, priority, seq))
    if row is None or row[0] + row[1] <= seq:
        return None
    return Run(*row)


def pending(snapshot: Snapshot, subscriber_id: int) -> tuple[int, int, int]:
    """Return a subscriber's messages (to hand out, leased, dead), without scanning rows."""
    row = snapshot.row(
        f"SELECT {COUNTS} FROM subscriber JOIN lane USING (topic_id)"
        " LEFT JOIN cursor ON subscriber_id = subscriber.id AND cursor.priority = lane.priority"
        " WHERE subscriber.id = ?",
        (subscriber_id,),
    )
    assert row is not None
    found, _, leased, dead = row
    return found, leased, dead
