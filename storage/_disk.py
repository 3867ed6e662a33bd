"""What SQLite's errors mean for the queue: what was written, and whether it can go on."""

from __future__ import annotations

import apsw

from ._errors import BlockQueueError, DatabaseUnusable, DiskFull, Unavailable


def disk_error(error: apsw.Error, path: str) -> tuple[BlockQueueError | None, bool]:
    """Name an error that came before the commit, and say whether it is fatal.

    Nothing has been written then. After a fatal one the file must be opened anew, because
    nobody knows what is in the system's memory and what on the disk. None: it is a bug.
    """
    # What apsw raises by itself has no result code.
    extended = getattr(error, "extendedresult", None)
    if isinstance(error, apsw.FullError) or extended == apsw.SQLITE_IOERR_SHMSIZE:
        return DiskFull("the disk is full; nothing was written"), False
    if isinstance(error, apsw.BusyError):
        return Unavailable("another program holds the database; nothing was written"), False
    if isinstance(error, apsw.NoMemError) or extended == apsw.SQLITE_IOERR_NOMEM:
        return Unavailable("there is no memory left; nothing was written"), False
    if isinstance(error, apsw.CantOpenError):  # too many open files, say
        return Unavailable(f"a file could not be opened ({error}); nothing was written"), False
    if isinstance(error, apsw.IOError):
        return Unavailable(f"the disk failed ({error}); nothing was written"), True
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DatabaseUnusable(f"{path} is damaged ({error}): see blockqueue doctor"), True
    return None, False
