"""A few numbers that all processes of one database see without asking the database.

They are hints: losing them delays something by at most a second, and never loses anything.
"""

from __future__ import annotations

import mmap
import os
import struct

_SIZE = mmap.PAGESIZE
_NUMBER = struct.Struct("<q")
_COMMITS_AT = 8
_LEASE_DUE_AT = 16
_NEVER = 2**63 - 1


class Hints:
    """The numbers, in a small mapped file beside the database.

    ``commits`` rises with every commit of any process. ``lease_due_ms`` is not later than
    the earliest end of any lease. Written under the write lock only, read by anybody.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)

    @property
    def commits(self) -> int:
        return int(_NUMBER.unpack_from(self._map, _COMMITS_AT)[0])

    @property
    def lease_due_ms(self) -> int | None:
        """A bound on the earliest lease's end; None when nothing is leased."""
        found = int(_NUMBER.unpack_from(self._map, _LEASE_DUE_AT)[0])
        return None if found in (0, _NEVER) else found

    def count_commit(self) -> None:
        _NUMBER.pack_into(self._map, _COMMITS_AT, self.commits + 1)

    def lease_due_by(self, due_ms: int) -> None:
        """Lower the bound to ``due_ms`` if it is later."""
        found = self.lease_due_ms
        if found is None or due_ms < found:
            _NUMBER.pack_into(self._map, _LEASE_DUE_AT, due_ms)

    def set_lease_due(self, due_ms: int | None) -> None:
        _NUMBER.pack_into(self._map, _LEASE_DUE_AT, _NEVER if due_ms is None else due_ms)

    def close(self) -> None:
        self._map.close()
