"""Several processes on one port: what a second one adds, and how fast one wakes another."""

from __future__ import annotations

import time
from functools import partial

import bench_server
from bench_figures import Bench, Figure, median, percentile, ratio_of_rates
from bench_http import make_topics
from bench_load import loader

from blockqueue import BlockQueue


def workers(bench: Bench) -> list[Figure]:
    """Committed publishes over HTTP by two workers, against one, on the same machine."""
    sizes = bench.sizes
    paths = bench.path("two.db"), bench.path("one.db")
    for path in paths:
        make_topics(path)
    with (
        bench_server.ours(paths[0], workers=2) as two,
        bench_server.ours(paths[1]) as one,
        loader(sizes.connections, "topics") as load,
    ):
        spent: dict[int, list[float]] = {two.port: [], one.port: []}
        for path, port in zip(paths, spent, strict=True):
            bench.warm_up(path, partial(load.run, port, 0.02))
        for number in range(sizes.rounds):
            for port in list(spent)[:: 1 if number % 2 else -1]:
                answered, seconds = load.run(port, sizes.slice_s)
                spent[port].append(seconds / answered)
    what = f"POST …/messages, {sizes.connections} connections, two workers against one"
    return [ratio_of_rates(what, spent[two.port], spent[one.port], 1.0)]


def workers_wake(bench: Bench) -> list[Figure]:
    """From a publish in one process until a claim that waits in another has it."""
    sizes, path = bench.sizes, bench.path("queue.db")
    make_topics(path)
    spent_ms: list[float] = []
    with bench_server.other("claims", path) as consumer, BlockQueue(path) as queue:
        for _ in range(sizes.samples):
            time.sleep(0.01)  # it waits again by now
            queue.publish("cart", repr(time.monotonic()))
            line = consumer.line()
            spent_ms.append(float(line))
    what = "publish until a claim in another process has it"
    return [
        Figure(what + ", median", median(spent_ms), "ms", at_most=10),
        Figure(what + ", p99", percentile(spent_ms, 0.99), "ms"),
    ]
