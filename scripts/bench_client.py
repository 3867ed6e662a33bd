"""The HTTP client, against requests by the standard library's client and nothing around them."""

from __future__ import annotations

import http.client
import itertools
import threading
from functools import partial

import bench_server
import msgspec
from bench_backlog import fill
from bench_figures import Bench, Figure, in_worker, ratio_of_rates, timed
from bench_http import make_topics
from bench_load import BATCH

from blockqueue import BlockQueue, Job, Worker
from blockqueue.client import Client

_SUBSCRIBER = "/v1/topics/cart/subscribers/counter"


class _Leased(msgspec.Struct):
    id: str
    receipt_token: str


class _Answer(msgspec.Struct):
    data: list[_Leased]


class _Item(msgspec.Struct):
    message_id: str
    receipt_token: str


def client(bench: Bench) -> list[Figure]:
    """Claims and acks of 100: the client, a worker on it, and bare requests."""
    count, rounds, path = bench.sizes.cycled // 5, bench.sizes.rounds, bench.path("ours.db")
    make_topics(path)
    with BlockQueue(path) as publisher:
        # By thousands; and the worker takes a few more than it is measured by.
        in_worker(partial(fill, publisher, "cart", 3 * (rounds + 1) * count + 2_000))
    ours: list[float] = []
    worker: list[float] = []
    bound: list[float] = []
    with bench_server.ours(path) as server, Client(f"http://127.0.0.1:{server.port}") as connected:
        bare = http.client.HTTPConnection("127.0.0.1", server.port)
        for _ in range(rounds + 1):
            ours.append(timed(partial(_by_client, connected), count // BATCH) / count)
            worker.append(timed(partial(_by_worker, connected, count)) / count)
            bound.append(timed(partial(_by_requests, bare), count // BATCH) / count)
        bare.close()
    what = f"the client's claim + ack in {BATCH}s, against bare requests, one connection each"
    jobs = "a worker's no-op jobs through the client, concurrency 16, against the same"
    return [  # the first of each was to warm up
        ratio_of_rates(what, ours[1:], bound[1:], 0.5),
        ratio_of_rates(jobs, worker[1:], bound[1:], 0.5),
    ]


def _by_client(connected: Client) -> None:
    claimed = connected.claim("cart", "counter", limit=BATCH)
    assert len(claimed) == BATCH
    connected.ack("cart", "counter", claimed)


def _by_worker(connected: Client, count: int) -> None:
    """Let a worker do so many jobs, and ack them."""
    done = itertools.count(1)
    enough = threading.Event()

    def handle(job: Job) -> None:
        if next(done) == count:
            enough.set()

    with Worker(connected, "cart", "counter", handle, concurrency=16):
        assert enough.wait(60)


def _by_requests(bare: http.client.HTTPConnection) -> None:
    claimed = _post(bare, f"/claim?limit={BATCH}&timeout=1s")
    leased = msgspec.json.decode(claimed, type=_Answer).data
    assert len(leased) == BATCH
    items = [_Item(each.id, each.receipt_token) for each in leased]
    _post(bare, "/messages/batch/ack", msgspec.json.encode(items))


def _post(bare: http.client.HTTPConnection, path: str, body: bytes | None = None) -> bytes:
    bare.request("POST", _SUBSCRIBER + path, body)
    response = bare.getresponse()
    answer = response.read()
    assert response.status == 200, answer
    return answer
