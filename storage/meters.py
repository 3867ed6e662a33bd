"""What is counted and timed while the queue works: each meter and its place in a row of numbers.

Where the rows are kept, and how they become one, is in ``_meter_rows.py``.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from ._runs import Run
from ._states import State

#: Up to which value each bucket of a histogram goes: of seconds, and of things.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192)
#: How many numbers a histogram has besides the sum, which comes last.
BUCKETS = len(SECONDS) + 1


class Meter(NamedTuple):
    """A number, or the numbers of a histogram. Named as Prometheus does, without our prefix."""

    name: str
    #: The places of its numbers in a row: one, or the buckets and the sum of a histogram.
    place: int
    labels: tuple[tuple[str, str], ...] = ()
    #: What the buckets go up to; (): it is no histogram.
    bounds: tuple[float, ...] = ()

    @property
    def scale(self) -> int:
        """By how much its sum is larger than what was noted: times are summed in nanoseconds."""
        return 1_000_000_000 if self.bounds is SECONDS else 1


#: The first number of a row says how it is laid out, see ``LAYOUT``.
_next_place = 1
METERS: list[Meter] = []


def _meter(name: str, bounds: tuple[float, ...] = (), **labels: str) -> int:
    """Give a meter its place in a row. Call it at import only."""
    global _next_place  # the table grows line by line below
    place = _next_place
    _next_place += BUCKETS + 1 if bounds else 1
    METERS.append(Meter(name, place, tuple(labels.items()), bounds))
    return place


# Counters.

ADMITTED = _meter("persistence_total", result="admitted")
PERSISTED = _meter("persistence_total", result="persisted")
DUPLICATE = _meter("persistence_total", result="duplicate")
PUBLISH_FAILED = _meter("persistence_total", result="failed")
PUBLISH_REFUSED = _meter("persistence_total", result="refused")

FLUSHED = _meter("flush_total", result="success")
FLUSH_FAILED = _meter("flush_total", result="failed")
FLUSH_RETRIED = _meter("flush_total", result="retry")
PAGES_WRITTEN = _meter("wal_pages_written_total")

_RESULTS = {
    "claim": ("success", "dead_letter"),
    "ack": ("success", "failed", "lease_lost"),
    "nack": ("success", "dead_letter", "failed", "lease_lost"),
    "lease": ("success", "failed", "lease_lost"),
    "snooze": ("success", "failed", "lease_lost"),
    "cancel": ("success", "failed", "lease_lost"),
    "release": ("success", "failed", "lease_lost"),
    "expire": ("success", "dead_letter"),
    "replay": ("success", "failed", "lease_lost"),
    "drop": ("success", "failed", "lease_lost"),
}
#: What became of deliveries, by operation and result.
DELIVERY_OPERATIONS = {
    (operation, result): _meter("delivery_operation_total", operation=operation, result=result)
    for operation, results in _RESULTS.items()
    for result in results
}


def result_of(run: Run) -> str:
    """Return what a failure has led to, as a meter's result."""
    return "dead_letter" if run.state == State.DEAD else "success"


CHECKPOINTED = _meter("checkpoint_total", result="success")
CHECKPOINT_FAILED = _meter("checkpoint_total", result="failed")
CHECKPOINT_BUSY = _meter("checkpoint_total", result="busy")

SCHEDULE_CLAIMED = _meter("scheduler_operation_total", operation="claimed", result="success")
SCHEDULE_PUBLISHED = _meter("scheduler_operation_total", operation="published", result="success")
SCHEDULE_FAILED = _meter("scheduler_operation_total", operation="published", result="failed")
SCHEDULE_SKIPPED = _meter("scheduler_operation_total", operation="published", result="skipped")

#: What the sweeper does.
MAINTENANCE = ("delivery_reaper", "scheduler", "retention", "topology_cleanup")
MAINTENANCE_ROWS = {each: _meter("maintenance_rows_total", operation=each) for each in MAINTENANCE}
MAINTENANCE_PASSES = {
    (each, result): _meter("maintenance_pass_total", operation=each, result=result)
    for each in MAINTENANCE
    for result in ("success", "failed", "yielded")
}

WORKER_RESTARTS = _meter("restarts_total", kind="process")
ACTOR_RESTARTS = _meter("restarts_total", kind="actor")

# Histograms.

FLUSH_SIZE = _meter("flush_size", NUMBERS)
FLUSH_SECONDS = _meter("flush_duration_seconds", SECONDS)
LOCK_SECONDS = _meter("write_lock_wait_seconds", SECONDS)
PUBLISH_SECONDS = _meter("publish_duration_seconds", SECONDS)
DELIVERY_SECONDS = {
    each: _meter("delivery_operation_duration_seconds", SECONDS, operation=each)
    for each in ("claim", "ack", "nack", "lease", "batch_ack", "batch_nack", "other")
}
CHECKPOINT_SECONDS = _meter("checkpoint_duration_seconds", SECONDS)
MAINTENANCE_SECONDS = {
    each: _meter("maintenance_duration_seconds", SECONDS, operation=each) for each in MAINTENANCE
}

# Gauges: of now, by each process that lives.

PENDING_MESSAGES = _meter("pending_messages")
PENDING_BYTES = _meter("pending_bytes")
PARKED_POLLS = _meter("parked_polls")
#: In milliseconds. The longest of all processes counts, not the sum.
PERSISTENCE_LAG = _meter("persistence_lag_seconds")
GAUGES = (PENDING_MESSAGES, PENDING_BYTES, PARKED_POLLS, PERSISTENCE_LAG)

#: How many numbers a row has.
ROW = 384
LAYOUT = zlib.crc32(repr(METERS).encode())

if _next_place > ROW:
    raise AssertionError(f"a row is too short for {_next_place} numbers")
