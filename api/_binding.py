"""Peewee's models in a transaction: on its thread only, whatever other threads do with them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from peewee import Database, DatabaseProxy, Model

_installing = threading.Lock()  # held while a model gets its router
_here = threading.local()  # .databases: of the transactions' models on this thread


class _Router(DatabaseProxy):
    """A model's database: the transaction's where there is one, else what it was before.

    It stays with the model: to take it away while other threads use it would be a race.
    """

    __slots__ = ("_before", "_model")

    def __init__(self, model: type[Model], before: Any) -> None:
        object.__setattr__(self, "_callbacks", [])
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_before", before)

    @property
    def obj(self) -> Any:
        databases: dict[type[Model], Database] = getattr(_here, "databases", {})
        found = databases.get(self._model, self._before)
        return found.obj if isinstance(found, DatabaseProxy) else found


class Binding:
    """The models that one transaction has bound."""

    def __init__(self) -> None:
        self._models: set[type[Model]] = set()

    def bind(self, models: Iterable[type[Model]], database: Database) -> None:
        databases: dict[type[Model], Database] = _here.__dict__.setdefault("databases", {})
        for model in models:
            for _, related, _ in [(None, model, None), *model._meta.model_graph()]:
                self._install(related)
                databases[related] = database
                self._models.add(related)

    @staticmethod
    def _install(model: type[Model]) -> None:
        with _installing:
            before = model._meta.database
            if not isinstance(before, _Router):
                model._meta.set_database(_Router(model, before))

    def end(self) -> None:
        databases: dict[type[Model], Database] = getattr(_here, "databases", {})
        for model in self._models:
            databases.pop(model, None)
