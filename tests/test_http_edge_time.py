"""Clients that are slow on purpose: each is let go in time, however it spreads its bytes."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Any

import pytest

from blockqueue.actors import Promise
from blockqueue.api._answer import Answer
from blockqueue.api._parking import Parked
from blockqueue.api._request_info import RequestInfo

from .http_edge import BIG, Client, Edge, edge, hello, plain

HEAD = b"POST /topics HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
PLAIN_TIMEOUT_S = 5


def seconds_until_it_ends(edge: Edge, client: Client, drip: bytes, at_most: int = 200) -> int:
    """Let a client send one byte each second, again and again; return how long it may."""
    drops = cycle(drip)
    for second in range(at_most):
        client.send(bytes([next(drops)]))
        edge.pass_time(1)
        client.read()
        if client.has_ended or client.received:
            return second + 1
    return at_most


DRIPS = {
    "a request line": (b"GET /aaaaaaaa", 5, 7),
    "headers": (b"GET /topics HTTP/1.1\r\nX: a\r\nY: bbbbbbb\r\n", 5, 7),
    "blank lines": (b"\r\n", 75, 82),
    "blank lines, with a bit of the next": (b"\r\n\r\n\r\n\r\n\r", 75, 82),
}


@pytest.mark.parametrize(("drip", "earliest", "latest"), DRIPS.values(), ids=DRIPS)
def test_a_byte_each_second_does_not_keep_a_connection(
    drip: bytes, earliest: int, latest: int
) -> None:
    """Five seconds for the headers, 75 until they begin; blank lines begin nothing."""
    with edge() as running:
        client = running.connect()

        assert earliest <= seconds_until_it_ends(running, client, drip) <= latest
        said = client.end()
        if said:
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 408 ", b"HTTP/1.0 408 "))
            assert b"Connection: close" in head
            assert "5 seconds" in json.loads(body)["error"]


@pytest.mark.parametrize("drip", [drip for drip, _, _ in DRIPS.values()], ids=DRIPS)
def test_plain_waitress_keeps_it_for_ever(monkeypatch: pytest.MonkeyPatch, drip: bytes) -> None:
    """The control of the test before this one."""
    with plain(monkeypatch, channel_timeout=PLAIN_TIMEOUT_S, cleanup_interval=1) as running:
        assert seconds_until_it_ends(running, running.connect(), drip) == 200


def test_a_late_request_of_the_second_contract_is_told_in_its_words() -> None:
    """As far as it can be seen whose it is."""
    with edge() as running:
        client = running.connect()
        client.send(b"GET /v1/topics HTTP/1.1\r\nHost: a\r\n")
        running.pass_time(8)

        head, _, body = client.end().partition(b"\r\n\r\n")
        assert b" 408 " in head.split(b"\r\n")[0]
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 408


def test_a_body_must_come_in_time() -> None:
    """A byte a second is too slow; the client is told."""
    with edge() as running:
        client = running.connect()
        client.send(HEAD % 1_000)

        assert 29 <= seconds_until_it_ends(running, client, b"x") <= 33
        head, _, body = client.end().partition(b"\r\n\r\n")
        assert b" 408 " in head.split(b"\r\n")[0]
        assert "slowly" in json.loads(body)["error"]


def test_a_large_body_has_more_time() -> None:
    """Two minutes at 40 kB a second are fine."""
    with edge() as running:
        client = running.connect()
        client.send(HEAD % (120 * 40_000))
        running.pass_time(120, lambda: client.send(b"x" * 40_000))

        assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_a_body_that_slackens_is_cut() -> None:
    """What was fast before buys no more time than it took bytes."""
    with edge() as running:
        client = running.connect()
        client.send(HEAD % 5_000_000)
        running.pass_time(10, lambda: client.send(b"x" * 32_768))
        running.pass_time(20)
        client.read()
        assert not client.received

        running.pass_time(15)

        assert b" 408 " in client.end().split(b"\r\n")[0]


def test_an_idle_connection_is_closed_without_a_word() -> None:
    """Counted from the last answer, not from the connection."""
    with edge() as running:
        client = running.connect()
        for _ in range(3):
            client.get()
            assert client.answer()
            running.pass_time(70)
            client.read()
            assert not client.has_ended

        running.pass_time(7)

        assert client.end() == b""


def read_a_little(client: Client) -> None:
    """Take a few kilobytes, so that the connection lives."""
    client.read(4_000)


def test_who_does_not_read_a_large_answer_is_cut() -> None:
    """However little it reads now and then."""
    with edge() as running:
        client = running.connect()
        client.get("/big")
        running.until(lambda: client.read(1) or bool(client.received))

        running.pass_time(300, lambda: read_a_little(client))

        client.received = b""
        assert len(client.end()) < BIG / 2


def test_who_reads_a_large_answer_steadily_gets_all_of_it() -> None:
    """At 200 kB a second, for more than a minute."""
    with edge() as running:
        client = running.connect()
        client.get("/big")
        running.until(lambda: client.read(1) or bool(client.received))

        def take() -> None:
            for _ in range(4):
                client.read(50_000)

        running.pass_time(70, take)

        assert not client.has_ended
        running.until(lambda: client.read(10_000_000) or len(client.received) > BIG)


def stubborn(running: Edge) -> None:
    """Ask for several large answers on one connection, and read none."""
    client = running.connect()
    for _ in range(3):
        client.get("/big")
    running.pass_time(2)


def is_served(running: Edge, client: Client) -> bool:
    """Say whether a client is answered while others are stubborn."""
    client.get()
    for _ in range(100):
        running.turn(0.01)
        client.read()
    return client.received.endswith(b"hello")


def test_who_does_not_read_holds_no_thread() -> None:
    """Its further requests wait, the clients beside it do not."""
    with edge(threads=1) as running:
        for _ in range(3):
            stubborn(running)

        assert is_served(running, running.connect())


def test_with_plain_waitress_it_holds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    with plain(monkeypatch, threads=1, channel_request_lookahead=1) as running:
        stubborn(running)

        assert not is_served(running, running.connect())


def test_a_refused_client_may_not_go_on_for_ever() -> None:
    """What it sends after the refusal is read and thrown away for half a minute."""
    with edge() as running:
        client = running.connect()
        client.send(b"BAD\r\n\r\n")
        running.until(lambda: client.read() or client.has_ended)
        assert b" 400 " in client.received.split(b"\r\n")[0]
        client.has_ended = False

        for _ in range(25):
            running.pass_time(1)
            assert client.send(b"x")
        running.pass_time(10)

        running.until(lambda: not client.send(b"x"))


class Waiting:
    """An application whose answers come when the test says so."""

    def __init__(self) -> None:
        self.promises: list[Promise[Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/poll":
            return hello(environ, start_response)
        promise: Promise[Any] = Promise()
        self.promises.append(promise)
        raise Parked(
            promise,
            lambda value: Answer(200, b"hello"),
            lambda error: Answer(getattr(error, "status", 500), str(error).encode()),
            info=RequestInfo("GET", None),
            timeout=1,
            poll=True,
        )


def test_a_parked_poll_is_not_slow() -> None:
    """It may wait for hours; what was sent behind it has its time afterwards."""
    app = Waiting()
    with edge(app) as running:
        client = running.connect()
        client.get("/poll")
        client.send(b"GET / HTTP/1.1\r\nHo")
        running.until(lambda: bool(app.promises))

        running.pass_time(1_000)
        app.promises[0].complete(None)
        assert client.answer().startswith(b"HTTP/1.1 200 ")
        client.send(b"st: a\r\n\r\n")

        assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_a_server_that_was_stopped_blames_nobody() -> None:
    """What was sent meanwhile is read before time is looked at."""
    with edge() as running:
        client = running.connect()
        client.send(b"GET / HTTP/1.1\r\nHo")
        running.pass_time(1)

        running.now += 60
        client.send(b"st: a\r\n\r\n")

        assert client.answer().startswith(b"HTTP/1.1 200 ")
