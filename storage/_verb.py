"""How a verb that runs inside a transaction becomes one that makes its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from ._snapshot import Tx
from ._store import Store

P = ParamSpec("P")
R = TypeVar("R")


def verb(inside: Callable[Concatenate[Tx, P], R]) -> Callable[Concatenate[Store, P], R]:
    """Return the stand-alone form of ``verb_in(tx, …)``: the same in its own transaction."""

    def alone(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with store.transaction() as tx:
            value = inside(tx, *args, **kwargs)
        store.tidy()
        return value

    alone.__name__ = inside.__name__.removesuffix("_in")
    alone.__doc__ = inside.__doc__
    return alone
