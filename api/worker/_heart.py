"""Heartbeats: leases that last as long as their handlers run."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence

from blockqueue.api._log_context import busy_with
from blockqueue.storage import LeaseLost, NotFound

from ._run import Place, Run
from ._slots import Slots
from ._source import Source
from ._stats import Counts

logger = logging.getLogger("blockqueue.worker")

# An interval is drawn from this part of it on, so that many workers do not beat together.
_SPREAD = 0.8
_AGAIN_S = 0.1
_TICK_S_MIN = 0.001


class Heart:
    """A thread that extends the leases of running jobs, those of one claim by one call.

    It asks only for what is missing to one lease from now: else the ends of long jobs' leases
    would drift away, and a crash would hide them for as long.
    """

    def __init__(
        self,
        source: Source,
        topic: str,
        subscriber: str,
        slots: Slots,
        counts: Counts,
        lease_s: float,
        interval_s: float,
    ) -> None:
        self._source = source
        self._topic = topic
        self._subscriber = subscriber
        self._slots = slots
        self._counts = counts
        self._lease_s = lease_s
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="blockqueue-heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def due_s(self, from_s: float) -> float:
        """Return when a job that was claimed or extended at ``from_s`` needs a heartbeat."""
        return from_s + random.uniform(_SPREAD, 1) * self._interval_s

    def _work(self) -> None:
        busy_with(Place(self._topic, self._subscriber))
        # Whatever comes while it sleeps is not due before it wakes.
        wait_s = _SPREAD * self._interval_s
        while not self._stopped.wait(wait_s):
            now_s = time.monotonic()
            due: dict[int, list[Run]] = {}
            for run in self._slots.active():
                if run.is_open and run.beat_due_s <= now_s:
                    missing_ms = max(1, int((now_s - run.extended_s) * 1000))
                    due.setdefault(missing_ms, []).append(run)
            for missing_ms, runs in due.items():
                self._beat(missing_ms, runs)
            next_s = min(
                (run.beat_due_s for run in self._slots.active() if run.is_open),
                default=float("inf"),
            )
            wait_s = min(next_s - time.monotonic(), _SPREAD * self._interval_s)
            wait_s = max(wait_s, _TICK_S_MIN)

    def _beat(self, missing_ms: int, runs: Sequence[Run]) -> None:
        held = [run.held for run in runs]
        try:
            self._source.extend(self._topic, self._subscriber, held, by=missing_ms / 1000)
        except (LeaseLost, NotFound) as error:
            lost = error.lost if isinstance(error, LeaseLost) else ()
            for run in runs:
                if not lost or run.held.id in lost:
                    if self._lose(run, error):
                        self._counts.add("heartbeats_lost")
                else:
                    self._extended(run, missing_ms)
        except Exception as error:
            self._failed(runs, error)
        else:
            for run in runs:
                self._extended(run, missing_ms)

    def _failed(self, runs: Sequence[Run], error: Exception) -> None:
        """Try again soon, unless the leases have run out meanwhile."""
        self._counts.add("heartbeats_failed", len(runs))
        logger.warning("%d leases could not be extended: %s", len(runs), error)
        now_s = time.monotonic()
        for run in runs:
            run.beat_due_s = now_s + _AGAIN_S
            if now_s >= run.extended_s + self._lease_s:
                self._lose(run, error)

    def _extended(self, run: Run, by_ms: int) -> None:
        run.extended_s += by_ms / 1000
        run.beat_due_s = self.due_s(time.monotonic())
        self._counts.add("heartbeats")

    def _lose(self, run: Run, error: Exception) -> bool:
        """Drop what the handler will say. False: it had said it a moment ago."""
        taken = run.take()
        if taken:
            self._counts.add("lease_lost")
            logger.warning("the lease of %r is lost: %s", run.held, error, extra=run.said())
            run.cancel(error)
        return taken
