"""The lock that writers of different processes take in turn."""

from __future__ import annotations

import fcntl
import os


class FileLock:
    """An advisory lock on a file of its own. Two of them exclude each other, always.

    It is much fairer and faster than SQLite's busy handler, which sleeps and tries again.
    A forked child must call ``abandon``: unlocking there would free the parent's lock.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the descriptor, which frees the lock unless a forked process shares it.

        Safe to call again.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    abandon = close
