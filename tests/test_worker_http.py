"""Workers over HTTP: the same as inside a process, and a server that is restarted is a delay."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue import Cancel, Job, RetryAfter, Worker
from blockqueue.client import Client, Delivery

from .crash_server import free_port
from .embedded_helpers import WAIT_S, eventually
from .http_server import Server, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "queue.db") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{server.port}", timeout=WAIT_S) as client:
        client.create_topic("cart", ["counter"])
        yield client


def test_every_outcome_reaches_the_server(client: Client) -> None:
    """Acks, nacks with a delay, cancels; what is asked for is typed as always."""
    client.publish_many("cart", ["ack", "retry", "cancel", "itself"])
    seen: list[str] = []

    def handle(delivery: Delivery, job: Job) -> None:
        assert job.receipt_token == delivery.receipt_token
        seen.append(str(delivery.message))
        if delivery.message == "retry" and not delivery.failure_count:
            raise RetryAfter("10ms", "not yet")
        if delivery.message == "cancel":
            raise Cancel("sold out")
        if delivery.message == "itself":
            job.ack()

    with Worker(client, "cart", "counter", handle, concurrency=2) as worker:
        eventually(lambda: worker.stats.processed == 2 and worker.stats.cancelled == 1)

    assert sorted(seen) == ["ack", "cancel", "itself", "retry", "retry"]
    (status,) = client.subscribers("cart")
    assert (status.waiting, status.leased) == (0, 0)


def test_whatever_an_error_says_reaches_the_server(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it is, and even what is no Unicode, like the name of a file."""
    caplog.set_level(logging.ERROR, "blockqueue.worker")  # or all of it is in the log as well
    client.publish_many("cart", [str(number) for number in range(20)])

    def handle(delivery: Delivery) -> None:
        raise FileNotFoundError("no \udce9 " + 2_000_000 * "x")

    with Worker(client, "cart", "counter", handle, concurrency=20, completion_flush=1) as worker:
        eventually(lambda: worker.stats.nacked == 20)
    assert worker.stats.completion_failed == 0
    failures = client.failure_page(
        "cart", "counter", next(client.active("cart", "counter")).message_id
    )
    assert failures.items[0].error.startswith("FileNotFoundError: no ? xxx")


def test_heartbeats_keep_a_lease_over_http(client: Client) -> None:
    """For longer than one lease, which is long enough for a machine that is busy."""
    client.publish("cart", "hi")
    enough = threading.Event()
    counts: list[int] = []

    def handle(job: Job) -> None:
        counts.append(job.delivery_count)
        assert enough.wait(WAIT_S)

    with Worker(
        client, "cart", "counter", handle, concurrency=2, lease="3s", heartbeat="250ms"
    ) as worker:
        eventually(lambda: worker.stats.heartbeats >= 15)
        enough.set()
        eventually(lambda: worker.stats.processed == 1)
    assert counts == [1]


def test_a_server_that_is_restarted_is_ridden_out(tmp_path: Path) -> None:
    """The worker goes on where it was, also with the job that it had in its hands."""
    port = str(free_port())
    begun, go_on = threading.Event(), threading.Event()

    def handle(text: str) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    with Client(f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
        with serving(tmp_path / "queue.db", "--port", port) as first:
            client.create_topic("cart", ["counter"])
            client.publish("cart", "before")
            worker = Worker(client, "cart", "counter", handle, operation_timeout=WAIT_S).start()
            assert begun.wait(WAIT_S)
            first.signal(signal.SIGKILL)
            first.wait()
        go_on.set()
        with serving(tmp_path / "queue.db", "--port", port):
            client.publish("cart", "after")
            eventually(lambda: worker.stats.processed == 2)
            worker.stop()
