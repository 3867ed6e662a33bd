"""A file system under SQLite that fails on purpose, at a call that is named beforehand.

Calls of one kind are counted over all files and threads of the process, so a fault is
repeated exactly by its number. A write that fails has written its first half.
"""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import apsw
import msgspec


class Trouble(msgspec.Struct, frozen=True):
    """What goes wrong, and when: at the ``at``-th ``call``, and on to the ``until``-th.

    ``error``: ``EIO``, ``ENOSPC`` or ``slow``, which takes ``delay_s`` longer and works.
    """

    call: str
    error: str
    at: int
    until: int = 0
    delay_s: float = 0.0


CALLS = ("open", "read", "write", "sync", "truncate", "size")
_EIO = {
    "open": apsw.SQLITE_CANTOPEN,
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "size": apsw.SQLITE_IOERR_FSTAT,
}


class Counts:
    """Counts calls, decides which fail, and notes in ``folder`` what happened."""

    def __init__(self, trouble: Trouble | None, folder: Path) -> None:
        self._trouble = trouble
        self._folder = folder
        self._lock = threading.Lock()  # guards _calls
        self._calls: Counter[str] = Counter()
        self._pause = threading.Event()  # never set: only its timeout is used

    def met(self, call: str) -> Trouble | None:
        """Count a call; return the trouble it has."""
        with self._lock:
            self._calls[call] += 1
            number = self._calls[call]
            self._note()
        found = self._trouble
        if found is None or found.call != call:
            return None
        if not found.at <= number <= max(found.at, found.until):
            return None
        (self._folder / "fired").touch()
        if found.error == "slow":
            self._pause.wait(found.delay_s)
            return None
        return found

    def _note(self) -> None:
        new = self._folder / "calls.new"
        new.write_bytes(msgspec.json.encode(self._calls))
        new.replace(self._folder / "calls.json")

    def check(self, call: str) -> None:
        """Count a call. Raises what SQLite is to see."""
        found = self.met(call)
        if found is not None:
            raise _error(found)


def _error(trouble: Trouble) -> Exception:
    full = trouble.error == "ENOSPC"
    return apsw.exception_for(apsw.SQLITE_FULL if full else _EIO[trouble.call])


class _File(apsw.VFSFile):
    def __init__(self, counts: Counts, name: str | apsw.URIFilename | None, flags: list[int]):
        super().__init__("unix", name, flags)
        self._counts = counts

    def xRead(self, amount: int, offset: int) -> bytes:
        self._counts.check("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        found = self._counts.met("write")
        if found is not None:
            super().xWrite(bytes(data[: len(data) // 2]), offset)
            raise _error(found)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._counts.check("sync")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._counts.check("truncate")
        super().xTruncate(newsize)

    def xFileSize(self) -> int:
        self._counts.check("size")
        return super().xFileSize()


class FaultyVfs(apsw.VFS):
    """The default file system of SQLite in this process, from now on."""

    def __init__(self, counts: Counts) -> None:
        super().__init__("faulty", base="unix", makedefault=True)
        self._counts = counts

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self._counts.check("open")
        return _File(self._counts, name, flags)
