"""A database's health, for whoever looks after it. Never writes; a server may be running."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import apsw

from ._clock import BootClock, StoredClock, boot_id
from ._database import check_sqlite_version
from ._errors import BlockQueueError
from ._inspection import broken_invariants, damaged_blocks, damaged_pages, inspected
from ._lock import FileLock
from ._space import LOG_WARN_BYTES, Space
from ._wal import Log, scan_log

OK, WARNING, ERROR = "ok", "warning", "error"

_MIB = 1024 * 1024
_DRIFT_WARN_MS = 5 * 60_000
_SHOWN = 5
# Whoever looks for what is wrong must not wait for ever himself.
_LOCK_S = 10.0
_LOCK_LOOK_S = 0.005
_LOCKED = "the write lock was not free for {:g} s: nobody can publish, claim or acknowledge"


class Finding(NamedTuple):
    """What one check has found. ``level`` is ``ok``, ``warning`` or ``error``."""

    check: str
    level: str
    detail: str


def examine(path: str, *, quick: bool = False) -> Iterator[Finding]:
    """Check a database step by step; the first error may be the last finding.

    ``quick`` leaves out what reads the whole file. The log is looked at under the file lock,
    which holds writers back for a few milliseconds; all else disturbs nobody. If the lock is not
    free in time that is an error, and the log is not looked at.
    """
    path = os.path.realpath(path)
    yield from _tried("sqlite", _sqlite)
    log = yield from _log(path)
    if log is not None and log.is_corrupt:
        return  # whoever opens it now goes by what is left of the log
    try:
        with inspected(path) as connection:
            yield Finding("database", OK, f"{path}, {os.stat(path).st_size / _MIB:.1f} MiB")
            yield from _tried("settings", lambda: _settings(connection))
            yield from _tried("clock", lambda: _clock(connection))
            yield from _tried("space", lambda: _space(path))
            if not quick:
                yield from _tried("pages", lambda: _all_of("pages", damaged_pages(connection)))
            yield from _tried(
                "deliveries", lambda: _all_of("deliveries", broken_invariants(connection))
            )
            if not quick:
                yield from _tried("messages", lambda: _messages(connection))
    except BlockQueueError as error:
        yield Finding("database", ERROR, str(error))


def _tried(check: str, run: Callable[[], Finding]) -> Iterator[Finding]:
    """Run a check; what keeps it from being done is an error, too."""
    try:
        yield run()
    except (apsw.Error, BlockQueueError, OSError) as error:
        yield Finding(check, ERROR, str(error))


def _sqlite() -> Finding:
    check_sqlite_version()
    return Finding("sqlite", OK, f"SQLite {apsw.sqlite_lib_version()}")


def _log(path: str) -> Generator[Finding, None, Log | None]:
    """Look through the log while nobody writes; return what was found."""
    lock: FileLock | None = None
    try:
        if os.path.exists(path + "-lock"):
            lock = FileLock(path + "-lock")
            if not _acquired(lock):
                yield Finding("log", ERROR, _LOCKED.format(_LOCK_S))
                return None
        log = scan_log(path)
    except OSError as error:
        yield Finding("log", ERROR, str(error))
        return None
    finally:
        if lock is not None:
            lock.close()
    yield _log_finding(log)
    return log


def _acquired(lock: FileLock) -> bool:
    """Take the lock if it is free in time. Writers hold it for a moment each."""
    pause = threading.Event()  # never set: only its timeout is used
    until = time.monotonic() + _LOCK_S
    while not lock.try_acquire():
        if time.monotonic() > until:
            return False
        pause.wait(_LOCK_LOOK_S)
    return True


def _log_finding(log: Log) -> Finding:
    size = f"{log.nbytes / _MIB:.1f} MiB, {log.frames} frames"
    if log.is_corrupt:
        return Finding(
            "log",
            ERROR,
            f"{size}; frame {log.bad} is damaged and {log.commits_after} or more whole commits "
            "come after it. Keep a copy of the database and its log, then restore a backup, or "
            "give those commits up by removing the log",
        )
    if log.bad is not None:
        return Finding("log", OK, f"{size}; its end was torn, which a crash explains")
    if log.nbytes > LOG_WARN_BYTES:
        return Finding("log", WARNING, f"{size}: a program keeps a read transaction open")
    return Finding("log", OK, size)


def _settings(connection: apsw.Connection) -> Finding:
    found = {name: connection.pragma(name) for name in ("journal_mode", "auto_vacuum")}
    # A file that is looked at without its log says nothing of the mode it is written in.
    wrong = [] if found["auto_vacuum"] == 2 else ["auto_vacuum is not INCREMENTAL"]
    pages, free = connection.pragma("page_count"), connection.pragma("freelist_count")
    text = f"schema version {connection.pragma('user_version')}, {pages} pages, {free} free"
    return Finding("settings", WARNING if wrong else OK, "; ".join([text, *wrong]))


def _clock(connection: apsw.Connection) -> Finding:
    row = connection.execute("SELECT value FROM meta WHERE key = 'clock'").fetchone()
    if row is None:
        return Finding("clock", OK, "not started yet")
    stored = StoredClock.unpack(row[0])
    wall_ms = time.time_ns() // 1_000_000
    same_boot = stored.boot_id == boot_id()
    now_ms = BootClock(stored.offset_ms).now_ms() if same_boot else stored.last_now_ms
    ahead_ms = now_ms - wall_ms
    late = same_boot and ahead_ms < -_DRIFT_WARN_MS
    if late or ahead_ms > _DRIFT_WARN_MS:
        word = "ahead of" if ahead_ms > 0 else "behind"
        return Finding(
            "clock",
            WARNING,
            f"the queue's time is {abs(ahead_ms) / 1000:.0f} s {word} the clock on the wall, which "
            "was set meanwhile: leases and delays are right, the times that are shown are not",
        )
    return Finding("clock", OK, "agrees with the clock on the wall")


def _space(path: str) -> Finding:
    space = Space(path)
    trouble = space.trouble()
    disk = os.statvfs(os.path.dirname(path))
    text = f"{disk.f_bavail * disk.f_frsize / _MIB:.0f} MiB free on the disk"
    if trouble is not None:
        return Finding("space", ERROR, trouble)
    if not os.path.exists(path + "-lock"):  # a copy that was never in use needs none
        return Finding("space", OK, text)
    exists = os.path.exists(space.ballast_path)
    if not exists or os.stat(space.ballast_path).st_size == 0:
        return Finding("space", WARNING, f"{text}; there is no ballast now")
    return Finding("space", OK, text)


def _all_of(check: str, problems: list[str]) -> Finding:
    if not problems:
        return Finding(check, OK, "no contradiction")
    shown = "; ".join(problems[:_SHOWN])
    return Finding(check, ERROR, f"{len(problems)} problems: {shown}")


def _messages(connection: apsw.Connection) -> Finding:
    blocks, problems = 0, []
    for problem in damaged_blocks(connection):
        blocks += 1
        if problem is not None:
            problems.append(problem)
    if not problems:
        return Finding("messages", OK, f"all {blocks} blocks decode")
    # The queue goes on: these messages become dead letters.
    shown = "; ".join(problems[:_SHOWN])
    return Finding("messages", ERROR, f"{len(problems)} of {blocks} blocks do not decode: {shown}")
