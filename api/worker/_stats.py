"""What a worker has done so far."""

from __future__ import annotations

import threading

import msgspec

from blockqueue.api._samples import Timing
from blockqueue.storage import bucketed

#: How a handler can end: it returned, it raised, it raised ``Cancel``.
RESULTS = ("ok", "error", "cancel_requested")
# The bounds of the histograms. Some handlers take microseconds, and others an hour.
_BOUNDS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# So many times are noted before they are put into buckets.
_NOTED_MAX = 1000


class WorkerStats(msgspec.Struct, frozen=True):
    """Counts since the worker started; ``active``, ``running`` and ``hung`` are as of now."""

    processed: int = 0
    nacked: int = 0
    cancelled: int = 0
    #: Jobs whose lease was lost: what their handlers said was dropped.
    lease_lost: int = 0
    #: Outcomes that could not be told to the queue: the jobs come again.
    completion_failed: int = 0
    heartbeats: int = 0
    heartbeats_failed: int = 0
    #: Heartbeats that came too late: somebody else has the job, or has given it up.
    heartbeats_lost: int = 0
    #: Handlers that did not end within the ``timeout``.
    timed_out: int = 0
    #: Jobs in the hands of handlers, or about to be.
    active: int = 0
    #: Handlers at work, those that hang too.
    running: int = 0
    #: Handlers that were given up and still run.
    hung: int = 0


class Counts:
    """The counts while they grow. Safe for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _counts
        self._counts: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + number

    def stats(self, **now: int) -> WorkerStats:
        """Return the counts, with what is known of now."""
        with self._lock:
            return WorkerStats(**now, **self._counts)


class Durations:
    """How long handlers took, by how they ended. Safe for any thread.

    Noted on the way, and put into buckets by who has the time for it: done behind each job, while
    others wait for the slots' lock, it would slow down those that take no time.
    """

    def __init__(self) -> None:
        self._noted: dict[str, list[float]] = {each: [] for each in RESULTS}
        self._lock = threading.Lock()  # guards all below
        self._rows: dict[str, list[int]] = {each: [0] * (len(_BOUNDS_S) + 1) for each in RESULTS}
        self._totals_s: dict[str, float] = dict.fromkeys(RESULTS, 0.0)

    def note(self, result: str, seconds: float) -> None:
        self._noted[result].append(seconds)

    def sort(self) -> None:
        """Put what was noted into buckets, if that has become much."""
        for result, noted in self._noted.items():
            if len(noted) >= _NOTED_MAX:
                with self._lock:
                    self._sort(result)

    def timings(self) -> dict[str, Timing]:
        """Return all of them, by result."""
        with self._lock:
            return {each: self._timing(each) for each in RESULTS}

    def _timing(self, result: str) -> Timing:
        self._sort(result)
        return Timing.of(_BOUNDS_S, self._rows[result], self._totals_s[result])

    def _sort(self, result: str) -> None:
        noted = self._noted[result]
        batch = noted[:]
        del noted[: len(batch)]  # more may have come meanwhile
        pairs = zip(self._rows[result], bucketed(batch, _BOUNDS_S), strict=True)
        self._rows[result] = [count + more for count, more in pairs]
        self._totals_s[result] += sum(batch)
