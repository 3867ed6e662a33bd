"""What a worker counts, and how it tells Prometheus."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from blockqueue import BlockQueue, Cancel, Job, RetryAfter, Subscriber, Worker, WorkerGroup
from blockqueue.api._metrics_port import metrics_port
from blockqueue.worker._stats import Durations

from .embedded_helpers import WAIT_S, eventually
from .http_server import child_environment, serving, until, unused_port
from .test_worker_cli import create, folder, working

__all__ = ["folder"]

Samples = dict[tuple[str, ...], float]


def read(text: str) -> Samples:
    """Return numbers by their names and the values of their labels. None may come twice."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name.removeprefix("blockqueue_worker_"), *sample.labels.values())
            assert key not in samples
            samples[key] = sample.value
    return samples


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    """A queue in real time, whose failures are not tried again while a test runs."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("counter", max_attempts=2, retry_initial="1h")])
        yield queue


def handle(text: str) -> None:
    match text:
        case "fail":
            raise ValueError("no")
        case "later":
            raise RetryAfter("1h")
        case "never":
            raise Cancel("not wanted")
        case _:
            pass


async def handle_async(text: str) -> None:
    handle(text)


@pytest.mark.parametrize("handler", [handle, handle_async])
def test_jobs_and_handlers_are_counted_by_how_they_end(queue: BlockQueue, handler: object) -> None:
    """What became of the job, and how long the handler took to say so."""
    queue.publish_many("cart", ["a", "b", "c", "fail", "later", "never"])
    assert callable(handler)
    with Worker(queue, "cart", "counter", handler, concurrency=2) as worker:
        eventually(lambda: jobs(worker.exposition()) == [3, 2, 1, 0, 0])
        samples = read(worker.exposition())
    place = ("cart", "counter")
    counts = [samples["handler_duration_seconds_count", *place, each] for each in _RESULTS]
    assert counts == [3, 2, 1]
    for result, count in zip(_RESULTS, counts, strict=True):
        buckets = [
            value
            for (name, *labels), value in samples.items()
            if name == "handler_duration_seconds_bucket" and labels[2] == result
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == count
        assert 0 < samples["handler_duration_seconds_sum", *place, result] < WAIT_S * count
    assert samples["active_handlers", *place] == 0


_RESULTS = ("ok", "error", "cancel_requested")
_OUTCOMES = ("processed", "nacked", "cancelled", "lease_lost", "completion_failed")


def jobs(text: str) -> list[float]:
    samples = read(text)
    return [samples["jobs_total", "cart", "counter", each] for each in _OUTCOMES]


def test_handlers_at_work_are_told_and_not_those_that_wait(queue: BlockQueue) -> None:
    """Two run, and the third job is claimed, but has no handler yet."""
    queue.publish_many("cart", ["a"] * 3)
    go_on = threading.Event()

    def wait(text: str) -> None:
        assert go_on.wait(WAIT_S)

    place = ("cart", "counter")
    with Worker(queue, *place, wait, concurrency=2, heartbeat="10ms", lease="1m") as worker:
        try:
            eventually(lambda: read(worker.exposition())["active_handlers", *place] == 2)
            eventually(lambda: read(worker.exposition())["heartbeat_total", *place, "success"] >= 4)
            assert worker.stats.running == 2
        finally:
            go_on.set()
        eventually(lambda: worker.stats.processed == 3)
    samples = read(worker.exposition())
    assert samples["active_handlers", *place] == 0
    assert samples["heartbeat_total", *place, "failed"] == 0
    assert samples["heartbeat_total", *place, "lease_lost"] == 0


def test_a_handler_that_hangs_is_at_work(queue: BlockQueue) -> None:
    """It was given up, but its thread is still busy. When it ends, that is counted."""
    queue.publish("cart", "a")
    go_on = threading.Event()

    def hang(text: str) -> None:
        assert go_on.wait(WAIT_S)

    worker = Worker(queue, "cart", "counter", hang, timeout="10ms", hard_stop="10ms", concurrency=2)
    with worker:
        try:
            eventually(lambda: worker.stats.hung == 1)
            assert (worker.stats.active, worker.stats.running) == (0, 1)
        finally:
            go_on.set()
        eventually(lambda: worker.stats.running == 0)
        eventually(lambda: worker.stats.nacked == 1)
    assert worker.durations["ok"].count == 1


def test_a_heartbeat_that_finds_no_lease_is_counted(queue: BlockQueue) -> None:
    """Somebody has cancelled the job meanwhile."""
    receipt = queue.publish("cart", "a")
    begun = threading.Event()

    def wait(job: Job) -> None:
        begun.set()
        assert job.wait_cancelled(WAIT_S)
        job.check()

    with Worker(queue, "cart", "counter", wait, heartbeat="10ms") as worker:
        assert begun.wait(WAIT_S)
        queue.cancel("cart", "counter", [receipt.id])
        eventually(lambda: jobs(worker.exposition())[3] == 1)
        eventually(lambda: worker.durations["error"].count == 1)
    assert read(worker.exposition())["heartbeat_total", "cart", "counter", "lease_lost"] == 1


class Overtaken(BlockQueue):
    """A queue that hears of the first heartbeat only when the job is done."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.acked = threading.Event()
        #: Set by the heartbeats of the first job, and of the second one.
        self.first, self.second = threading.Event(), threading.Event()

    def ack(self, *arguments: Any, **options: Any) -> None:
        super().ack(*arguments, **options)
        self.acked.set()

    def extend(self, *arguments: Any, **options: Any) -> None:
        if self.first.is_set():
            self.second.set()
            return
        self.first.set()
        assert self.acked.wait(WAIT_S)
        super().extend(*arguments, **options)


