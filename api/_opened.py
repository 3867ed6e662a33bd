"""The actor system behind a queue object, made anew after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from pykka import ActorRegistry

from blockqueue.actors import System
from blockqueue.storage import QueueClosed


class Opened:
    """Holds the running System of this process.

    For the moment of a fork its connections are closed and its work stands still. The parent
    goes on; the child, which has none of the threads, lets go of it at once and opens the
    file anew when the queue is first used there.
    """

    def __init__(self, start: Callable[[], System]) -> None:
        self._start = start
        self._lock = threading.Lock()  # guards _system while it is made anew
        self._closed = False
        self._resting = False
        #: Why a forked child cannot open the file.
        self._unusable: QueueClosed | None = None
        with _forking:
            self._system: System | None = start()
            _all.add(self)

    def system(self) -> System:
        """Return the System; in a forked child, a new one. Raises QueueClosed."""
        system = self._system
        if system is not None:
            return system
        with self._lock, _forking:
            if self._closed:
                raise QueueClosed("the queue is closed")
            if self._unusable is not None:
                raise self._unusable
            if self._system is None:
                self._system = self._start()
            return self._system

    def close(self) -> bool:
        """Stop the System. Safe to call again. Returns whether all ended in time."""
        with self._lock:
            system, self._closed = self._system, True
        return system is None or system.close()

    def before_fork(self) -> None:
        self._resting = self._system is not None and self._system.before_fork()

    def after_fork(self) -> None:
        """Go on in the parent."""
        if self._resting and self._system is not None:
            self._system.after_fork()
        self._resting = False

    def abandon(self) -> None:
        """Run in a forked child, before anything else runs there."""
        self._lock = threading.Lock()
        system, self._system = self._system, None
        if system is None:
            return
        system.abandon()
        if not self._resting:
            self._unusable = QueueClosed(
                "the process was forked while the forking thread was using the queue"
            )
        self._resting = False


_all: weakref.WeakSet[Opened] = weakref.WeakSet()
_forking = threading.Lock()  # held during a fork, and while a System is being made
_fork_of: list[Opened] = []  # those that are alive at this fork
_actors = ActorRegistry._actor_refs_lock  # pyright: ignore[reportPrivateUsage]


def _before_fork() -> None:
    _forking.acquire()
    _actors.acquire()  # or a child might find it held by a thread that it does not have
    _fork_of.extend(_all)
    for opened in _fork_of:
        opened.before_fork()


def _after_fork_in_parent() -> None:
    for opened in _fork_of:
        opened.after_fork()
    _fork_of.clear()
    _actors.release()
    _forking.release()


def _after_fork_in_child() -> None:
    for opened in _fork_of:
        opened.abandon()
    _fork_of.clear()
    _actors.release()
    _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
