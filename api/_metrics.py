"""What a queue counts and measures, as plain numbers."""

from __future__ import annotations

import contextlib
import os

import msgspec

from blockqueue import storage
from blockqueue.actors import System
from blockqueue.storage import SubscriberNumbers, meters

from ._samples import Timing, sample

# After so long something that should have been done is taken to be stuck.
_LATE_S = 5.0


class Metrics(msgspec.Struct, frozen=True):
    """What a queue counts and measures; the same numbers as ``/metrics``.

    Counts and timings are those of all processes that have used the file, since it was made;
    gauges those of the processes that live. Names are Prometheus's without the prefix
    ``blockqueue_``, labels and all: ``persistence_total{result="persisted"}``.
    """

    #: Every subscriber, as the database has it now.
    subscribers: list[SubscriberNumbers]
    #: How many messages were ever published, by topic.
    published: dict[str, int]
    counts: dict[str, int]
    timings: dict[str, Timing]
    gauges: dict[str, float]


def metrics_of(system: System) -> Metrics:
    """Look at the database once, and at what the processes have counted."""
    with system.reading() as snapshot:
        seen = storage.overview(snapshot)
    row, processes = system.total()
    counts: dict[str, int] = {}
    timings: dict[str, Timing] = {}
    gauges: dict[str, float] = {}
    for meter in meters.METERS:
        name = sample(meter.name, meter.labels)
        if meter.bounds:
            timings[name] = _timing(meter, row)
        elif meter.place == meters.PERSISTENCE_LAG:
            gauges[name] = row[meter.place] / 1000
        elif meter.place in meters.GAUGES:
            gauges[name] = row[meter.place]
        else:
            counts[name] = row[meter.place]
    gauges["processes"] = processes
    gauges["scheduler_due_lag_seconds"] = seen.schedule_lag_s
    gauges["scheduler_healthy"] = float(seen.schedule_lag_s < _LATE_S)
    gauges |= _health(system) | _sizes(system.store.path)
    return Metrics(seen.subscribers, seen.published, counts, timings, gauges)


def _timing(meter: meters.Meter, row: list[int]) -> Timing:
    end = meter.place + meters.BUCKETS
    return Timing.of(meter.bounds, row[meter.place : end], row[end] / meter.scale)


def _health(system: System) -> dict[str, float]:
    store = system.store
    due_ms = store.hints.lease_due_ms
    late_ms = 0 if due_ms is None else store.clock.now_ms() - due_ms
    return {
        "writer_healthy": float(system.failed is None and store.failed is None),
        "delivery_reaper_healthy": float(late_ms < _LATE_S * 1000),
        "database_listener_healthy": float(system.is_listening),
    }


def _sizes(path: str) -> dict[str, float]:
    disk = os.statvfs(os.path.dirname(path))
    sizes = {"disk_free_bytes": float(disk.f_frsize * disk.f_bavail)}
    for name, end in (("database_bytes", ""), ("wal_bytes", "-wal")):
        sizes[name] = 0.0
        with contextlib.suppress(FileNotFoundError):
            sizes[name] = float(os.stat(path + end).st_size)
    return sizes