def test_a_heartbeat_that_the_handler_has_overtaken_is_no_loss(tmp_path: Path) -> None:
    """It ended, and its job was acked, while the heartbeat was on its way."""
    with Overtaken(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["counter"])
        queue.publish_many("cart", ["first", "second"])

        def wait(text: str) -> None:
            # The second heartbeat comes when what has come of the first one was noted.
            assert {"first": queue.first, "second": queue.second}[text].wait(WAIT_S)

        with Worker(queue, "cart", "counter", wait, heartbeat="10ms") as worker:
            eventually(lambda: jobs(worker.exposition()) == [2, 0, 0, 0, 0])
    assert (worker.stats.heartbeats_lost, worker.stats.lease_lost) == (0, 0)


def test_workers_of_one_subscriber_are_told_as_one(queue: BlockQueue) -> None:
    """Prometheus refuses an answer in which a number comes twice. Names may be strange."""
    queue.create_topic('a "b" \\c', ["ü"])
    place = ("cart", "counter")
    group = WorkerGroup(
        [
            Worker(queue, *place, handle),
            Worker(queue, *place, handle),
            Worker(queue, 'a "b" \\c', "ü", handle),
        ]
    )
    with group:
        queue.publish_many("cart", ["a"] * 50)
        queue.publish('a "b" \\c', "b")
        eventually(lambda: jobs(group.exposition())[0] == 50)
        eventually(lambda: group.workers[2].stats.processed == 1)
    samples = read(group.exposition())
    assert samples["jobs_total", 'a "b" \\c', "ü", "processed"] == 1
    assert samples["handler_duration_seconds_count", *place, "ok"] == 50
    assert samples["handler_duration_seconds_bucket", *place, "ok", "+Inf"] == 50


def test_a_worker_that_has_not_begun_tells_zeros(queue: BlockQueue) -> None:
    """Who scrapes it early finds it well."""
    samples = read(Worker(queue, "cart", "counter", handle).exposition())

    assert set(samples.values()) == {0}


def test_durations_come_into_the_right_buckets() -> None:
    """A bound belongs to what is below it; nothing is lost, however many there are."""
    durations = Durations()
    for seconds in (0.0005, 0.001, 0.0011, 3600.0, 4000.0):
        durations.note("ok", seconds)
    timing = durations.timings()["ok"]
    assert (timing.buckets[0.001], timing.buckets[0.005]) == (2, 3)
    assert (timing.buckets[900.0], timing.buckets[3600.0], timing.count) == (3, 4, 5)
    assert timing.total == pytest.approx(7600.0026)
    for _ in range(2_500):
        durations.note("error", 2.0)
    timing = durations.timings()["error"]
    assert (timing.buckets[1.0], timing.buckets[2.5], timing.count) == (0, 2_500, 2_500)
    assert timing.total == 5_000
    assert durations.timings()["error"] == timing


def scrape(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.headers["Server"].strip() == "blockqueue"  # of what version is not said
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_worker_from_the_shell_tells_it_at_a_port(folder: Path) -> None:
    """It may work for a server, and have no file of the queue."""
    create(folder / "queue.db")
    port = unused_port()
    with serving(folder / "queue.db") as server:
        url = f"http://127.0.0.1:{server.port}"
        options = ("--url", url, "--metrics-port", str(port))
        with working(folder, "jobs:handle", "cart", "counter", *options):
            until(lambda: jobs(scrape(port)[1])[0] == 1, "the job is counted")
            assert scrape(port, "/")[0] == 404
    with pytest.raises(ConnectionRefusedError):
        scrape(port)


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    """In one line, and before anything is done."""
    create(folder / "blockqueue.db")
    with serving(folder / "blockqueue.db") as server:
        command = f"work jobs:handle cart counter --metrics-port {server.port}"
        done = subprocess.run(
            [sys.executable, "-m", "blockqueue", *command.split()],
            cwd=folder,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    expected = f"Error: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"
    assert done.stderr == expected
    assert done.stdout == ""


def test_a_scraper_that_hangs_holds_nobody_up(folder: Path) -> None:
    """It is sent away, and the next one is answered."""
    create(folder / "blockqueue.db")
    port = unused_port()
    with working(folder, "jobs:handle", "cart", "counter", "--metrics-port", str(port)):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        try:
            until(partial(_connects, idle), "it listens")
            assert scrape(port)[0] == 200
        finally:
            idle.close()


def test_a_bug_in_a_scrape_is_logged_and_a_scraper_that_has_gone_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither is a traceback on stderr, where a log of JSON may be."""
    port = unused_port()
    errors: list[Exception] = [RuntimeError("a bug"), ConnectionResetError("gone")]

    def text() -> str:
        if errors:
            raise errors.pop(0)
        return "all is well"

    with metrics_port(port, text):
        for _ in range(2):
            with pytest.raises(http.client.HTTPException):
                scrape(port)
        assert scrape(port) == (200, "all is well")
    assert [record.message for record in caplog.records] == ["metrics could not be told"]


def _connects(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    return True
