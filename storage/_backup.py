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

from ._database import check_place, errors_named
from ._errors import AlreadyExists, Conflict
from ._inspection import check_whole, inspected
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
        DatabaseUnusable, DiskFull: nothing is at ``target`` then, or what was there before.
    """
    target = os.path.abspath(target)
    check_place(target)
    _check_free(target, overwrite)
    part = f"{target}.part"
    with errors_named(target):
        try:
            with inspected(path) as source, _synced(part):
                nbytes = _copy(source, part, rate_bytes_s, on_progress)
                check_whole(part)
            _check_free(target, overwrite)
            os.replace(part, target)
            _sync_folder(target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    return nbytes


def _check_free(target: str, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise AlreadyExists(f"{target} is there already")


@contextmanager
def _synced(path: str) -> Iterator[int]:
    """Make a file that only its owner can read; in the end it is on the disk."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        yield fd
        os.fsync(fd)
    finally:
        os.close(fd)


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
    target = os.path.abspath(target)
    check_place(target)
    _check_free(target, overwrite)
    part = f"{target}.part"
    with errors_named(path):
        check_whole(path)
        try:
            with _synced(part):
                shutil.copyfile(path, part)
                _void_receipts(part)
            with _unused(target):
                _check_free(target, overwrite)
                kept = _set_aside(target)
                os.replace(part, target)
                _sync_folder(target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
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
