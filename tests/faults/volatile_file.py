"""A disk with a cache that a power cut empties: one file, served by FUSE.

    python volatile_file.py MOUNTPOINT BACKING SEED

What is written stays in memory until it is synced. ``cut`` on its input: at one of the next
writes, or soon if there are none, all ends to work, as if the machine were off. ``on``:
each sector that was not synced has been written or not, at random; and it works again. It
answers each command with a line.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import mfusepy  # type: ignore[import-untyped]

NAME = "disk.img"
_SECTOR = 512
_WRITES_MAX = 20
_NO_WRITES_S = 1.0


class VolatileFile(mfusepy.Operations):  # type: ignore[misc]
    """The file. Loop devices write whole sectors, which are the keys of the cache."""

    use_ns = True

    def __init__(self, backing: Path, random: Random) -> None:
        self._fd = os.open(backing, os.O_RDWR)
        self._random = random
        self._lock = threading.Condition()  # guards the three below
        self._cache: dict[int, bytes] = {}
        self._writes_left: int | None = None  # until the power fails
        self._is_off = False

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": 0o040755, "st_nlink": 2}
        if path != f"/{NAME}":
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": 0o100600, "st_nlink": 1, "st_size": os.fstat(self._fd).st_size}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", NAME]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._lock:
            self._check_on()
            data = bytearray(os.pread(self._fd, size, offset))
            for place in range(offset // _SECTOR * _SECTOR, offset + len(data), _SECTOR):
                cached = self._cache.get(place)
                if cached is not None:
                    _overlay(data, offset, cached, place)
            return bytes(data)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._lock:
            self._check_on()
            for place in range(offset, offset + len(data), _SECTOR):
                self._cache[place] = data[place - offset : place - offset + _SECTOR]
            self._count_down()
            self._check_on()
        return len(data)

    def _count_down(self) -> None:
        if self._writes_left is not None:
            self._writes_left -= 1
            if self._writes_left == 0:
                self._is_off = True
                self._lock.notify_all()

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._lock:
            self._check_on()
            self._write(self._cache)
        return 0

    def _check_on(self) -> None:
        if self._is_off:
            raise mfusepy.FuseOSError(errno.EIO)

    def _write(self, sectors: dict[int, bytes]) -> None:
        for place, sector in sectors.items():
            os.pwrite(self._fd, sector, place)
        self._cache.clear()

    def cut(self) -> int:
        """Lose the power; return how many sectors were not synced."""
        with self._lock:
            self._writes_left = self._random.randrange(1, _WRITES_MAX)
            self._lock.wait_for(lambda: self._is_off, _NO_WRITES_S)
            self._is_off = True
            self._writes_left = None
            return len(self._cache)

    def on(self) -> int:
        """Have the power back; return how many sectors of those had been written."""
        with self._lock:
            kept = {
                place: sector
                for place, sector in self._cache.items()
                if self._random.random() < 0.5
            }
            self._write(kept)
            self._is_off = False
            return len(kept)


def _overlay(data: bytearray, offset: int, sector: bytes, place: int) -> None:
    start, end = max(offset, place), min(offset + len(data), place + len(sector))
    if start < end:
        data[start - offset : end - offset] = sector[start - place : end - place]


def main(mountpoint: str, backing: str, seed: str) -> None:
    served = VolatileFile(Path(backing), Random(int(seed)))

    def obey() -> None:
        commands = {"cut": served.cut, "on": served.on}
        for line in sys.stdin:
            os.write(1, b"%d\n" % commands[line.strip()]())

    threading.Thread(target=obey, daemon=True).start()
    mfusepy.FUSE(served, mountpoint, foreground=True, max_threads=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
