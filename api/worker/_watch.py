"""The watch over handlers that take too long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from blockqueue.storage import BlockQueueError, Unavailable

from ._outcomes import Nacked
from ._run import Run
from ._slots import Slots
from ._stats import Counts

logger = logging.getLogger("blockqueue.worker")

_TICK_S_MIN = 0.001


class Watch:
    """A thread that ends handlers after ``timeout_s``, and gives up those that do not end.

    A thread cannot be killed: its place is given to another one, and when ``hung_max`` of
    them hang at once the worker fails, so that whoever runs the process starts it anew.
    """

    def __init__(
        self,
        slots: Slots,
        counts: Counts,
        timeout_s: float,
        grace_s: float,
        hung_max: int,
        on_fatal: Callable[[BlockQueueError], None],
    ) -> None:
        self._slots = slots
        self._counts = counts
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._hung_max = hung_max
        self._on_fatal = on_fatal
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="blockqueue-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _work(self) -> None:
        wait_s = self._timeout_s
        while not self._stopped.wait(wait_s):
            due_s = [self._look(run) for run in self._slots.active()]
            # Whoever begins while it sleeps is not late before it wakes.
            wait_s = min([*due_s, time.monotonic() + self._timeout_s]) - time.monotonic()
            wait_s = max(wait_s, _TICK_S_MIN)

    def _look(self, run: Run) -> float:
        """End a handler that is late. Returns when it is to be looked at again."""
        if run.begun_s is None:
            return time.monotonic() + self._timeout_s
        late_s = run.begun_s + self._timeout_s
        if time.monotonic() < late_s:
            return late_s
        if not run.timed_out:
            self._end(run)
        if time.monotonic() >= late_s + self._grace_s:
            self._give_up(run)
        return late_s + self._grace_s

    def _end(self, run: Run) -> None:
        run.timed_out = True
        self._counts.add("timed_out")
        error = TimeoutError(f"the handler did not end within {self._timeout_s:g} s")
        taken = run.take()  # or it has said itself, or its lease is lost
        run.cancel(error)
        if taken:
            logger.warning("%r: %s", run.held, error, extra=run.said())
            self._slots.settle(run, Nacked(f"TimeoutError: {error}"))

    def _give_up(self, run: Run) -> None:
        hung = self._slots.give_up(run)
        text = "the handler of %r hangs and is given up; %d hang now"
        logger.error(text, run.held, hung, extra=run.said())
        if hung >= self._hung_max:
            self._on_fatal(Unavailable(f"{hung} handlers hang: the process must be started anew"))
