"""Leases under a worker: kept while its handlers run, and what follows when one is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, Job, LeaseLost, State, Subscriber, Unavailable, Worker

from .embedded_helpers import WAIT_S, eventually


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    """A queue in real time, where what failed is tried again at once."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("counter", max_attempts=9, retry_initial=0)])
        yield queue


@pytest.mark.parametrize("heartbeat", [None, 0])
def test_heartbeats_keep_a_lease_while_its_handler_runs(
    queue: BlockQueue, heartbeat: int | None
) -> None:
    """Four leases long. Without them, as a control, the job comes a second time meanwhile."""
    queue.publish("cart", "hi")
    calls: list[int] = []
    second = threading.Event()
    enough = threading.Event()

    def handle(job: Job) -> None:
        calls.append(job.delivery_count)
        if len(calls) > 1:
            second.set()
        elif heartbeat is None:
            assert enough.wait(WAIT_S)
        else:
            assert second.wait(WAIT_S)

    with Worker(
        queue, "cart", "counter", handle, concurrency=2, lease="300ms", heartbeat=heartbeat
    ) as worker:
        if heartbeat is None:
            eventually(lambda: worker.stats.heartbeats >= 12)
            (status,) = queue.subscribers("cart")
            assert status.leased == 1
            enough.set()
        else:
            assert second.wait(WAIT_S)
        eventually(lambda: worker.stats.processed == 1)

    assert calls == ([1] if heartbeat is None else [1, 2])
    assert worker.stats.lease_lost == (0 if heartbeat is None else 1)


def test_heartbeats_do_not_let_the_lease_drift_away(queue: BlockQueue) -> None:
    """After many of them it ends no later than one lease from now."""
    queue.publish("cart", "hi")
    jobs: list[Job] = []
    enough = threading.Event()

    def handle(job: Job) -> None:
        jobs.append(job)
        assert enough.wait(WAIT_S)

    with Worker(queue, "cart", "counter", handle, lease="1m", heartbeat="10ms") as worker:
        eventually(lambda: worker.stats.heartbeats >= 20)
        ends = jobs[0].lease_expires_at.timestamp() * 1000
        enough.set()

    now_ms = queue.system.clock.now_ms()
    assert now_ms + 30_000 < ends <= now_ms + 60_000


def test_a_handler_learns_that_its_lease_is_lost(queue: BlockQueue) -> None:
    """An operator cancels the job: the handler is told, and what it says then is dropped."""
    receipt = queue.publish("cart", "hi")
    begun = threading.Event()
    causes: list[BaseException | None] = []

    def handle(job: Job) -> None:
        begun.set()
        assert job.wait_cancelled(WAIT_S)
        assert job.cancelled
        causes.append(job.cause)
        job.check()

    with Worker(queue, "cart", "counter", handle, heartbeat="10ms") as worker:
        assert begun.wait(WAIT_S)
        queue.cancel("cart", "counter", [receipt.id], reason="not wanted")
        eventually(lambda: len(causes) == 1)

    assert isinstance(causes[0], LeaseLost)
    assert (worker.stats.lease_lost, worker.stats.nacked) == (1, 0)
    (delivery,) = queue.message("cart", receipt.id).deliveries
    assert delivery.state is State.CANCELLED


def test_an_async_handler_is_cancelled_when_its_lease_is_lost(queue: BlockQueue) -> None:
    """By a CancelledError where it waits."""
    receipt = queue.publish("cart", "hi")
    begun, ended = threading.Event(), threading.Event()

    async def handle(job: Job) -> None:
        begun.set()
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            ended.set()
            raise

    with Worker(queue, "cart", "counter", handle, heartbeat="10ms") as worker:
        assert begun.wait(WAIT_S)
        queue.cancel("cart", "counter", [receipt.id])
        assert ended.wait(WAIT_S)

    assert (worker.stats.lease_lost, worker.stats.nacked) == (1, 0)


def test_a_late_outcome_is_dropped_and_settles_nothing(queue: BlockQueue) -> None:
    """A handler outlives its lease; the one who has the job now is not disturbed."""
    queue.publish("cart", "hi")
    begun, go_on = threading.Event(), threading.Event()

    def handle(job: Job) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    with Worker(queue, "cart", "counter", handle, lease="50ms", heartbeat=0) as worker:
        assert begun.wait(WAIT_S)
        (other,) = queue.claim("cart", "counter", wait=WAIT_S, lease="1m")
        go_on.set()
        eventually(lambda: worker.stats.lease_lost == 1)
    assert worker.stats.processed == 0
    other.ack()


def test_a_handler_that_hangs_loses_its_job_and_its_slot(queue: BlockQueue) -> None:
    """The job is nacked and done by another thread; what the first one says is dropped."""
    queue.publish("cart", "hi")
    release = threading.Event()
    counts: list[int] = []

    def handle(job: Job) -> None:
        counts.append(job.delivery_count)
        if len(counts) == 1:
            assert release.wait(WAIT_S)

    with Worker(
        queue, "cart", "counter", handle, concurrency=2, timeout="50ms", hard_stop="10ms"
    ) as worker:
        eventually(lambda: worker.stats.processed == 1 and worker.stats.hung == 1)
        release.set()
        eventually(lambda: worker.stats.hung == 0)

    assert counts == [1, 2]
    assert (worker.stats.timed_out, worker.stats.nacked, worker.stats.processed) == (1, 1, 1)


def test_when_all_its_handlers_hang_the_worker_fails(queue: BlockQueue) -> None:
    """It never leaves more threads behind than it has slots; whoever runs it starts it anew."""
    queue.publish_many("cart", [str(number) for number in range(10)])
    release = threading.Event()
    called: list[int] = []

    def handle(job: Job) -> None:
        called.append(1)
        assert release.wait(WAIT_S)

    worker = Worker(
        queue,
        "cart",
        "counter",
        handle,
        concurrency=2,
        timeout="20ms",
        hard_stop="10ms",
        drain="10ms",
    )
    with pytest.raises(Unavailable, match="handlers hang"):
        worker.start().join()
    assert worker.stats.hung >= 2
    assert len(called) <= 4
    release.set()


def test_an_async_handler_that_takes_too_long_is_cancelled(queue: BlockQueue) -> None:
    """And its job nacked, with the timeout as the reason."""
    receipt = queue.publish("cart", "hi")
    counts: list[int] = []

    async def handle(job: Job) -> None:
        counts.append(1)
        if len(counts) == 1:
            await asyncio.sleep(WAIT_S)

    with Worker(queue, "cart", "counter", handle, timeout="50ms") as worker:
        eventually(lambda: worker.stats.processed == 1)

    assert (worker.stats.timed_out, worker.stats.nacked) == (1, 1)
    (failure,) = queue.failure_page("cart", "counter", receipt.id).items
    assert failure.error == "TimeoutError: the handler did not end within 0.05 s"
