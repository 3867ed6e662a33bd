"""Whose turn it is to write: one thread of one process at a time."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

from ._clock import Clock
from ._lock import FileLock

if TYPE_CHECKING:
    from ._snapshot import Tx

# A look at a guest that could not be put out, and the longest sleep.
_AGAIN_S = 0.05
_SLEEP_S_MAX = 60.0


class Guest(Protocol):
    """A transaction whose holder comes and goes: between two statements no thread is in it.

    All of it is called under the lock.
    """

    #: Until when it may stay.
    due_ms: int
    tx: Tx

    def check(self) -> None:
        """Raise unless it can be committed."""

    def leave(self) -> None:
        """Let nothing of it stay on the connection."""

    def put_out(self) -> bool:
        """Roll it back, whatever its holder does; False: try again."""
        ...


class Turns:
    """The locks of a writer: ``lock`` among the threads of this process, ``file`` among all.

    A writer has both from its BEGIN to its COMMIT. A guest has the file's all that time, but
    ``lock`` only while it uses the connection: so another thread can put it out.
    """

    def __init__(self, path: str) -> None:
        self.file = FileLock(path)
        self._renew()

    def _renew(self) -> None:
        #: Guards the connection that writes, and all below.
        self.lock = threading.RLock()
        self._left = threading.Condition(self.lock)
        self._owner: int | None = None  # the thread whose turn it is
        self._guest: Guest | None = None

    @property
    def is_mine(self) -> bool:
        """Whether it is this thread's turn, so that it must not wait for another."""
        return self._owner == threading.get_ident()

    @property
    def guest(self) -> Guest | None:
        """Who has the turn without being here all the time. For any thread."""
        return self._guest

    # Under the lock, all of these.

    def begin(self) -> None:
        """Begin this thread's turn, once no other process has one."""
        self.file.acquire()
        self._owner = threading.get_ident()

    def admit(self, guest: Guest) -> None:
        """Let the turn go on after the lock is free again, until ``end``."""
        self._guest = guest

    def end(self) -> None:
        """End the turn, whoever has it. Safe to call again."""
        self._owner = None
        if self._guest is not None:
            self._guest = None
            self._left.notify_all()
        self.file.release()

    def await_guest(self, clock: Clock, within_s: float = math.inf) -> bool:
        """Wait until there is no guest. One that stays too long is put out.

        The lock is free meanwhile. False: there still is one after so many seconds.
        """
        deadline = time.monotonic() + within_s
        while (guest := self._guest) is not None and not self.put_out(clock):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            due_s = clock.wait_s(guest.due_ms)
            sleep_s = _SLEEP_S_MAX if due_s is None else max(due_s, _AGAIN_S)
            self._left.wait(min(sleep_s, left_s))
        return True

    def put_out(self, clock: Clock) -> bool:
        """Put out a guest that has stayed too long, if there is one; say whether it was."""
        guest = self._guest
        if guest is None or clock.now_ms() < guest.due_ms or not guest.put_out():
            return False
        self.end()
        return True

    # Closing and forks.

    def close(self) -> None:
        self.file.close()

    def abandon(self) -> None:
        """Let go in a forked child: a thread that is not here may hold the lock."""
        self._renew()
        self.file.abandon()
