"""Lists in pages: each page says where the next one begins, however much changes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

#: Where a page begins: after the item that has these values.
After = tuple[Any, ...]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list. ``after``: what to give for the next page; None: this is the last."""

    items: list[T]
    after: After | None = None


def page_of(found: Iterable[T], limit: int, place: Callable[[T], After]) -> Page[T]:
    """Return the first ``limit`` of what was found; ``place`` says where an item stands."""
    items = list(islice(found, limit + 1))
    if len(items) <= limit:
        return Page(items)
    del items[limit:]
    return Page(items, place(items[-1]))
