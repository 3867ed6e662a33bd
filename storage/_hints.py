"""A few numbers that all processes of one database see without asking the database.

They are hints: losing them delays something by at most a second, and never loses anything.
"""

from __future__ import annotations

import mmap
import os

_SIZE = mmap.PAGESIZE
_COMMITS, _LEASE_DUE, _TURNS = 1, 2, 3  # places of 8 bytes
_NEVER = 2**63 - 1


class Hints:
    """The numbers, in a small mapped file beside the database.

    ``commits`` rises with every commit of any process, ``turns`` whenever one has taken the
    write lock. ``lease_due_ms`` is not later than the earliest end of any lease. Written under
    the write lock only, read by anybody.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.posix_fallocate(fd, 0, _SIZE)  # a hole could be found full by a store to it
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map).cast("q")

    @property
    def commits(self) -> int:
        return self._numbers[_COMMITS]

    @property
    def turns(self) -> int:
        return self._numbers[_TURNS]

    def count_turn(self) -> None:
        self._numbers[_TURNS] += 1

    @property
    def lease_due_ms(self) -> int | None:
        """A bound on the earliest lease's end; None when nothing is leased."""
        found = self._numbers[_LEASE_DUE]
        return None if found in (0, _NEVER) else found

    def count_commit(self) -> None:
        self._numbers[_COMMITS] += 1

    def lease_due_by(self, due_ms: int) -> None:
        """Lower the bound to ``due_ms`` if it is later."""
        found = self.lease_due_ms
        if found is None or due_ms < found:
            self._numbers[_LEASE_DUE] = due_ms

    def set_lease_due(self, due_ms: int | None) -> None:
        self._numbers[_LEASE_DUE] = _NEVER if due_ms is None else due_ms

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
