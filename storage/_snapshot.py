"""What a transaction sees: a consistent view, and one that can change things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import apsw

from ._blocks import BlockKey
from ._errors import CorruptBlock
from ._frames import Block, unpack_frame

if TYPE_CHECKING:
    from ._store import Store

Row = tuple[Any, ...]


class Snapshot:
    """A consistent view of the database, good until its ``with`` block ends."""

    def __init__(self, store: Store, connection: apsw.Connection, now_ms: int) -> None:
        self.store = store
        self.now_ms = now_ms
        self._connection = connection
        self.execute = connection.execute

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """Return the first row, or None."""
        found: Row | None = self.execute(sql, params).fetchone()
        return found

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        found: list[Row] = self.execute(sql, params).fetchall()
        return found

    def block(self, topic_id: int, priority: int, seq: int) -> Block:
        """Return the block that holds ``seq``. Raises CorruptBlock, also if there is none."""
        found = self.row(
            "SELECT first_seq, count FROM block WHERE topic_id = ? AND priority = ?"
            " AND first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
            (topic_id, priority, seq),
        )
        if found is None or seq >= found[0] + found[1]:
            text = f"block topic={topic_id} priority={priority} holding seq={seq} is missing"
            raise CorruptBlock(text, self._next_block_seq(topic_id, priority, seq))
        first_seq, count = found
        key = (topic_id, priority, first_seq, count)
        block = self.store.blocks.get(key)
        if block is None:
            data = self.row(
                "SELECT data FROM block WHERE topic_id = ? AND priority = ? AND first_seq = ?",
                key[:3],
            )
            assert data is not None
            block = unpack_frame(data[0], *key)
            self._keep(key, block)
        return block

    def _keep(self, key: BlockKey, block: Block) -> None:
        self.store.blocks.put(key, block)

    def _next_block_seq(self, topic_id: int, priority: int, seq: int) -> int:
        found = self.row(
            "SELECT min(first_seq) FROM block"
            " WHERE topic_id = ? AND priority = ? AND first_seq > ?",
            (topic_id, priority, seq),
        )
        return 2**63 - 1 if found is None or found[0] is None else int(found[0])


class Tx(Snapshot):
    """A write transaction. What it did is on the disk when its ``with`` block has ended."""

    def __init__(self, store: Store, connection: apsw.Connection, now_ms: int) -> None:
        super().__init__(store, connection, now_ms)
        #: Leases were ended: once that is committed, the hint of the next one is corrected.
        self.swept = False
        #: The topics whose waiting consumers may find something, or must look anew.
        self.helped: set[int] = set()
        #: What it will have done, once it is committed: how often, by the meter's place.
        self.tally: dict[int, int] = {}
        self._written: set[tuple[int, int, int]] = set()

    @property
    def connection(self) -> apsw.Connection:
        return self._connection

    def wrote_block(self, topic_id: int, priority: int, first_seq: int) -> None:
        """Note a block that does not exist for anybody else yet."""
        self._written.add((topic_id, priority, first_seq))

    def _keep(self, key: BlockKey, block: Block) -> None:
        # After a rollback another block may get the same numbers.
        if key[:3] not in self._written:
            super()._keep(key, block)

    def count(self, place: int, count: int = 1) -> None:
        """Count what this transaction does, see ``meters.py``."""
        self.tally[place] = self.tally.get(place, 0) + count

    def change(self, sql: str, params: Sequence[Any]) -> None:
        """Run a guarded statement that must change exactly one row."""
        self.execute(sql, params)
        if self._connection.changes() != 1:
            raise RuntimeError(f"{self._connection.changes()} rows changed, not 1, by: {sql}")

    def change_each(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a guarded statement for each of ``rows``; each must change exactly one row."""
        before = self.total_changes()
        self._connection.executemany(sql, rows)
        changed = self.total_changes() - before
        if changed != len(rows):
            raise RuntimeError(f"{changed} rows changed, not {len(rows)}, by: {sql}")

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        return self._connection.changes()

    def total_changes(self) -> int:
        return self._connection.total_changes()
