"""The second HTTP contract in batches, against single requests and the embedded face."""

from __future__ import annotations

from functools import partial

import bench_consume
import bench_server
from bench_backlog import fill
from bench_figures import Bench, Figure, in_worker, ratio_of_rates, timed
from bench_http import make_topics
from bench_load import BATCH, loader

from blockqueue import BlockQueue

_CONNECTIONS = 8


def batches(bench: Bench) -> list[Figure]:
    """Committed batches of 100 over HTTP, against committed single publishes."""
    sizes, path = bench.sizes, bench.path("ours.db")
    make_topics(path)
    ours: list[float] = []
    bound: list[float] = []
    with (
        bench_server.ours(path) as server,
        loader(_CONNECTIONS, "v1-batch") as many,
        loader(sizes.connections, "v1") as single,
    ):
        bench.warm_up(path, partial(many.run, server.port, 0.02))
        single.run(server.port, sizes.slice_s / 10)
        for _ in range(sizes.rounds):
            answered, spent = many.run(server.port, sizes.slice_s / 2)
            ours.append(spent / answered / BATCH)
            answered, spent = single.run(server.port, sizes.slice_s / 2)
            bound.append(spent / answered)
    what = (
        f"/v1 batches of {BATCH}, {_CONNECTIONS} connections, "
        f"against singles, {sizes.connections} connections"
    )
    return [ratio_of_rates(what, ours, bound, 20)]


def cycle(bench: Bench) -> list[Figure]:
    """Claims and acks of 100 over HTTP, against the embedded face on one thread."""
    count, rounds = bench.sizes.cycled, bench.sizes.rounds
    paths = bench.path("http.db"), bench.path("face.db")
    for path in paths:
        make_topics(path)
    subscriber = "/v1/topics/cart/subscribers/counter"
    with (
        bench_server.ours(paths[0]) as server,
        loader(_CONNECTIONS, subscriber, bench_consume.__file__) as load,
        BlockQueue(paths[1]) as queue,
    ):
        # The server keeps the log that these make, so it has wrapped already; see warm_up.
        with BlockQueue(paths[0]) as publisher:
            in_worker(partial(fill, publisher, "cart", (rounds + 1) * count))
        in_worker(partial(fill, queue, "cart", (rounds + 1) * count))

        def embedded() -> None:
            for _ in range(count // BATCH):
                claimed = queue.claim("cart", "counter", limit=BATCH)
                assert len(claimed) == BATCH
                queue.ack("cart", "counter", claimed)

        ours: list[float] = []
        bound: list[float] = []
        for _ in range(rounds + 1):
            acked, spent = load.run(server.port, count)
            ours.append(spent / acked)
            bound.append(in_worker(partial(timed, embedded)) / count)
    what = f"/v1 claim + ack in {BATCH}s, {_CONNECTIONS} connections, against embedded ¹"
    return [ratio_of_rates(what, ours[1:], bound[1:], 0.3)]  # the first was to warm up
