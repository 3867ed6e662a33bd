"""What a worker has done so far."""

from __future__ import annotations

import threading

import msgspec


class WorkerStats(msgspec.Struct, frozen=True):
    """Counts since the worker started; ``active`` and ``hung`` are as of now."""

    processed: int = 0
    nacked: int = 0
    cancelled: int = 0
    #: Jobs whose lease was lost: what their handlers said was dropped.
    lease_lost: int = 0
    #: Outcomes that could not be told to the queue: the jobs come again.
    completion_failed: int = 0
    heartbeats: int = 0
    heartbeats_failed: int = 0
    #: Handlers that did not end within the ``timeout``.
    timed_out: int = 0
    #: Jobs in the hands of handlers, or about to be.
    active: int = 0
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

    def stats(self, active: int, hung: int) -> WorkerStats:
        with self._lock:
            return WorkerStats(active=active, hung=hung, **self._counts)
