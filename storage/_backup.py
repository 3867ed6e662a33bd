"""A copy of a database while it is used, and the way back.

The copy is one consistent view: a read transaction keeps it, so nobody who writes is held up,
and the log only grows a little longer meanwhile. It is checked before it gets its name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import apsw

from ._database import errors_named, place_of
from ._errors import AlreadyExists, Conflict
from ._inspection import check_backup, check_whole, inspected
from ._lock import FileLock
from ._schema import RECEIPT_SECRET

_PAGE_BYTES = 4096
_STEP_PAGES = 256
RATE_BYTES_S = 64 * 1024 * 1024
# Where every connection of SQLite holds a lock for as long as it has a file with a log open.
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510

Progress = Callable[[int, int], object]


def backup(
    path: str,
    target: str,
    *,
    overwrite: bool = False,
    rate_bytes_s: float = RATE_BYTES_S,
    on_progress: Progress = lambda done, total: None,
) -> int:
    """Copy the database at ``path`` to ``target``, which appears when it is whole and checked.

    At most ``rate_bytes_s`` are copied a second; ``on_progress`` gets the bytes done and to do.
    Returns the bytes copied.

    Raises:
        AlreadyExists: ``target`` is there, and not to be overwritten.
        Conflict: ``target`` is a database with its log, or is just being made.
        DatabaseUnusable, DiskFull: nothing is at ``target`` then, or what was there before.
    """
    target = place_of(target)
    _check_free(target, overwrite)
    _check_no_database(target, path)
    with errors_named(target), _draft(target) as part:
        with inspected(path) as source:
            nbytes = _copy(source, part, rate_bytes_s, on_progress)
        check_whole(part)
        _check_free(target, overwrite)
        _check_no_database(target, path)
        _put_in_place(part, target)
    return nbytes


def _check_free(target: str, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise AlreadyExists(f"{target} is there already")


def _check_no_database(target: str, source: str) -> None:
    """See that a backup does not come into the place of a database with its log beside it."""
    both = os.path.exists(target) and os.path.exists(source)
    if (both and os.path.samefile(target, source)) or os.path.lexists(target + "-wal"):
        raise Conflict(f"{target} is a database in use, no place for a backup; see restore")


@contextmanager
def _draft(target: str) -> Iterator[str]:
    """Make an empty file beside ``target`` that only its owner can read; return its path.

    What has not been put in place is gone at the end. Raises Conflict while somebody else
    makes one there; one that was left by a crash is written anew.
    """
    part = f"{target}.part"
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _is_ours(fd, part):
            raise Conflict(f"{target} is being made by another program")
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        try:
            yield part
        finally:
            if _is_ours(fd, part):
                os.unlink(part)
    finally:
        os.close(fd)


def _is_ours(fd: int, path: str) -> bool:
    """Lock a file, and say whether it is still the one with that name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _put_in_place(part: str, target: str) -> None:
    """Give a finished draft its name; it is on the disk then."""
    fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(part, target)
    _sync_folder(target)


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _copy(source: apsw.Connection, part: str, rate: float, on_progress: Progress) -> int:
    pause = threading.Event()  # never set: only its timeout is used
    copy = apsw.Connection(part)
    try:
        copy.execute("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM meta").fetchall()  # from here on it stands still
        started = time.monotonic()
        with copy.backup("main", source, "main") as running:
            while not running.done:
                running.step(_STEP_PAGES)
                done = (running.page_count - running.remaining) * _PAGE_BYTES
                on_progress(done, running.page_count * _PAGE_BYTES)
                pause.wait(max(0.0, done / rate - (time.monotonic() - started)))
        source.execute("COMMIT")
    finally:
        copy.close()
    return os.stat(part).st_size


def restore(path: str, target: str, *, overwrite: bool = False) -> str | None:
    """Put the copy at ``path`` in the place of the database ``target``.

    The copy is checked first. A database that is there is kept under another name, which is
    returned. Every receipt that was given before is void afterwards: a consumer of then cannot
    settle what another one has claimed since.

    Not for a process that has ``target`` open itself.

    Raises:
        AlreadyExists: ``target`` is there, and not to be overwritten.
        Conflict: a program has ``target`` open.
        DatabaseUnusable, DiskFull: nothing was changed.
    """
    target = place_of(target)
    _check_free(target, overwrite)
    with errors_named(path), _draft(target) as part:
        check_backup(path)
        shutil.copyfile(path, part)
        check_whole(part, path)
        _void_receipts(part)
        with _unused(target):
            _check_free(target, overwrite)
            kept = _set_aside(target)
            _put_in_place(part, target)
    return kept


def _void_receipts(part: str) -> None:
    connection = apsw.Connection(part)
    try:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)",
            (RECEIPT_SECRET, secrets.token_bytes(32)),
        )
    finally:
        connection.close()


@contextmanager
def _unused(target: str) -> Iterator[None]:
    """See that no program has the database open, and let none open it meanwhile."""
    in_use = f"{target} is in use: stop every program that has it open"
    lock = FileLock(target + "-lock")
    try:
        if not lock.try_acquire():
            raise Conflict(in_use)
        if not os.path.exists(target):
            yield
            return
        fd = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            yield
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise Conflict(in_use) from error
        finally:
            os.close(fd)
    finally:
        lock.close()


def _set_aside(target: str) -> str | None:
    """Keep a database and its log under another name; its log's place is empty then."""
    if not os.path.exists(target):
        for left in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(target + left)
        return None
    kept = f"{target}.replaced-{time.strftime('%Y%m%dT%H%M%S')}"
    os.link(target, kept)
    for left in ("-wal", "-shm"):
        if os.path.exists(target + left):
            os.replace(target + left, kept + left)
    return kept
