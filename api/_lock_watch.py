"""Who has held the write lock for too long?"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from blockqueue.storage import Hints

_LOCKS_FILE = "/proc/locks"


class _Seen(NamedTuple):
    """A holder, the number of times that anybody had taken the lock, and since when."""

    holder: int
    turns: int
    since: float


class LockWatch:
    """Looks again and again who holds the write lock of the database at ``path``.

    The system says who, so that a process which is stopped between taking the lock and doing
    anything at all is found too; a count of turns tells one long turn from many short ones.
    Where there is no ``/proc/locks``, nobody is ever found.
    """

    def __init__(self, path: str) -> None:
        path = os.path.realpath(path)
        self._hints = Hints(path + "-hints")
        self._lock_path = path + "-lock"
        self._seen: _Seen | None = None

    def look(self) -> tuple[int, float] | None:
        """Return who holds the lock, and for how many seconds that has been so."""
        turns, holder = self._hints.turns, self._holder()
        now = time.monotonic()
        if holder is None:
            self._seen = None
            return None
        if self._seen is None or self._seen[:2] != (holder, turns):
            self._seen = _Seen(holder, turns, now)
        return holder, now - self._seen.since

    def _holder(self) -> int | None:
        # The device is left out of the comparison: with some file systems it is another one
        # there than the one that stat tells.
        try:
            inode = str(os.stat(self._lock_path).st_ino)
            with open(_LOCKS_FILE, encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
                        return int(words[4])
        except OSError:
            pass
        return None

    def close(self) -> None:
        self._hints.close()
