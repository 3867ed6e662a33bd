"""What the tests of schedules in the storage need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    Envelope,
    Schedule,
    SchedulePlan,
    ScheduleRun,
    Subscriber,
    claim,
    create_schedule,
    finish_runs_in,
    look_at_runs,
    purge_runs_in,
    run_page,
    schedule,
    settle,
    verb,
)

from .storage_helpers import Queue, handles, open_queue

#: A whole minute of the clock that stands still.
START_MS = 1_700_000_040_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000

finish_runs = verb(finish_runs_in)
purge_runs = verb(purge_runs_in)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """Open a store with a topic and its subscriber, at the start of a minute."""
    opened = open_queue(tmp_path, Subscriber("worker", max_attempts=1, retry_jitter=0))
    opened.clock.advance(START_MS - opened.clock.now_ms())
    yield opened
    opened.store.close()


def plan(name: str = "minutely", cron: str = "* * * * *", **options: object) -> SchedulePlan:
    """Plan a message for every minute."""
    body = Envelope("tick", {"a": "b"}, "c")
    return SchedulePlan(name, cron, body, **options)  # type: ignore[arg-type]


def make(queue: Queue, name: str = "minutely", cron: str = "* * * * *") -> Schedule:
    """Make a schedule."""
    return create_schedule(queue.store, queue.topic.id, plan(name, cron))


def now(queue: Queue, made: Schedule) -> Schedule:
    """Return a schedule as it is."""
    with queue.store.reading() as snapshot:
        return schedule(snapshot, queue.topic.id, made.uid)


def runs(queue: Queue, made: Schedule) -> list[ScheduleRun]:
    """Return a schedule's runs, the first one first, with what is done noted."""
    with queue.store.reading() as snapshot:
        look = look_at_runs(snapshot)
    finish_runs(queue.store, look.done)
    with queue.store.reading() as snapshot:
        return run_page(snapshot, made, 1000).items[::-1]


def told(queue: Queue, made: Schedule) -> list[tuple[int, str]]:
    """Return the runs as minutes since the start, and status."""
    return [((run.scheduled_ms - START_MS) // MINUTE_MS, run.status) for run in runs(queue, made)]


def consume(queue: Queue) -> int:
    """Claim and acknowledge all that there is; return how many that were."""
    taken = claim(queue.store, queue.subscriber_id, 100)
    settle(queue.store, queue.subscriber_id, Ack(), handles(taken))
    return len(taken)
