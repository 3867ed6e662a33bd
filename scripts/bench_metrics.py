"""How long a look at the whole queue takes, and whether it is right."""

from __future__ import annotations

import re
import time
from http.client import HTTPConnection

import apsw
import bench_server
from bench_figures import Bench, Figure, median

from blockqueue import BlockQueue

_WORKERS = 3
_DEAD_S_MAX = 10.0


def metrics(bench: Bench) -> list[Figure]:
    """Scrape a server of three workers, one of them just killed, that has many topics."""
    path = bench.path("queue.db")
    _fill(path, bench.sizes.topics)
    spent_ms: list[float] = []
    with bench_server.ours(path, workers=_WORKERS) as served:
        for _ in range(bench.sizes.rounds):
            _kill_one(served)
            started = time.perf_counter()
            text = _scrape(served.port)
            spent_ms.append((time.perf_counter() - started) * 1000)
            _check(text, path)
    what = f"GET /metrics, {bench.sizes.topics:,} topics, {_WORKERS} workers, one just killed"
    return [
        Figure(what + ", median", median(spent_ms), "ms", at_most=100),
        Figure("  the slowest", max(spent_ms), "ms"),
        Figure("  its size", len(text) / 1024, "KiB"),
    ]


def _fill(path: str, topics: int) -> None:
    """Make topics with a subscriber each, and messages in each state."""
    with BlockQueue(path) as queue:
        for number in range(topics):
            topic = f"topic-{number}"
            queue.create_topic(topic, ["worker"])
            queue.publish_many(topic, ["message"] * (number % 5 + 3))
            first, second = queue.claim(topic, "worker", limit=2)
            first.ack()
            if number % 2:
                second.nack(error="no")


def _kill_one(served: bench_server.Served) -> None:
    """Kill the oldest worker, once the one that was killed before has a successor at work."""
    deadline = time.monotonic() + _DEAD_S_MAX
    while f"\nblockqueue_processes {_WORKERS}\n" not in _scrape(served.port):
        if time.monotonic() > deadline:
            raise TimeoutError("a killed worker was not replaced")
        time.sleep(0.05)
    served.process.children()[0].kill()


def _scrape(port: int) -> str:
    """Ask once more if it was the killed one that had taken the connection."""
    for tries_left in (2, 1, 0):
        connection = HTTPConnection("127.0.0.1", port, timeout=_DEAD_S_MAX)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except ConnectionError:
            if not tries_left:
                raise
        finally:
            connection.close()
    raise AssertionError


def _check(text: str, path: str) -> None:
    """Compare its sums with the database's rows."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    messages = connection.execute("SELECT sum(count) FROM block").get
    states = dict(connection.execute("SELECT state, sum(count) FROM delivery GROUP BY state"))
    connection.close()
    leased, waiting, dead, processed = (states.get(state, 0) for state in range(4))
    told = [
        _sum(text, f"blockqueue_{name}")
        for name in (
            "topic_published_messages_total",
            "subscriber_in_flight_messages",
            "subscriber_retry_messages",
            "subscriber_dead_letters",
            "subscriber_pending_messages",
        )
    ]
    held = [messages, leased, waiting, dead, messages - leased - dead - processed]
    if told != held:
        raise AssertionError(f"/metrics tells {told}, the database holds {held}")


def _sum(text: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE))
