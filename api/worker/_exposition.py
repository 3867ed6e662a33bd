"""What workers have done, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from blockqueue.api._samples import PREFIX, Timing, head, histogram, sample

from ._stats import WorkerStats

_JOBS, _BEATS = "worker_jobs_total", "worker_heartbeat_total"
_ACTIVE, _DURATION = "worker_active_handlers", "worker_handler_duration_seconds"
_METRICS = {
    _JOBS: ("counter", "Jobs by what became of them."),
    _BEATS: ("counter", "Leases that were to be extended, by what came of it."),
    _ACTIVE: ("gauge", "Handlers at work, those that hang too."),
    _DURATION: ("histogram", "How long handlers took, by how they ended."),
}
_OUTCOMES = ("processed", "nacked", "cancelled", "lease_lost", "completion_failed")
_BEAT_RESULTS = {
    "success": "heartbeats",
    "failed": "heartbeats_failed",
    "lease_lost": "heartbeats_lost",
}


class Told(Protocol):
    """The little of a worker that is told here."""

    topic: str
    subscriber: str

    @property
    def stats(self) -> WorkerStats: ...

    @property
    def durations(self) -> dict[str, Timing]: ...


def exposition(workers: Iterable[Told]) -> str:
    """Return what workers tell. Those of one subscriber are summed: it must not come twice."""
    samples: dict[str, dict[str, float]] = {name: {} for name in _METRICS}
    for worker in workers:
        for name, key, number in _samples(worker):
            samples[name][key] = samples[name].get(key, 0) + number
    return "".join(
        head(name, *_METRICS[name]) + "".join(f"{PREFIX}{key} {each[key]}\n" for key in each)
        for name, each in samples.items()
    )


def _samples(worker: Told) -> Iterator[tuple[str, str, float]]:
    stats = worker.stats
    labels = (("topic", worker.topic), ("subscriber", worker.subscriber))
    for outcome in _OUTCOMES:
        yield _JOBS, sample(_JOBS, (*labels, ("outcome", outcome))), getattr(stats, outcome)
    for result, field in _BEAT_RESULTS.items():
        yield _BEATS, sample(_BEATS, (*labels, ("result", result))), getattr(stats, field)
    yield _ACTIVE, sample(_ACTIVE, labels), stats.running
    for result, timing in worker.durations.items():
        for key, number in histogram(_DURATION, (*labels, ("result", result)), timing):
            yield _DURATION, key, number
