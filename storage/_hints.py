"""A few numbers that all processes of one database see without asking the database.

They are hints: losing them delays something by at most a second, and never loses anything.
The file may hold anything, for nobody checks it: no number in it may make a process fail.
"""

from __future__ import annotations

import mmap
import os
import time

_SIZE = mmap.PAGESIZE
_COMMITS, _LEASE_DUE, _TURNS = 1, 2, 3  # places of 8 bytes
_BEAT = 5
_SLOTS_END, _SLOTS_AT = 4, 64
#: How many processes can have a slot.
SLOTS = 128
_NEVER = _LAST = 2**63 - 1
_PID_MAX = 2**22  # the kernel's own limit


class Hints:
    """The numbers, in a small mapped file beside the database.

    ``commits`` rises with every commit of any process, ``turns`` whenever one has taken the
    write lock. ``lease_due_ms`` is not later than the earliest end of any lease. A process that
    uses the database has a slot: its number, and whether anybody waits for messages there.
    Whoever has the sweeper's role gives a sign of life. Written under the write lock, but for
    ``say_waiting`` and ``beat``; read by anybody.
    """

    def __init__(self, path: str, pid: int | None = None) -> None:
        """Map the page; take a slot for the process ``pid``, which needs the write lock."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _SIZE:
                os.posix_fallocate(fd, 0, _SIZE)  # a hole could be found full by a store to it
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map).cast("q")
        self._pid = pid or 0
        #: This process's slot; None: it has none, or all are taken.
        self.slot = self._take_slot() if pid is not None else None

    def _take_slot(self) -> int | None:
        """Take a free slot, after freeing those of processes that were killed."""
        numbers = self._numbers
        free: list[int] = []
        for slot in range(SLOTS):
            number = numbers[_SLOTS_AT + slot]
            if not number or not _is_alive(number >> 1):
                numbers[_SLOTS_AT + slot] = 0
                free.append(slot)
        if not free:
            return None
        numbers[_SLOTS_AT + free[0]] = self._pid << 1
        taken = [slot for slot in range(SLOTS) if numbers[_SLOTS_AT + slot]]
        numbers[_SLOTS_END] = taken[-1] + 1
        return free[0]

    def say_waiting(self, anybody: bool) -> None:
        """Say whether anybody waits for messages in this process."""
        if self.slot is not None:
            self._numbers[_SLOTS_AT + self.slot] = self._pid << 1 | anybody

    def waiting_elsewhere(self) -> list[int]:
        """Return the slots of the other processes in which somebody waits."""
        numbers = self._numbers
        end = min(numbers[_SLOTS_END], SLOTS)
        return [slot for slot in range(end) if numbers[_SLOTS_AT + slot] & 1 and slot != self.slot]

    def living(self) -> list[int]:
        """Return the slots of the processes that live."""
        numbers = self._numbers
        end = min(numbers[_SLOTS_END], SLOTS)
        return [slot for slot in range(end) if _is_alive(numbers[_SLOTS_AT + slot] >> 1)]

    @property
    def commits(self) -> int:
        return self._numbers[_COMMITS]

    def beat(self) -> None:
        """Give a sign of life: the sweeper is at work."""
        self._numbers[_BEAT] = time.monotonic_ns()

    @property
    def silent_s(self) -> float:
        """For how many seconds the sweeper has given no sign of life."""
        return (time.monotonic_ns() - self._numbers[_BEAT]) / 1e9

    @property
    def turns(self) -> int:
        return self._numbers[_TURNS]

    def count_turn(self) -> None:
        self._count(_TURNS)

    @property
    def lease_due_ms(self) -> int | None:
        """A bound on the earliest lease's end; None when nothing is leased."""
        found = self._numbers[_LEASE_DUE]
        return None if found in (0, _NEVER) else found

    def count_commit(self) -> None:
        self._count(_COMMITS)

    def _count(self, place: int) -> None:
        number = self._numbers[place]
        self._numbers[place] = 0 if number == _LAST else number + 1

    def lease_due_by(self, due_ms: int) -> None:
        """Lower the bound to ``due_ms`` if it is later."""
        found = self.lease_due_ms
        if found is None or due_ms < found:
            self._numbers[_LEASE_DUE] = due_ms

    def set_lease_due(self, due_ms: int | None) -> None:
        self._numbers[_LEASE_DUE] = _NEVER if due_ms is None else due_ms

    def close(self) -> None:
        """Free the slot, if there is one; that needs the write lock."""
        if self.slot is not None:
            self._numbers[_SLOTS_AT + self.slot] = 0
        self._numbers.release()
        self._map.close()


def _is_alive(pid: int) -> bool:
    if not 0 < pid <= _PID_MAX:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
