"""A disk that fails when it is told to: a layer of SQLite between it and the system.

``BrokenDisk`` becomes the default of all connections that are opened while it is installed,
in this process. A test's child process imports it, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw

WRITE, SYNC, READ, TRUNCATE = "write", "sync", "read", "truncate"


class BrokenDisk(apsw.VFS):
    """Counts the calls to the files of a database, and fails those it is told to.

    ``break_at(kind, file, after)`` lets all calls of a kind fail from the ``after``-th on from
    now, for files whose name ends so: ".db" or "-wal". With a ``switch`` it fails only while
    that file is there.
    """

    def __init__(self, switch: str = "") -> None:
        super().__init__("broken-disk", "unix", makedefault=True)
        self._switch = switch
        self.calls: dict[tuple[str, str], int] = {}
        self._broken: dict[tuple[str, str], tuple[int, int]] = {}

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def break_at(self, kind: str, file: str, after: int = 1, code: int = apsw.SQLITE_IOERR) -> None:
        self._broken[kind, file] = self.calls.get((kind, file), 0) + after, code

    def heal(self) -> None:
        self._broken.clear()

    def call(self, kind: str, file: str) -> None:
        """Count a call. Raises if it is to fail."""
        count = self.calls[kind, file] = self.calls.get((kind, file), 0) + 1
        due, code = self._broken.get((kind, file), (count + 1, 0))
        if count >= due and (not self._switch or os.path.exists(self._switch)):
            raise apsw.exception_for(code)


class _File(apsw.VFSFile):
    def __init__(self, disk: BrokenDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._disk = disk
        self._kind = "-wal" if path.endswith("-wal") else ".db"

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.call(READ, self._kind)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.call(WRITE, self._kind)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.call(SYNC, self._kind)
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self._disk.call(TRUNCATE, self._kind)
        super().xTruncate(newsize)


@contextmanager
def broken_disk() -> Iterator[BrokenDisk]:
    """Install the layer for the length of a block."""
    disk = BrokenDisk()
    try:
        yield disk
    finally:
        disk.heal()
        disk.unregister()
