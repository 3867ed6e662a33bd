"""A transaction that holds a program's own writes, and what it says to the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from peewee import Database, Model

from blockqueue.storage import Conflict, ForeignTx, Tx, topic_named

from ._binding import Binding

if TYPE_CHECKING:
    from ._face import Face

R = TypeVar("R")


class Transaction:
    """Opened by ``BlockQueue.transaction``, and used on the same thread until its block ends.

    ``execute`` is for plain SQL, ``bind`` and ``database`` for Peewee's models, on tables of
    your own in the queue's file. ``tx=`` of publishes and settlements makes them part of it.
    Errors of SQL are apsw's, or Peewee's.
    """

    def __init__(self, queue: Face, foreign: ForeignTx) -> None:
        self._queue = queue
        self._foreign = foreign
        self._binding = Binding()
        self._on_end: list[Callable[[bool], object]] = []

    def execute(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """Run a statement, or several; return the rows as tuples."""
        return self._foreign.execute(sql, params)

    @property
    def changes(self) -> int:
        """How many rows the last statement has changed."""
        return self._foreign.changes()

    @property
    def database(self) -> Database:
        """The transaction as a Peewee database: ``query.execute(tx.database)``."""
        return self._foreign.database

    def bind(self, *models: type[Model]) -> None:
        """Let models, and those they refer to, use this transaction until it ends.

        On this thread only: for others they stay bound to what they were.
        """
        with self._foreign.using():
            database = self.database
        self._binding.bind(models, database)

    def run(self, queue: Face, topic: str, verb: Callable[[Tx, int], R]) -> R:
        """Run a verb on a topic in it, for ``queue``. Who waits learns it at the end."""
        if queue is not self._queue:
            raise Conflict("the transaction is another queue's")

        def on_topic(tx: Tx) -> R:
            topic_id = topic_named(tx, topic).id
            self._foreign.topics.add(topic_id)
            return verb(tx, topic_id)

        return self._foreign.run(on_topic)

    def on_end(self, callback: Callable[[bool], object]) -> None:
        """Call ``callback`` when it has ended, with whether it was committed."""
        self._on_end.append(callback)

    def end(self, committed: bool) -> None:
        """Let go of everything."""
        self._binding.end()
        for callback in self._on_end:
            callback(committed)
