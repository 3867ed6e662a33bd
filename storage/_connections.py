"""A store's connections: the one that writes, those that read, and what a fork does to them."""

from __future__ import annotations

import os
import queue

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from ._clock import Clock
from ._database import connect, errors_named, place_of
from ._disk import disk_error
from ._errors import BlockQueueError, QueueClosed
from ._turns import Turns

READERS_MAX = 4
# How long a fork waits for those who use the store to be done.
_FORK_S = 10.0


class Connections:
    """What a store stands on. ``failed``: why it refuses all work."""

    turns: Turns
    clock: Clock
    _connection: apsw.Connection
    _db: APSWDatabase

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = place_of(path)
        self.failed: BlockQueueError | None = None
        self._closed = self._abandoned = False
        self._readers: queue.LifoQueue[APSWDatabase | None] = queue.LifoQueue()
        for _ in range(READERS_MAX):
            self._readers.put(None)
        # These two are guarded by the lock of ``turns``, as are _db and _connection.
        self._pages_written = 0  # to the log, by this connection
        self._pages_moved = 0  # of these, how many a checkpoint was tried on

    def check_usable(self) -> None:
        """Raise if it is closed, or has met an error that only opening it anew can heal."""
        if self.failed is not None:
            raise self.failed
        if self._closed:
            raise QueueClosed("the queue is closed")

    def _named(self, error: apsw.Error) -> BlockQueueError | None:
        """Name an error that came before the commit; a fatal one ends all work."""
        named, fatal = disk_error(error, self.path)
        if fatal:
            self.failed = self.failed or named
        return named

    def _connect_reader(self) -> APSWDatabase:
        with errors_named(self.path):
            try:
                return connect(self.path, read_only=True)
            except (apsw.Error, peewee.PeeweeException) as error:
                cause = error.__cause__ or error.__context__ or error
                if isinstance(cause, apsw.Error) and self._named(cause) is not None:
                    raise cause from error
                raise

    def before_fork(self) -> bool:
        """Close all connections and hold back whoever wants one, until ``after_fork``.

        SQLite notes a process's locks in its memory. A child with those notes would not take
        the locks it needs, and lose its log to whoever closes last; and a mutex that another
        thread holds would be held there for ever. False: this thread is using the store.
        """
        if self.turns.is_mine or not self.turns.lock.acquire(timeout=_FORK_S):
            return False
        if not self.turns.await_guest(self.clock, _FORK_S):
            self.turns.lock.release()
            return False
        taken: list[APSWDatabase | None] = []
        try:
            while len(taken) < READERS_MAX:
                taken.append(self._readers.get(timeout=_FORK_S))
        except queue.Empty:
            for db in taken:
                self._readers.put(db)
            self.turns.lock.release()
            return False
        if not self._closed:
            self.turns.file.acquire()  # whoever closes last checkpoints
        try:
            for db in (*taken, self._db):
                if db is not None:
                    db.close()
        finally:
            self.turns.file.release()
        return True

    def after_fork(self) -> None:
        """Go on in the parent, after ``before_fork`` has returned True."""
        try:
            if not self._closed:
                with errors_named(self.path):
                    self._db = connect(self.path)
                self._connection = self._db.connection()
                self._pages_written = self._pages_moved = 0
        except BlockQueueError as error:
            self.failed = error
        finally:
            for _ in range(READERS_MAX):
                self._readers.put(None)
            self.turns.lock.release()

    def abandon(self) -> None:
        """Let go of everything in a forked child, without touching what the parent uses.

        The connections are kept, unused, for the rest of the process: closing them here
        could remove the log under the parent's feet.
        """
        _abandoned.append((self._db, self._readers))
        self._closed = self._abandoned = True
        self.turns.abandon()


_abandoned: list[object] = []
