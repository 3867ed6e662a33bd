"""A million messages waiting: claiming, reopening, draining. And rows that must not pile up.

As a program it is the process that opens such a queue:

    python bench_backlog.py reopen DB   # prints the seconds until the first message is there
    python bench_backlog.py drain DB    # consumes all, prints the most memory it took
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench_figures import Bench, Figure, in_threads, in_worker, median, messages, timed

from blockqueue import BlockQueue

_BATCH = 1_000
_CLAIM = 100


def fill(queue: BlockQueue, topic: str, count: int) -> None:
    """Publish so many messages, 1000 at a time."""
    batches = [messages(_BATCH, seed) for seed in range(min(10, count // _BATCH))]
    for number in range(count // _BATCH):
        queue.publish_many(topic, batches[number % len(batches)])


def backlog(bench: Bench) -> list[Figure]:
    """Claims behind a long and a short backlog; reopening and draining the long one."""
    path = bench.path("ours.db")
    with BlockQueue(path) as queue:
        queue.create_topic("deep", ["counter"])
        queue.create_topic("shallow", ["counter"])
        in_worker(partial(fill, queue, "deep", bench.sizes.backlog))
        figures = [in_worker(partial(_claims, bench, queue))]
    opened = [float(_child("reopen", path)) for _ in range(bench.sizes.rounds)]
    drained, peak_mb = _child("drain", path).split()
    assert int(drained) >= bench.sizes.backlog - bench.sizes.rounds
    what = f"reopening with {bench.sizes.backlog:,} waiting, until one is claimed (slowest)"
    memory = "  resident memory at most, draining them by claim(1000) and ack"
    return [
        *figures,
        Figure(what, max(opened), "s", at_most=1),
        Figure(memory, float(peak_mb), "MB", at_most=150),
    ]


def _claims(bench: Bench, queue: BlockQueue) -> Figure:
    ours, bound = claims_in_turns(bench, queue, "deep", "shallow")
    what = f"claim of {_CLAIM} (acked after) behind {bench.sizes.backlog:,}, against 1,000"
    ratios = [a / b for a, b in zip(ours, bound, strict=True)]
    ours_ms, bound_ms = 1000 * median(ours), 1000 * median(bound)
    return Figure(what, median(ratios), "×", ours_ms, bound_ms, "ms", at_most=1.5)


def claims_in_turns(
    bench: Bench, queue: BlockQueue, first: str, second: str
) -> tuple[list[float], list[float]]:
    """Time claims of 100 in two topics in turns; return each round's seconds a claim.

    Each is acked, and each 1000 that are consumed are published again, untimed.
    """

    def spend(topic: str) -> float:
        spent: list[float] = []
        fill(queue, topic, _BATCH)
        for _ in range(_BATCH // _CLAIM):
            started = time.perf_counter()
            claimed = queue.claim(topic, "counter", limit=_CLAIM)
            spent.append(time.perf_counter() - started)
            assert len(claimed) == _CLAIM
            queue.ack(topic, "counter", claimed)
        return sum(spent) / len(spent)

    ours: list[float] = []
    bound: list[float] = []
    for _ in range(bench.sizes.rounds):
        turns = [(spend(first), spend(second)) for _ in range(6)]
        ours.append(median([one for one, _ in turns]))
        bound.append(median([other for _, other in turns]))
    return ours, bound


def _child(verb: str, path: str) -> str:
    command = [sys.executable, __file__, verb, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _reopen(path: str) -> None:
    """Open, claim one, ack it, and end without closing: the next one opens after a crash."""
    queues: list[BlockQueue] = []

    def run() -> None:
        queues.append(BlockQueue(path))
        queues[0].claim("deep", "counter", limit=1)[0].ack()

    print(timed(run), flush=True)
    os._exit(0)


def _drain(path: str) -> None:
    with BlockQueue(path) as queue:
        drained = 0
        while claimed := queue.claim("deep", "counter", limit=_BATCH):
            queue.ack("deep", "counter", claimed)
            drained += len(claimed)
    with open("/proc/self/status") as status:
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(drained, peak_kib * 1024 / 1e6)


def rows(bench: Bench) -> list[Figure]:
    """How many rows are left when every message was acked by itself, by 16 threads."""
    limits = itertools.cycle((100, 250, 500, 1000))
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])
        in_worker(partial(fill, queue, "cart", bench.sizes.acked))

        def consume() -> None:
            while claimed := queue.claim("cart", "counter", limit=next(limits)):
                for delivery in claimed:
                    delivery.ack()

        seconds = in_threads(16, consume)
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased, status.dead) == (0, 0, 0)
        with queue.system.store.reading() as snapshot:
            ((count,),) = snapshot.rows("SELECT count(*) FROM delivery")
    what = f"rows after {bench.sizes.acked:,} messages were acked one by one by 16 threads"
    return [
        Figure(what, count, "rows", at_most=100),
        Figure("  acks", bench.sizes.acked / seconds, "acks/s"),
    ]


def wake_all(bench: Bench) -> list[Figure]:
    """From a publish until the last of 200 waiting consumers, each a thread, has it."""
    names = [f"subscriber-{number}" for number in range(bench.sizes.fan_out)]
    # The first round starts the subscribers' actors, and is not counted.
    got: list[list[float]] = [[] for _ in range(bench.sizes.fan_outs + 1)]
    published_at: list[float] = []
    ready = threading.Barrier(len(names) + 1, timeout=60)
    with BlockQueue(bench.path("ours.db")) as queue, ThreadPoolExecutor(len(names)) as pool:
        queue.create_topic("cart", names)

        def consume(name: str) -> None:
            for times in got:
                ready.wait()
                (delivery,) = queue.claim("cart", name, limit=1, wait=30)
                times.append(time.perf_counter())
                delivery.ack()

        consumers = [pool.submit(consume, name) for name in names]
        for _ in got:
            ready.wait()
            time.sleep(bench.sizes.park_s)  # all of them wait by now
            published_at.append(time.perf_counter())
            queue.publish("cart", messages(1)[0])
        for consumer in consumers:
            consumer.result()
    spent = [max(times) - start for times, start in zip(got, published_at, strict=True)][1:]
    what = f"publish until the last of {len(names)} parked consumers (threads) has it"
    return [
        Figure(what + ", median", 1000 * median(spent), "ms", at_most=100),
        Figure(f"  the slowest of {len(spent)}", 1000 * max(spent), "ms", at_most=100),
    ]


if __name__ == "__main__":
    {"reopen": _reopen, "drain": _drain}[sys.argv[1]](sys.argv[2])
