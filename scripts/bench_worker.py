"""A worker with handlers that do nothing, against bare claims and acks of 100 by one caller."""

from __future__ import annotations

import threading
import time
from functools import partial

from bench_figures import Bench, Figure, in_worker, messages, ratio_of_rates

from blockqueue import BlockQueue, Job, Worker

_BATCH = 100
_CONCURRENCY = 16


def _fill(queue: BlockQueue, topic: str, count: int) -> None:
    for _ in range(count // 1000):
        queue.publish_many(topic, messages(1000))


def _work(queue: BlockQueue, topic: str, count: int) -> float:
    """Let a worker do so many jobs; return the seconds until the last one was acked."""
    handled: list[None] = []
    done = threading.Event()

    def handle(job: Job) -> None:
        handled.append(None)
        if len(handled) == count:
            done.set()

    worker = Worker(queue, topic, "counter", handle, concurrency=_CONCURRENCY)
    started = time.perf_counter()
    with worker:
        done.wait(300)
    spent = time.perf_counter() - started
    assert worker.stats.processed == count
    return spent


def _claim_and_ack(queue: BlockQueue, topic: str, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count // _BATCH):
        claimed = queue.claim(topic, "counter", limit=_BATCH)
        assert len(claimed) == _BATCH
        queue.ack(topic, "counter", claimed)
    return time.perf_counter() - started


def worker(bench: Bench) -> list[Figure]:
    """Jobs a second from the first claim to the last ack."""
    count = bench.sizes.jobs
    ours: list[float] = []
    bound: list[float] = []
    with BlockQueue(bench.path("queue.db")) as queue:
        queue.create_topic("ours", ["counter"])
        queue.create_topic("bare", ["counter"])
        for _ in range(bench.sizes.rounds):
            in_worker(partial(_fill, queue, "ours", count))
            ours.append(_work(queue, "ours", count) / count)
            in_worker(partial(_fill, queue, "bare", count))
            bound.append(in_worker(partial(_claim_and_ack, queue, "bare", count)) / count)
    what = f"jobs of a worker, concurrency {_CONCURRENCY}, against claim + ack of 100"
    return [ratio_of_rates(what, ours, bound, 0.25, unit="jobs/s")]
