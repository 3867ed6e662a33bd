"""The server: publishes, long polls, and what thousands of parked ones cost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import bench_server
from bench_figures import (
    Bench,
    Figure,
    in_worker,
    median,
    messages,
    percentile,
    ratio_of_rates,
    timed,
)
from bench_load import Client, Loader, bare, loader, park, post

from blockqueue import BlockQueue

_PUBLISH = "/topics/cart/messages"
_READ = "/topics/cart/subscribers/counter"


def make_topics(path: str, quiet: int = 0) -> None:
    """Make the topic of the measurements, and so many that nobody publishes to."""
    with BlockQueue(path) as queue:

        def make() -> None:
            queue.create_topic("cart", ["counter"])
            for number in range(quiet):
                queue.create_topic(f"quiet-{number}", ["counter"])

        in_worker(make)


def _quiet_paths(count: int) -> list[str]:
    return [f"/topics/quiet-{number}/subscribers/counter?timeout=1h" for number in range(count)]


def posts(bench: Bench) -> list[Figure]:
    """Committed publishes over HTTP, against the same server that only parses them."""
    sizes, path = bench.sizes, bench.path("ours.db")
    make_topics(path)
    with (
        bench_server.ours(path) as server,
        bench_server.other("bound") as parsing,
        bench_server.other("canned") as canned,
        loader(sizes.connections, "topics") as load,
    ):
        bench.warm_up(path, partial(load.run, server.port, 0.02))
        load.run(parsing.port, sizes.slice_s / 4)
        ours: list[tuple[float, float]] = []
        bound: list[tuple[float, float]] = []
        for _ in range(sizes.rounds):
            ours.append(_per_request(load, server, sizes.slice_s))
            bound.append(_per_request(load, parsing, sizes.slice_s))
        ceiling, _ = _per_request(load, canned, sizes.slice_s)
    cpu_us, bound_us = (1e6 * median([cpu_s for _, cpu_s in spent]) for spent in (ours, bound))
    what = f"POST …/messages, {sizes.connections} connections, against only parsing"
    return [
        ratio_of_rates(what, [each[0] for each in ours], [each[0] for each in bound], 0.5),
        Figure("  processor time a request", cpu_us / bound_us, "×", cpu_us, bound_us, "µs"),
        Figure("  the most that the load could ask for", 1 / ceiling, "requests/s"),
    ]


def _per_request(load: Loader, server: bench_server.Served, seconds: float) -> tuple[float, float]:
    """Load a server; return the seconds per request by the clock, and of its processor time."""
    cpu_s = server.cpu_s()
    answered, spent = load.run(server.port, seconds)
    return spent / answered, (server.cpu_s() - cpu_s) / answered


def wake(bench: Bench) -> list[Figure]:
    """From sending a publish until a parked long poll has it."""
    sizes, path = bench.sizes, bench.path("ours.db")
    make_topics(path)
    (message,) = messages(1)
    publish = post(_PUBLISH, {"message": message})
    spent_ms: list[float] = []
    with bench_server.ours(path) as server:
        consumer, publisher = Client(server.port), Client(server.port)

        def once() -> float:
            consumer.send(bare("GET", _READ + "?timeout=30s"))
            time.sleep(0.005)  # it is parked by now; how would a client know?
            started = time.perf_counter()
            publisher.send(publish)
            (delivery,) = json.loads(consumer.receive())["data"]
            spent = time.perf_counter() - started
            publisher.receive()
            publisher.ask(bare("DELETE", f"{_READ}/messages/{delivery['id']}"))
            return spent

        bench.warm_up(path, once)
        spent_ms = [1000 * once() for _ in range(sizes.samples)]
        consumer.close()
        publisher.close()
    what = "publish until a parked long poll has it"
    return [
        Figure(what + ", median", median(spent_ms), "ms", at_most=5),
        Figure(what + ", p99", percentile(spent_ms, 0.99), "ms", at_most=25),
    ]


@contextmanager
def _publisher(bench: Bench, path: str, server: bench_server.Served) -> Iterator[partial[float]]:
    """Yield a call that publishes and returns the seconds that took."""
    (message,) = messages(1)
    client = Client(server.port)
    ask = partial(client.ask, post(_PUBLISH, {"message": message}))
    bench.warm_up(path, ask)
    yield partial(timed, ask)
    client.close()


def parked(bench: Bench) -> list[Figure]:
    """The latency of a publish while a thousand polls are parked, against none."""
    sizes = bench.sizes
    paths = bench.path("parked.db"), bench.path("none.db")
    for path in paths:
        make_topics(path, sizes.polls)
    with bench_server.ours(paths[0]) as server, bench_server.ours(paths[1]) as quiet:
        polls = park(server.port, _quiet_paths(sizes.polls))
        server.rest()
        ratios: list[float] = []
        ours: list[float] = []
        bound: list[float] = []
        with (
            _publisher(bench, paths[0], server) as with_polls,
            _publisher(bench, paths[1], quiet) as without,
        ):
            for _ in range(sizes.rounds):
                turns = [(with_polls(), without()) for _ in range(sizes.samples)]
                ours.append(1000 * median([first for first, _ in turns]))
                bound.append(1000 * median([second for _, second in turns]))
                ratios.append(ours[-1] / bound[-1])
        for poll in polls:
            poll.close()
        server.rest()
    what = f"publish latency with {sizes.polls:,} parked polls, against none"
    return [Figure(what, median(ratios), "×", median(ours), median(bound), "ms", at_most=2)]


def idle(bench: Bench) -> list[Figure]:
    """What a server does while its topics are quiet and its polls are parked."""
    sizes, path, count = bench.sizes, bench.path("ours.db"), Path(bench.path("statements"))
    make_topics(path, sizes.polls)
    with bench_server.other("traced", path, os.fspath(count)) as server:
        polls = park(server.port, _quiet_paths(sizes.polls))
        server.rest()
        assert bench_server.statements(count) > sizes.polls  # it does count
        cpu_s, statements = server.cpu_s(), bench_server.statements(count)
        time.sleep(sizes.idle_s)
        cpu = 100 * (server.cpu_s() - cpu_s) / sizes.idle_s
        statements = bench_server.statements(count) - statements
        memory_mb = server.process.memory_info().rss / 1e6
        for poll in polls:
            poll.close()
        server.rest()
    what = f"a server with {sizes.polls:,} parked polls and as many quiet topics: "
    return [
        Figure(what + "CPU", cpu, "%", at_most=1),
        Figure(f"  SQL statements in {sizes.idle_s:g} s", statements, "", at_most=0),
        Figure("  resident memory", memory_mb, "MB"),
    ]


def crowd(bench: Bench) -> list[Figure]:
    """Wake each of thousands of polls in its turn; count what they cost."""
    sizes, path = bench.sizes, bench.path("ours.db")
    make_topics(path, sizes.crowd)
    (message,) = messages(1)
    with bench_server.ours(path) as server, _publisher(bench, path, server):
        server.rest()
        memory = server.process.memory_info().rss
        publisher = Client(server.port)
        started = time.perf_counter()
        polls = park(server.port, _quiet_paths(sizes.crowd))
        server.rest()
        parked_s = time.perf_counter() - started
        each_kb = (server.process.memory_info().rss - memory) / 1024 / sizes.crowd
        threads = server.process.num_threads()
        spent_ms = [
            1000 * _wake(publisher, polls[number], f"/topics/quiet-{number}/messages", message)
            for number in _spread(sizes.crowd, sizes.samples)
        ]
        for client in (*polls, publisher):
            client.close()
        server.rest()
    what = f"{sizes.crowd:,} parked polls: publish until one of them has it"
    return [
        Figure(what + ", p99", percentile(spent_ms, 0.99), "ms", at_most=50),
        Figure("  median", median(spent_ms), "ms"),
        Figure("  the server's threads", threads, "", at_most=64),
        Figure("  memory for each, with a topic of its own", each_kb, "KiB"),
        Figure("  until all are parked", parked_s, "s"),
    ]


def _spread(count: int, samples: int) -> list[int]:
    """Return so many numbers below ``count``, far apart, each but once."""
    return [sample * count // samples for sample in range(min(samples, count))]


def _wake(publisher: Client, consumer: Client, path: str, message: str) -> float:
    """Publish to a topic with a parked poll; return how long the poll takes to have it."""
    started = time.perf_counter()
    publisher.send(post(path, {"message": message}))
    consumer.receive()
    spent = time.perf_counter() - started
    publisher.receive()
    return spent
