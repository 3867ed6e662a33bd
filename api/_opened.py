"""The actor system behind a queue object, made anew after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from blockqueue.actors import System
from blockqueue.storage import QueueClosed


class Opened:
    """Holds the running System of this process.

    A forked child has none of its parent's threads and must not touch its connections. So
    it lets go of them at once and opens the file anew when the queue is first used there.
    """

    def __init__(self, start: Callable[[], System]) -> None:
        self._start = start
        self._lock = threading.Lock()  # guards _system while it is made anew
        self._system: System | None = start()
        self._closed = False
        _all.add(self)

    def system(self) -> System:
        """Return the System; in a forked child, a new one. Raises QueueClosed."""
        system = self._system
        if system is not None:
            return system
        with self._lock:
            if self._closed:
                raise QueueClosed("the queue is closed")
            if self._system is None:
                self._system = self._start()
            return self._system

    def close(self) -> bool:
        """Stop the System. Safe to call again. Returns whether all ended in time."""
        with self._lock:
            system, self._closed = self._system, True
        return system is None or system.close()

    def abandon(self) -> None:
        """Run in a forked child, before anything else runs there."""
        self._lock = threading.Lock()
        system, self._system = self._system, None
        if system is not None:
            system.abandon()


_all: weakref.WeakSet[Opened] = weakref.WeakSet()


def _abandon_all() -> None:
    for opened in list(_all):
        opened.abandon()


os.register_at_fork(after_in_child=_abandon_all)
