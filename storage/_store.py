"""One database file, opened: its transactions, its readers, its clock.

``Store.transaction`` is the only way to write. It takes, in this order: the thread lock
of this store, the file lock that all processes share, and SQLite's write lock.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from ._blocks import BlockCache
from ._clock import BootClock, Clock, StoredClock
from ._database import check_place, connect, errors_named
from ._disk import disk_error
from ._errors import BlockQueueError, CommitUnknown, DiskFull, QueueClosed, Unavailable
from ._hints import Hints
from ._lock import FileLock
from ._schema import RECEIPT_SECRET, migrate, read_meta
from ._snapshot import Row, Snapshot, Tx
from ._space import MIN_FREE_BYTES, Space
from ._wal import check_log

logger = logging.getLogger("blockqueue")

_CACHE_BYTES = 16 * 1024 * 1024
_READERS_MAX = 4
# How long a fork waits for those who use the store to be done.
_FORK_S = 10.0
# After this many pages (4 MiB) the writer moves the log into the database. Small, because a
# log that is written over again commits twice as fast as one that grows.
_WAL_PAGES_MAX = 1000
_PAGE_BYTES = 4096
_SAVE_CLOCK = "UPDATE meta SET value = ? WHERE key = 'clock'"


class Store:
    """The database at ``path``, made if it is missing. Safe for any thread.

    After a disk error it refuses all work (``failed`` says why): only opening it anew
    tells what has been written. A forked child must not use it, see ``abandon``. With less
    than ``min_free_bytes`` free on the disk nothing is published.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.space = Space(self.path, min_free_bytes)
        self.failed: BlockQueueError | None = None
        self.blocks = BlockCache(_CACHE_BYTES)
        self._stored_clock: StoredClock | None = None  # None: the clock is the caller's
        self._closed = self._abandoned = False
        self._owner: int | None = None  # the thread inside a transaction
        self._write_lock = threading.Lock()  # guards _db, _owner and the two below
        self._pages_written = 0  # to the log, by this connection
        self._pages_moved = 0  # of these, how many a checkpoint was tried on
        self._needs_room = False  # the last transaction did not fit onto the disk
        self._own_commits = 0
        self._readers: queue.LifoQueue[APSWDatabase | None] = queue.LifoQueue()
        for _ in range(_READERS_MAX):
            self._readers.put(None)
        check_place(self.path)
        with errors_named(self.path):
            self._file_lock = FileLock(self.path + "-lock")
            try:
                self._file_lock.acquire()
                log = check_log(self.path)
                try:
                    with errors_named(self.path):
                        self._open(clock)
                except DiskFull:
                    if not self.space.throw_off():
                        raise
                    self._open(clock)
                self.space.look()
                self._file_lock.release()
            except BaseException:
                self._file_lock.close()
                raise
        if log.commits_after:  # what a power cut has left must not be met again
            self.checkpoint()

    def _open(self, clock: Clock | None) -> None:
        self._db = connect(self.path)
        self._connection: apsw.Connection = self._db.connection()
        try:
            migrate(self._db)
            with self._db.atomic("immediate"):
                self.secret = read_meta(self._db, "secret", lambda: secrets.token_bytes(32))
                # Changed by a restore: generations start again there, and receipts must not.
                self.receipt_secret = read_meta(self._db, RECEIPT_SECRET, lambda: self.secret)
                self.clock = clock or self._boot_clock()
            self.hints = Hints(self.path + "-hints", os.getpid())
            self._correct_lease_hint()
        except BaseException:
            self._db.close()
            raise

    def _correct_lease_hint(self) -> None:
        """Set the hint to what is committed. Only under the file lock is that still true."""
        found: Row | None = self._connection.execute(
            "SELECT min(lease_due_ms) FROM cursor WHERE lease_due_ms IS NOT NULL"
        ).fetchone()
        self.hints.set_lease_due(None if found is None else found[0])

    def _boot_clock(self) -> BootClock:
        packed = read_meta(self._db, "clock", StoredClock().pack)
        self._stored_clock = StoredClock.unpack(packed)
        clock = self._stored_clock.start()
        self._connection.execute(_SAVE_CLOCK, (self._stored_clock.pack(),))
        return clock

    def _tick(self, now_ms: int) -> None:
        """Note in the database, now and then, that time has come this far."""
        stored = self._stored_clock
        if stored is not None and stored.reach(now_ms):
            self._connection.execute(_SAVE_CLOCK, (stored.pack(),))

    @property
    def is_mine(self) -> bool:
        """Whether this thread is inside a transaction, so that it must not wait for another."""
        return self._owner == threading.get_ident()

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """Open a write transaction; it commits when the block ends without an exception.

        Raises:
            DiskFull, Unavailable: nothing was written.
            CommitUnknown: the disk failed; the store refuses all further work.
        """
        if self.is_mine:
            raise RuntimeError("this thread is inside a transaction already: use its tx")
        with self._write_lock:
            self.check_usable()
            committing = self._needs_room = False
            try:  # all of it, as Ctrl-C may strike a caller who is on the main thread
                self._file_lock.acquire()
                self.hints.count_turn()
                self._owner = threading.get_ident()
                self._connection.execute("BEGIN IMMEDIATE")
                now_ms = self.clock.now_ms()
                self._tick(now_ms)
                tx = Tx(self, self._connection, now_ms)
                yield tx
                self.check_usable()  # a forked child may have come here with its parent's tx
                committing = True
                self._connection.execute("COMMIT")
                self._committed(tx)
            except BaseException as error:
                named = self._undone(error, committing)
                if named is None:
                    raise
                raise named from error
            finally:
                self._owner = None
                self._file_lock.release()

    def _committed(self, tx: Tx) -> None:
        """Tell the other processes, while they still cannot write."""
        written, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
        if written != self._pages_written:
            self._pages_written = written
            self._own_commits += 1
            self.hints.count_commit()
        if tx.swept:
            self._correct_lease_hint()

    def _undone(self, error: BaseException, committing: bool) -> BlockQueueError | None:
        """Roll back, and name the error if it is the disk's."""
        if self._abandoned:
            return None  # the transaction is the parent's
        if not isinstance(error, apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return None
        # A caller's deferred constraint fails at the commit, and leaves the transaction open.
        if committing and not isinstance(error, apsw.FullError | apsw.ConstraintError):
            self.failed = CommitUnknown(
                f"the disk failed at the commit ({error}): the work may have been written or not"
            )
            return self.failed
        named = self._named(error)
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error as second:  # then nothing is known of this connection
                self.failed = self.failed or Unavailable(f"the disk failed ({second})")
        self._needs_room = isinstance(named, DiskFull)
        return named

    def _named(self, error: apsw.Error) -> BlockQueueError | None:
        """Name an error that came before the commit; a fatal one ends all work."""
        named, fatal = disk_error(error, self.path)
        if fatal:
            self.failed = self.failed or named
        return named

    def check_room(self) -> None:
        """Raise DiskFull or Unavailable if nothing may be published. Inside a transaction."""
        self.space.check(self._pages_written)

    @property
    def is_untidy(self) -> bool:
        """Whether ``tidy`` would have something to do."""
        if self.failed is not None:
            return False
        return self._pages_written - self._pages_moved >= _WAL_PAGES_MAX or self.space.log_is_due

    def tidy(self) -> None:
        """Move the log into the database if it has grown long. Not while anybody waits."""
        if self.is_untidy:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def make_room(self) -> bool:
        """Do what can be done if the last transaction has met a full disk.

        Returns whether trying it again may help.
        """
        if not self._needs_room or self.failed is not None:
            return False
        self._needs_room = False
        unmoved = self._pages_written - self._pages_moved
        thrown_off = self.space.throw_off()
        self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        return thrown_off or self._pages_written - self._pages_moved < unmoved

    def checkpoint(self) -> None:
        """Move all of the log into the database and empty it."""
        self.check_usable()
        self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _checkpoint(self, mode: int) -> None:
        with self._write_lock:
            if self._db.is_closed():
                return
            self._file_lock.acquire()
            self.hints.count_turn()
            try:
                try:
                    pages, moved = self._connection.wal_checkpoint(mode=mode)
                except apsw.FullError:
                    if not self.space.throw_off():
                        raise
                    pages, moved = self._connection.wal_checkpoint(mode=mode)
                self._pages_moved = self._pages_written
                self.space.note_log((pages - moved) * _PAGE_BYTES)
            except apsw.FullError:
                logger.warning("no room to checkpoint %s; it stays in its log", self.path)
            except apsw.BusyError:
                pass  # a reader is in the way: the next commit tries again
            except apsw.Error as error:
                self.failed = Unavailable(f"the disk failed at a checkpoint ({error})")
            finally:
                self._file_lock.release()

    @contextmanager
    def reading(self) -> Iterator[Snapshot]:
        """Open a consistent view for reading. Keep it short: it holds the log's start."""
        self.check_usable()
        db = self._readers.get()
        try:
            self.check_usable()  # again: it may have been closed while this one waited
            if db is None:
                db = self._connect_reader()
            connection: apsw.Connection = db.connection()
            connection.execute("BEGIN")
            try:
                yield Snapshot(self, connection, self.clock.now_ms())
            finally:
                if connection.in_transaction:  # an error of the disk ends it by itself
                    connection.execute("COMMIT")
        except apsw.Error as error:
            named = self._named(error)
            if named is None:
                raise
            raise named from error
        finally:
            self._readers.put(db)

    def _connect_reader(self) -> APSWDatabase:
        with errors_named(self.path):
            try:
                return connect(self.path, read_only=True)
            except (apsw.Error, peewee.PeeweeException) as error:
                cause = error.__cause__ or error.__context__ or error
                if isinstance(cause, apsw.Error) and self._named(cause) is not None:
                    raise cause from error
                raise

    @property
    def foreign_commits(self) -> int:
        """A number that rises with every commit of another process."""
        return self.hints.commits - self._own_commits

    def check_usable(self) -> None:
        """Raise if it is closed, or has met an error that only opening it anew can heal."""
        if self.failed is not None:
            raise self.failed
        if self._closed:
            raise QueueClosed("the queue is closed")

    def close(self) -> None:
        """Checkpoint and close. Safe to call again."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
        if self.failed is None:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with self._write_lock:
            for db in [self._readers.get() for _ in range(_READERS_MAX)]:
                if db is not None:
                    db.close()
                self._readers.put(None)  # whoever waits for one learns that it is closed
            self._file_lock.acquire()
            try:
                if self.failed is not None:
                    # The log's sums are only checked when it is opened: nothing may be moved
                    # out of it before that.
                    self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self._db.close()
            except (apsw.Error, peewee.PeeweeException) as error:
                self.failed = self.failed or Unavailable(f"the disk failed at the end ({error})")
            finally:
                self._file_lock.release()
                self._file_lock.close()
                self.hints.close()

    def before_fork(self) -> bool:
        """Close all connections and hold back whoever wants one, until ``after_fork``.

        SQLite notes a process's locks in its memory. A child with those notes would not take
        the locks it needs, and lose its log to whoever closes last; and a mutex that another
        thread holds would be held there for ever. False: this thread is using the store.
        """
        if self._owner == threading.get_ident() or not self._write_lock.acquire(timeout=_FORK_S):
            return False
        taken: list[APSWDatabase | None] = []
        try:
            while len(taken) < _READERS_MAX:
                taken.append(self._readers.get(timeout=_FORK_S))
        except queue.Empty:
            for db in taken:
                self._readers.put(db)
            self._write_lock.release()
            return False
        if not self._closed:
            self._file_lock.acquire()  # whoever closes last checkpoints
        try:
            for db in (*taken, self._db):
                if db is not None:
                    db.close()
        finally:
            self._file_lock.release()
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
            for _ in range(_READERS_MAX):
                self._readers.put(None)
            self._write_lock.release()

    def abandon(self) -> None:
        """Let go of everything in a forked child, without touching what the parent uses.

        The connections are kept, unused, for the rest of the process: closing them here
        could remove the log under the parent's feet.
        """
        _abandoned.append((self._db, self._readers))
        self._closed = self._abandoned = True
        self._owner = None
        self._write_lock = threading.Lock()  # a thread that is not here may hold the old one
        self._file_lock.abandon()


_abandoned: list[object] = []
