"""One thread that knows when something is due, and tells."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from blockqueue.storage import Clock

logger = logging.getLogger("blockqueue")

# A condition cannot wait for a thousand years.
_SLEEP_S_MAX = 3600.0


class Alarm:
    """Calls back at given times. Sleeps in between; an idle process runs nothing here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._stopped = False
        clock.on_change(self._wake)
        self._thread = threading.Thread(target=self._work, name="blockqueue-alarm", daemon=True)
        self._thread.start()

    def at(self, due_ms: int, callback: Callable[[], object]) -> None:
        """Call ``callback`` on the alarm's thread once ``due_ms`` has come. It must be quick."""
        with self._changed:
            heapq.heappush(self._heap, (due_ms, next(self._numbers), callback))
            if self._heap[0][0] == due_ms:
                self._changed.notify()

    def after(self, delay_ms: int, callback: Callable[[], object]) -> None:
        self.at(self._clock.now_ms() + delay_ms, callback)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _work(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:
                logger.exception("an alarm's callback failed")

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._stopped:
                if self._heap and self._heap[0][0] <= self._clock.now_ms():
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(self._sleep_s())
        return None

    def _sleep_s(self) -> float | None:
        wait_s = self._clock.wait_s(self._heap[0][0]) if self._heap else None
        return None if wait_s is None else min(wait_s, _SLEEP_S_MAX)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(5)
