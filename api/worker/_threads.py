"""Handlers that are plain functions, each on a thread while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._outcomes import Outcome
from ._run import Run
from ._settings import Settings
from ._slots import Slots

# An idle thread looks after itself this often.
_LOOK_S = 60.0


class ThreadSlots(Slots):
    """Threads are made when they are needed, and then kept.

    Who takes a job wakes the next thread if there is another one: handlers that wait run side
    by side, and those that are done at once are run by one thread, without a change.
    """

    def __init__(self, settings: Settings, handle: Callable[[Run], Outcome | None]) -> None:
        super().__init__(settings)
        self._handle = handle
        self._ready = threading.Condition(self._lock)
        # Guarded by the lock of the base.
        self._threads = 0
        self._asleep = 0
        #: A thread was woken, and has not got going yet.
        self._waking = False

    def hand_out(self) -> None:
        with self._lock:
            self._wake_next()
            free = self._settings.concurrency - self._threads
            more = max(0, min(len(self._waiting) - self._asleep, free))
            self._threads += more
        for _ in range(more):
            threading.Thread(target=self._work, name="blockqueue-handler", daemon=True).start()

    def _wake_next(self) -> None:
        if self._waiting and self._asleep and not self._waking:
            self._waking = True
            self._ready.notify()

    def _work(self) -> None:
        run = self._turn(None, None)
        while run is not None:
            run = self._turn(run, self._handle(run))

    def _turn(self, run: Run | None, outcome: Outcome | None) -> Run | None:
        """Note how a job has ended and wait for the next one. None: the thread is to end."""
        with self._lock:
            if run is not None and not self._end(run, outcome):
                return None  # another thread has its slot
            while not self._waiting:
                if self._closed:
                    return None
                self._asleep += 1
                self._ready.wait(_LOOK_S)
                self._asleep -= 1
                self._waking = False
            run = self._next()
            self._wake_next()
            return run

    def give_up(self, run: Run) -> int:
        with self._lock:
            self._threads -= run in self._active
        hung = super().give_up(run)
        self.hand_out()
        return hung

    def close(self) -> None:
        super().close()
        with self._lock:
            self._ready.notify_all()
