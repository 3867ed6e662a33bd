"""How a connection is opened: apsw under Peewee, pragmas set and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase

from ._errors import BlockQueueError, DatabaseUnusable, DiskFull

# Older ones can corrupt a file that several connections write and checkpoint.
SQLITE_VERSION_MIN = (3, 51, 3)

_BUSY_MS = 5_000
_CACHE_KIB = 16 * 1024
_JOURNAL_BYTES_MAX = 32 * 1024 * 1024

# Name, value, and what reading it back must give.
_PRAGMAS = (
    ("auto_vacuum", "INCREMENTAL", 2),  # before the first table, or it has no effect
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),  # a commit is on the disk when it returns
    ("foreign_keys", "ON", 1),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
    ("mmap_size", "0", 0),  # a disk error in a mapping would be a signal
    ("wal_autocheckpoint", "0", 0),  # the writer checkpoints
    ("journal_size_limit", str(_JOURNAL_BYTES_MAX), _JOURNAL_BYTES_MAX),
    ("cache_size", str(-_CACHE_KIB), -_CACHE_KIB),
)


def check_sqlite_version(found: str | None = None) -> None:
    """Raise DatabaseUnusable if the SQLite that apsw brings is too old to be safe."""
    found = found or apsw.sqlite_lib_version()
    if tuple(int(part) for part in found.split(".")) < SQLITE_VERSION_MIN:
        wanted = ".".join(map(str, SQLITE_VERSION_MIN))
        raise DatabaseUnusable(
            f"SQLite {found} can corrupt a database that several connections use; "
            f"{wanted} or newer is needed: upgrade apsw"
        )


def place_of(path: str | os.PathLike[str]) -> str:
    """Return the file that a database is, or is made in. Raises DatabaseUnusable if none can be.

    Links are followed, as SQLite does: the lock, the hints and the log are beside the file
    itself, so that all who open it share them, whatever names they know it by.
    """
    path = os.path.realpath(os.fspath(path))
    if os.path.isdir(path):
        raise DatabaseUnusable(f"cannot open {path}: it is a directory")
    if os.path.exists(path) and not os.path.isfile(path):  # to wait for a pipe would be for ever
        raise DatabaseUnusable(f"cannot open {path}: it is a device or a pipe, not a file")
    if not os.path.isdir(os.path.dirname(path)):
        raise DatabaseUnusable(f"cannot open {path}: its directory is missing")
    return path


@contextmanager
def errors_named(path: str) -> Iterator[None]:
    """Turn what SQLite says while a file is being opened into one clear error."""
    try:
        yield
    except BlockQueueError:
        raise
    except (apsw.Error, peewee.PeeweeException, OSError) as error:
        cause = error.__cause__ or error.__context__ or error
        known = cause if isinstance(cause, apsw.Error) else error
        if isinstance(known, apsw.NotADBError):
            raise DatabaseUnusable(f"{path} is not a database") from error
        # SQLite says so when there is no room for the file that indexes its log.
        no_index = getattr(known, "extendedresult", None) == apsw.SQLITE_IOERR_SHMSIZE
        if isinstance(known, apsw.FullError) or no_index or getattr(known, "errno", None) == 28:
            raise DiskFull(f"no room on the disk of {path}") from error
        raise DatabaseUnusable(f"cannot open {path}: {known}") from error


def connect(path: str, *, read_only: bool = False) -> APSWDatabase:
    """Open one connection. It may move between threads, used by one at a time."""
    check_sqlite_version()
    db = APSWDatabase(path, thread_safe=False, timeout=_BUSY_MS / 1000)
    db.connect()
    try:
        connection: apsw.Connection = db.connection()
        if not read_only and os.stat(path).st_size == 0:
            os.chmod(path, 0o600)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        for name, value, expected in _PRAGMAS:
            # Only what is not so already: some would write to the file, without its lock.
            if connection.pragma(name) != expected:
                connection.execute(f"PRAGMA {name} = {value}").fetchall()
            found = connection.pragma(name)
            if found != expected:
                raise DatabaseUnusable(
                    f"cannot open {path}: PRAGMA {name} is {found!r}, {expected!r} is needed"
                )
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    return db
