"""The jobs that a worker has in hand: who may claim how many, who runs them, who settles them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ._outcomes import Outcome
from ._run import Run
from ._settings import Settings
from ._stats import Counts, Durations, WorkerStats

# With every slot taken, the next claim waits until half of them are free, or so long.
_LINGER_S = 0.001
# A wait that nothing ended is looked at again after this.
_LOOK_S = 5.0
# A free slot is given as many jobs as its handler does in this time, if those are several.
_AHEAD_S, _AHEAD_MAX = 0.005, 16
# Of a handler's times, the latest counts for this part of the mean.
_WEIGHT = 1 / 8
# Jobs that wait so long behind busy handlers are given back, for others to do.
_PATIENCE_S = 0.1


class Done(NamedTuple):
    """A job whose handler has ended, and what is to become of it."""

    run: Run
    outcome: Outcome


class Slots:
    """``concurrency`` slots for handlers. One lock, so that a job costs one turn of it.

    A slot is free again when its handler has ended; settling goes on beside. Subclasses run
    the handlers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.durations = Durations()
        self._lock = threading.Lock()  # guards all below
        self._changed = threading.Condition(self._lock)  # the claimer waits for it
        self._finished = threading.Condition(self._lock)  # and for this one who settles
        #: Claimed, and the handler has not ended.
        self._active: set[Run] = set()
        #: Of these, whose handler has not begun.
        self._waiting: deque[Run] = deque()
        #: The handler has ended, and nobody has taken it to settle it yet.
        self._done: deque[Done] = deque()
        #: These, and those that are being settled.
        self._unsettled = 0
        #: Given up, but their handlers still run.
        self._hung: set[Run] = set()
        #: How long a handler takes. At first: too long for jobs ahead.
        self._mean_s = _AHEAD_S
        #: With so many free slots, and so many jobs done, those who wait are to be woken.
        self._wake_free = self._wake_done = 0
        self._stopping = self._forced = self._closed = False

    # The claimer.

    def room(self) -> int:
        """Wait for a free slot; return how many jobs to claim. 0: none for now.

        That is when the worker stops, or has jobs to give back: see ``take_waiting``.
        """
        concurrency = self._settings.concurrency
        with self._lock:
            self._wait_free(1, _PATIENCE_S if self._waiting else _LOOK_S)
            self._wait_free((concurrency + 1) // 2, _LINGER_S)
            return 0 if self._stopping else min(self._settings.batch, self._free() * self._ahead())

    def _wait_free(self, free: int, timeout_s: float) -> None:
        self._wake_free = free
        self._changed.wait_for(lambda: self._stopping or self._free() >= free, timeout_s)

    def _free(self) -> int:
        """Return how many slots are free; none while very many jobs are still to be settled."""
        free = self._settings.concurrency - len(self._active)
        return max(0, free) if self._unsettled < self._unsettled_max() else 0

    def _unsettled_max(self) -> int:
        return 2 * self._settings.concurrency * self._ahead()

    def _ahead(self) -> int:
        return max(1, min(_AHEAD_MAX, int(_AHEAD_S / max(self._mean_s, 1e-6))))

    def add(self, runs: Sequence[Run]) -> None:
        """Let handlers run for these jobs."""
        with self._lock:
            self._active.update(runs)
            self._waiting.extend(runs)
        self.hand_out()

    def hand_out(self) -> None:
        """See to it that handlers begin for those that wait, as far as slots are free."""
        raise NotImplementedError

    def take_waiting(self) -> list[Run]:
        """Return the jobs to give back: which would have to wait for handlers to end."""
        with self._lock:
            now_s = time.monotonic()
            late = [
                run
                for run in self._waiting
                if self._stopping or now_s - run.claimed_s >= _PATIENCE_S
            ]
            for run in late:
                self._waiting.remove(run)
                self._active.remove(run)
            return late

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Let nobody claim from now on."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()

    def force(self) -> None:
        """Let nobody wait for handlers any longer."""
        with self._lock:
            self._forced = True
            self._changed.notify_all()

    def wait_idle(self, timeout_s: float, *, forced: bool = False) -> bool:
        """Wait until all handlers have ended, unless forced not to. True: they have."""
        with self._lock:
            self._wake_free = self._settings.concurrency
            self._changed.wait_for(
                lambda: not self._active or (self._forced and not forced), timeout_s
            )
            return not self._active

    # The handlers.

    def _next(self) -> Run:
        run = self._waiting.popleft()
        run.begun_s = time.monotonic()
        return run

    def _end(self, run: Run, outcome: Outcome | None) -> bool:
        """Note that a handler has ended; None: somebody else has said what becomes of it.

        False: it had been given up, and its slot is another one's.
        """
        if outcome is not None:
            self._done.append(Done(run, outcome))
            self._unsettled += 1
        took_s = time.monotonic() - (run.begun_s or 0)
        self.durations.note(run.result, took_s)
        known = run in self._active
        if known:
            self._active.remove(run)
            self._mean_s += _WEIGHT * (took_s - self._mean_s)
        else:
            self._hung.discard(run)
        self._wake()
        return known

    def _wake(self) -> None:
        if self._done and (len(self._done) >= self._wake_done or not self._active):
            self._finished.notify()
        if not self._active or self._free() >= self._wake_free:
            self._changed.notify()

    def give_up(self, run: Run) -> int:
        """Free the slot of a handler that hangs. Returns how many do now."""
        with self._lock:
            if run in self._active:
                self._active.remove(run)
                self._hung.add(run)
                self._wake()
            return len(self._hung)

    # Those who look after them.

    def settle(self, run: Run, outcome: Outcome) -> None:
        """Have a job settled whose handler may still run."""
        with self._lock:
            self._done.append(Done(run, outcome))
            self._unsettled += 1
            self._wake()

    def take_done(self, timeout_s: float, *, until_closed: bool) -> list[Done]:
        """Wait for jobs that are done, and a little for more; return them, [] after a while.

        With ``until_closed``, [] also once no more will come.
        """
        settings = self._settings
        with self._lock:
            self._wake_done = 1
            self._finished.wait_for(
                lambda: self._done or (until_closed and self._closed), timeout_s
            )
            batch = min(settings.completion_batch, settings.concurrency * self._ahead())
            if self._done and settings.completion_flush_s:
                self._wake_done = batch
                self._finished.wait_for(
                    lambda: len(self._done) >= batch or not self._active,
                    settings.completion_flush_s,
                )
            return [self._done.popleft() for _ in range(min(len(self._done), batch))]

    def settled(self, count: int) -> None:
        """Note that the queue was told of so many jobs, or will never be."""
        with self._lock:
            self._unsettled -= count
            self._wake()

    def active(self) -> list[Run]:
        with self._lock:
            return list(self._active)

    def stats(self, counts: Counts) -> WorkerStats:
        """Return the counts, and how it is here now."""
        with self._lock:
            active, hung = len(self._active), len(self._hung)
            running = active - len(self._waiting) + hung
            return counts.stats(active=active, running=running, hung=hung)

    def close(self) -> None:
        """Let the threads end when nothing is left."""
        with self._lock:
            self._closed = True
            self._finished.notify_all()
