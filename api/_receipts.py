"""What a publish returns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import overload

from blockqueue.storage import Published


class Receipt:
    """What a publish returns: the message is on the disk, or staged in a transaction."""

    __slots__ = ("_index", "_published", "state")

    def __init__(self, published: Published, index: int, state: str = "persisted") -> None:
        self._published = published
        self._index = index
        #: "persisted", or "staged": it was, if the transaction it was published in commits.
        self.state = state

    @property
    def id(self) -> str:
        """The message's id, by which every view names it."""
        return self._published.id(self._index)

    @property
    def scheduled_at(self) -> datetime:
        """When it becomes visible, by the queue's clock."""
        return from_ms(self._published.visible_ms)

    @property
    def duplicate(self) -> bool:
        """Whether an earlier publish with the same idempotency key has written it."""
        return self._published.duplicate

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Receipt {self.id}>"


class Receipts(Sequence[Receipt]):
    """The receipts of ``publish_many``, in the order of the messages, made when looked at."""

    def __init__(self, published: Sequence[Published], state: str = "persisted") -> None:
        self._published = published
        self._state = state
        self._ends = list(itertools.accumulate(each.count for each in published))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Receipt]:
        for each in self._published:
            for index in range(each.count):
                yield Receipt(each, index, self._state)

    @overload
    def __getitem__(self, index: int) -> Receipt: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Receipt]: ...

    def __getitem__(self, index: int | slice) -> Receipt | Sequence[Receipt]:
        if isinstance(index, slice):
            return list(self)[index]
        index = range(len(self))[index]
        for each in self._published:
            if index < each.count:
                return Receipt(each, index, self._state)
            index -= each.count
        raise AssertionError("the index is in range")


def from_ms(ms: int) -> datetime:
    """Return a time of the queue as a datetime in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)
