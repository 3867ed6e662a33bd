"""One database file, opened: its transactions, its readers, its clock.

``Store.transaction``, and ``admit`` for a caller's, are the only ways to write. They take, in
this order: the thread lock of this store, the file lock that all processes share (both are
``Turns``), and SQLite's write lock.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import apsw
import peewee

from . import meters
from ._blocks import BlockCache
from ._clock import BootClock, Clock, StoredClock
from ._connections import READERS_MAX, Connections
from ._database import connect, errors_named
from ._errors import BlockQueueError, CommitUnknown, DiskFull, Unavailable
from ._hints import Hints
from ._meter_rows import Meters
from ._schema import RECEIPT_SECRET, migrate, read_meta
from ._snapshot import Row, Snapshot, Tx
from ._space import MIN_FREE_BYTES, Space
from ._turns import Guest, Turns
from ._wal import check_log

logger = logging.getLogger("blockqueue")

G = TypeVar("G", bound=Guest)

_CACHE_BYTES = 16 * 1024 * 1024
# After this many pages (4 MiB) the writer moves the log into the database. Small, because a
# log that is written over again commits twice as fast as one that grows.
_WAL_PAGES_MAX = 1000
_PAGE_BYTES = 4096
# How long a look at a guest waits for the lock; it is repeated.
_PUT_OUT_S = 0.05
_SAVE_CLOCK = "UPDATE meta SET value = ? WHERE key = 'clock'"


class Store(Connections):
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
        super().__init__(path)
        self.space = Space(self.path, min_free_bytes)
        self.blocks = BlockCache(_CACHE_BYTES)
        self._stored_clock: StoredClock | None = None  # None: the clock is the caller's
        # All below is guarded by the lock of ``turns``.
        self._committing = False
        self._began = self._locked = 0.0  # when the turn was asked for, and when it came
        self._needs_room = False  # the last transaction did not fit onto the disk
        self._own_commits = 0
        with errors_named(self.path):
            self.turns = Turns(self.path + "-lock")
            try:
                self.turns.file.acquire()
                log = check_log(self.path)
                try:
                    with errors_named(self.path):
                        self._open(clock)
                except DiskFull:
                    if not self.space.throw_off():
                        raise
                    self._open(clock)
                self.space.look()
                self.turns.file.release()
            except BaseException:
                self.turns.close()
                raise
        if log.commits_after:  # what a power cut has left must not be met again
            self.checkpoint()

    def _open(self, clock: Clock | None) -> None:
        self._db = connect(self.path)
        self._connection = self._db.connection()
        try:
            migrate(self._db)
            with self._db.atomic("immediate"):
                self.secret = read_meta(self._db, "secret", lambda: secrets.token_bytes(32))
                # Changed by a restore: generations start again there, and receipts must not.
                self.receipt_secret = read_meta(self._db, RECEIPT_SECRET, lambda: self.secret)
                self.clock = clock or self._boot_clock()
            self.hints = Hints(self.path + "-hints", os.getpid())
            self.meters = Meters(self.path + "-hints", self.hints)
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
        return self.turns.is_mine

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """Open a write transaction; it commits when the block ends without an exception.

        Raises:
            DiskFull, Unavailable: nothing was written.
            CommitUnknown: the disk failed; the store refuses all further work.
        """
        if self.is_mine:
            raise RuntimeError("this thread is inside a transaction already: use its tx")
        with self.turns.lock:
            self._await_turn()
            with self._ending():  # all of it, as Ctrl-C may strike a caller on the main thread
                tx = self._begin()
                yield tx
                self._commit(tx)

    def admit(self, guest_of: Callable[[Tx], G]) -> G:
        """Open a write transaction that goes on until ``dismiss``; return what holds it.

        Its holder takes ``turns.lock`` for each use of it. Raises what ``transaction`` does.
        """
        if self.is_mine:
            raise RuntimeError("this thread is inside a transaction already: use its tx")
        with self.turns.lock:
            self._await_turn()
            try:
                guest = guest_of(self._begin())
                self.turns.admit(guest)
            except BaseException:
                with self._ending():
                    raise
        return guest

    def dismiss(self, guest: Guest, error: BaseException | None) -> None:
        """End what ``admit`` has opened: with an ``error``, roll it back and raise that."""
        with self.turns.lock:
            if self.turns.guest is not guest:  # it was put out, or this is a forked child
                if error is None:
                    guest.check()
                return
            with self._ending():
                if error is None:
                    guest.check()
                guest.leave()
                if error is not None:
                    raise error
                self._commit(guest.tx)

    def put_out_guest(self) -> None:
        """End a caller's transaction that has been open for too long. Hardly waits."""
        if self.turns.guest is not None and self.turns.lock.acquire(timeout=_PUT_OUT_S):
            try:
                self.turns.put_out(self.clock)
            finally:
                self.turns.lock.release()

    def _await_turn(self) -> None:
        if self.turns.guest is not None:
            self.turns.await_guest(self.clock)
        self.check_usable()

    def _begin(self) -> Tx:
        self._committing = self._needs_room = False
        self._began = time.monotonic()
        self.turns.begin()
        self._locked = time.monotonic()
        self.hints.count_turn()
        self._connection.execute("BEGIN IMMEDIATE")
        now_ms = self.clock.now_ms()
        self._tick(now_ms)
        return Tx(self, self._connection, now_ms)

    def _commit(self, tx: Tx) -> None:
        self.check_usable()  # a forked child may have come here with its parent's tx
        self._committing = True
        self._connection.execute("COMMIT")
        self._committed(tx)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End the turn with this block, and roll back if it raises; errors get their names."""
        try:
            yield
        except BaseException as error:
            named = self._undone(error)
            if named is None:
                raise
            self.meters.add(meters.FLUSH_FAILED)
            raise named from error
        finally:
            self.turns.end()

    def _committed(self, tx: Tx) -> None:
        """Tell the other processes, while they still cannot write."""
        written, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
        pages = written - self._pages_written
        if pages:
            self._pages_written = written
            self._own_commits += 1
            self.hints.count_commit()
        if tx.swept:
            self._correct_lease_hint()
        took_s = time.monotonic() - self._locked
        self.meters.note_commit(tx.tally, pages, self._locked - self._began, took_s)

    def _undone(self, error: BaseException) -> BlockQueueError | None:
        """Roll back, and name the error if it is the disk's."""
        if self._abandoned:
            return None  # the transaction is the parent's
        if not isinstance(error, apsw.Error):
            self.roll_back()
            return None
        # A caller's deferred constraint fails at the commit, and leaves the transaction open.
        if self._committing and not isinstance(error, apsw.FullError | apsw.ConstraintError):
            self.failed = CommitUnknown(
                f"the disk failed at the commit ({error}): the work may have been written or not"
            )
            return self.failed
        named = self._named(error)
        self.roll_back()
        self._needs_room = isinstance(named, DiskFull)
        return named

    def roll_back(self) -> None:
        """Undo the transaction of the connection that writes, if there is one."""
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.ThreadingViolationError:
                raise
            except apsw.Error as second:  # then nothing is known of this connection
                self.failed = self.failed or Unavailable(f"the disk failed ({second})")

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
        with self.turns.lock:
            self.turns.await_guest(self.clock)
            if self._db.is_closed():
                return
            self.turns.file.acquire()
            self.hints.count_turn()
            began, result = time.monotonic(), meters.CHECKPOINT_FAILED
            try:
                stuck_pages = self._move_log(mode)
                self._pages_moved = self._pages_written
                self.space.note_log(stuck_pages * _PAGE_BYTES)
                result = meters.CHECKPOINT_BUSY if stuck_pages else meters.CHECKPOINTED
            except apsw.FullError:
                logger.warning("no room to checkpoint %s; it stays in its log", self.path)
            except apsw.BusyError:  # a reader is in the way: the next commit tries again
                result = meters.CHECKPOINT_BUSY
            except apsw.Error as error:
                self.failed = Unavailable(f"the disk failed at a checkpoint ({error})")
            finally:
                self.turns.file.release()
            self.meters.add(result)
            self.meters.time(meters.CHECKPOINT_SECONDS, (time.monotonic() - began,))

    def _move_log(self, mode: int) -> int:
        """Checkpoint; return how many pages of the log could not be moved."""
        try:
            pages, moved = self._connection.wal_checkpoint(mode=mode)
        except apsw.FullError:
            if not self.space.throw_off():
                raise
            pages, moved = self._connection.wal_checkpoint(mode=mode)
        return pages - moved

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

    @property
    def foreign_commits(self) -> int:
        """A number that rises with every commit of another process."""
        return self.hints.commits - self._own_commits

    def close(self) -> None:
        """Checkpoint and close. Safe to call again."""
        with self.turns.lock:
            self.turns.await_guest(self.clock)
            if self._closed:
                return
            self._closed = True
        if self.failed is None:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with self.turns.lock:
            for db in [self._readers.get() for _ in range(READERS_MAX)]:
                if db is not None:
                    db.close()
                self._readers.put(None)  # whoever waits for one learns that it is closed
            self.turns.file.acquire()
            try:
                if self.failed is not None:
                    # The log's sums are only checked when it is opened: nothing may be moved
                    # out of it before that.
                    self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                self._db.close()
            except (apsw.Error, peewee.PeeweeException) as error:
                self.failed = self.failed or Unavailable(f"the disk failed at the end ({error})")
            finally:
                self.turns.file.release()
                self.turns.close()
                self.meters.close()
                self.hints.close()
