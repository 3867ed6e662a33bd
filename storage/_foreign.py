"""A caller's own statements inside one of our transactions, and our verbs beside them."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import apsw
from playhouse.apsw_ext import APSWDatabase

from ._errors import Conflict, TransactionExpired, Unavailable, ValidationError
from ._guard import Guard
from ._snapshot import Row, Tx
from ._store import Store

R = TypeVar("R")

# All other writers wait for it.
OPEN_MS = 5_000
OPEN_MS_MAX = 60_000


class ForeignTx:
    """A transaction in the hands of a caller, on the thread that opened it.

    Each use of it checks that it is this thread, that it is not too late, and that SQLite
    has not rolled it back; and holds the store's lock, so that it can be put out in between
    by those who wait for it. It is the ``Guest`` of its store.
    """

    def __init__(self, tx: Tx, open_ms: int) -> None:
        self.tx = tx
        self.due_ms = tx.now_ms + open_ms
        self._open_ms = open_ms
        self._connection = connection = tx.connection
        self._thread = threading.get_ident()
        self._ended = self._is_out = False
        guard = connection.authorizer
        if not isinstance(guard, Guard):  # to set it anew would expire all that is compiled
            connection.authorizer = guard = Guard()
        self._guard = guard
        guard.watches = True  # all the time but for ours: some is compiled as rows are read
        self._cursors: weakref.WeakSet[_Cursor] = weakref.WeakSet()
        #: The topics for which its commit may help somebody who waits.
        self.topics: set[int] = set()

    @functools.cached_property
    def database(self) -> APSWDatabase:
        """It as a database of Peewee's."""
        return _Database(self, self._connection)

    def execute(self, sql: str, params: Any = ()) -> list[Row]:
        """Run a caller's statements; return the rows."""
        try:
            found: list[Row] = self.cursor().execute(sql, params).fetchall()
        except apsw.AuthError as error:
            raise ValidationError(
                "in a transaction of the queue, statements may not change the queue's own tables, "
                "begin or end the transaction, attach a file, or make what is temporary"
            ) from error
        return found

    def cursor(self) -> _Cursor:
        cursor = _Cursor(self, self._connection)
        with self.tx.store.turns.lock:  # whoever puts it out goes through them
            self._cursors.add(cursor)
        return cursor

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        with self.using():
            return self._connection.changes()

    def run(self, verb: Callable[[Tx], R]) -> R:
        """Run one of our verbs; it has no effect if it raises."""
        with self.using():
            self._guard.watches = False
            self._connection.__enter__()  # a savepoint
            counted = dict(self.tx.tally)
            try:
                value = verb(self.tx)
            except BaseException as error:
                self.tx.tally = counted
                if self._connection.in_transaction:  # else SQLite has rolled back all of it
                    self._connection.__exit__(type(error), error, error.__traceback__)
                raise
            else:
                self._connection.__exit__(None, None, None)
            finally:
                self._guard.watches = True
            return value

    @contextmanager
    def using(self) -> Iterator[None]:
        """Hold the lock while the connection is used for it. Raises if it can't be used."""
        if threading.get_ident() != self._thread:
            self.tx.store.check_usable()
            raise Conflict("a transaction is used on the thread that opened it")
        with self.tx.store.turns.lock:
            self.check()
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock while a row is read: nobody can put it out meanwhile."""
        with self.tx.store.turns.lock:
            self._check_in()
            yield

    def check(self) -> None:
        """Raise unless it can be used. One that is too late is put out at once."""
        if self._ended:
            raise Conflict("the transaction has ended")
        self.tx.store.check_usable()  # a forked child may have come here with its parent's
        if not self._is_out:
            self.tx.store.put_out_guest()
        self._check_in()
        if not self._connection.in_transaction:
            raise Unavailable("the transaction has been rolled back; nothing was written")

    def _check_in(self) -> None:
        if self._is_out:
            raise TransactionExpired(
                f"the transaction was open for more than {self._open_ms / 1000:g} s, and all "
                "others waited: it has been rolled back, nothing was written"
            )

    def put_out(self) -> bool:
        try:
            self.leave()
            self.tx.store.roll_back()
        except apsw.ThreadingViolationError:  # Peewee is using the connection by itself
            return False
        self._is_out = True
        return True

    def leave(self) -> None:
        """Let nothing of it stay on the connection.

        A statement that is read half would keep the connection at this moment of the file: as
        soon as another process had written, it could never write again.
        """
        for cursor in list(self._cursors):
            cursor.close(True)
        self._guard.watches = False

    def end(self) -> None:
        self._ended = True


class _Cursor(apsw.Cursor):
    """Runs a caller's statements.

    Never one of ours that is compiled already: the guard would not be asked again.
    """

    def __init__(self, foreign: ForeignTx, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._foreign = foreign

    def execute(self, statements: str, bindings: Any = None, **_: Any) -> apsw.Cursor:
        with self._foreign.using():
            return super().execute(statements, bindings, can_cache=False)

    def fetchone(self) -> Any:
        with self._foreign.reading():
            return super().fetchone()

    def fetchall(self) -> list[Row]:
        with self._foreign.reading():
            return super().fetchall()

    def __next__(self) -> Any:
        with self._foreign.reading():
            return super().__next__()


class _Database(APSWDatabase):
    """The transaction as a database of Peewee's. ``atomic`` is a savepoint in it."""

    def __init__(self, foreign: ForeignTx, connection: apsw.Connection) -> None:
        self._opened = False  # or Peewee would register its functions once more
        super().__init__(":memory:", thread_safe=False)  # type: ignore[no-untyped-call]
        self._foreign = foreign
        self._connection = connection
        self._opened = True
        self.push_transaction(self)

    def connection(self) -> apsw.Connection:
        with self._foreign.using():
            return self._connection

    def cursor(self, *_: Any, **__: Any) -> apsw.Cursor:
        return self._foreign.cursor()

    def is_closed(self) -> bool:
        return not self._opened

    def close(self) -> bool:
        """Leave it open: the connection is the queue's."""
        return False


@contextmanager
def foreign_transaction(store: Store, open_ms: int = OPEN_MS) -> Iterator[ForeignTx]:
    """Open a transaction of ``store`` for a caller on this thread; see ``Store.transaction``.

    After ``open_ms`` it is rolled back, whatever the caller does; its next use, or its end,
    raises TransactionExpired then.
    """
    foreign = store.admit(lambda tx: ForeignTx(tx, open_ms))
    try:
        yield foreign
    except BaseException as error:
        store.dismiss(foreign, error)
        raise
    else:
        store.dismiss(foreign, None)
    finally:
        foreign.end()
