"""Many who are silent, slow, rude or too many, beside a good client who notices nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockqueue.actors import Promise
from blockqueue.api import server as server_module
from blockqueue.api._answer import Answer
from blockqueue.api._channel import Channel
from blockqueue.api._lot import Lot
from blockqueue.api._parking import Parked
from blockqueue.api._request_info import RequestInfo

from .http_edge import Client, Edge, edge, hello
from .http_server import (
    Connection,
    Poll,
    Server,
    check_healthy,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    refused,
    serving,
    until,
)

CROWD = 500
DROPS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("load") / "queue.db", "--threads", "4") as running:
        create_topic(running, "cart")
        yield running


def seconds_of(connection: Connection, count: int) -> list[float]:
    """Publish so often; return how long each took, the shortest first."""
    taken: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        publish(connection, "cart", "x")
        taken.append(time.perf_counter() - started)
    return sorted(taken)


def rest(server: Server) -> None:
    """Wait until the server has nothing to do any more."""
    pause = threading.Event()

    def is_idle() -> bool:
        before = psutil.Process(server.process.pid).cpu_times()
        pause.wait(0.2)
        after = psutil.Process(server.process.pid).cpu_times()
        return (after.user + after.system) - (before.user + before.system) < 0.03

    until(is_idle, "the server rests")


SLOW = {
    "say nothing": b"",
    "send half of the headers": b"POST /topics HTTP/1.1\r\nHost: a\r\nX-",
    "send half of a body": b"POST /topics HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{",
    "never read": b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
}


@pytest.mark.parametrize("said", SLOW.values(), ids=SLOW)
def test_a_crowd_of_slow_clients_costs_a_good_one_nothing(server: Server, said: bytes) -> None:
    """All of its publishes succeed, and the median takes no longer than twice what it did."""
    connection = server.connect()
    before = seconds_of(connection, 100)
    with contextlib.ExitStack() as crowd:
        for _ in range(CROWD):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            crowd.enter_context(client)
            client.sendall(said)
        rest(server)
        during = seconds_of(connection, 100)
    connection.close()

    # The disk of a busy machine may be slow at any moment, for one as for the other.
    assert during[50] < 2 * before[50] + 0.005


def descriptors_of(server: Server) -> int:
    """Count what a server has open besides files, which readers of the database open."""
    process = psutil.Process(server.process.pid)
    return int(process.num_fds()) - len(process.open_files())


@pytest.mark.parametrize("how", ["reset", "vanish"])
def test_connections_that_break_leave_nothing_behind(server: Server, how: str) -> None:
    """Idle, within a request, and parked: all descriptors and threads come back."""
    check_healthy(server, f"before-{how}")
    threads = psutil.Process(server.process.pid).num_threads()
    until(lambda: len(psutil.Process(server.process.pid).net_connections("tcp")) == 1, "alone")
    before = descriptors_of(server)
    create_topic(server, "quiet")

    for number in range(DROPS):
        poll = server.poll(read_path("quiet", timeout="60s"))
        if number % 3 == 1:
            poll.socket.sendall(b"GET /livez HT")
        if number % 3 == 2:
            server.send("GET", "/livez")
        if how == "reset":
            poll.reset()
        else:
            poll.socket.shutdown(socket.SHUT_WR)
            poll.close()

    until(lambda: descriptors_of(server) == before, "the descriptors are back")
    assert psutil.Process(server.process.pid).num_threads() == threads
    publish(server, "quiet", "hi")
    assert [each["message"] for each in read(server, "quiet", timeout="10s")] == ["hi"]
    assert server.send("DELETE", "/topics/quiet").status == 200


def test_refused_clients_who_have_gone_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads the refusal; the log needs no traceback for that."""
    linger = struct.pack("ii", 1, 0)
    with edge() as running:
        for number in range(100):
            client = running.connect()
            client.send(b"BAD\r\n\r\n")
            for _ in range(number % 4):
                running.turn(0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.socket.close()
            running.turn(0.001)
        running.pass_time(1)

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# Limits.


class Waiting:
    """An application whose ``/poll`` waits until the test says so."""

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
            lambda error: Answer(getattr(error, "status", 500), str(error).encode() + b" hello"),
            info=RequestInfo("GET", None),
            timeout=1,
            poll=True,
        )


def park(running: Edge, app: Waiting) -> Client:
    """Send a poll, and turn the loop until it is parked."""
    client, parked = running.connect(), len(app.promises)
    client.get("/poll")
    running.until(lambda: len(app.promises) > parked)
    return client


def test_only_so_many_polls_may_wait() -> None:
    """One more is refused at once, and has its place when another has ended."""
    app = Waiting()
    with edge(app, polls_max=2) as running:
        first, _ = park(running, app), park(running, app)

        too_many = park(running, app)
        assert too_many.answer().startswith(b"HTTP/1.1 429 ")
        too_many.get()
        assert too_many.answer().startswith(b"HTTP/1.1 200 ")

        app.promises[0].complete(None)
        assert first.answer().startswith(b"HTTP/1.1 200 ")
        another = park(running, app)
        app.promises[-1].complete(None)
        assert another.answer().startswith(b"HTTP/1.1 200 ")


def test_a_poll_whose_client_has_gone_makes_room() -> None:
    """As soon as the server sees the end of the connection."""
    app = Waiting()
    with edge(app, polls_max=1) as running:
        gone = park(running, app)
        gone.socket.close()
        running.until(lambda: app.promises[0].is_done)

        client = park(running, app)
        app.promises[-1].complete(None)

        assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_a_real_server_says_how_many_polls_may_wait(tmp_path: Path) -> None:
    """With a word on when to try again."""
    path = read_path("cart", timeout="60s")
    with serving(tmp_path / "queue.db", "--max-polls", "1") as running:
        create_topic(running, "cart")
        polls: list[Poll] = [running.poll(path) for _ in range(2)]
        until(lambda: any(poll.is_answered() for poll in polls), "one is refused")
        (told,) = [poll for poll in polls if poll.is_answered()]
        answer = told.answer()

        assert "1 polls wait" in answer.check_failure(429)
        assert answer.headers["Retry-After"] == "1"
        publish(running, "cart", "hi")
        (waiting,) = [poll for poll in polls if poll is not told]
        assert waiting.answer().texts == ["hi"]
        assert counters(running, "cart") == (0, 1)
        for poll in polls:
            poll.close()


def test_more_polls_than_files_can_be_open_are_refused_at_the_start(tmp_path: Path) -> None:
    """In words, not by a descriptor that is missing one day."""
    assert "at most" in refused(tmp_path / "queue.db", "--max-polls", "100000000")


def test_beyond_the_limit_connections_wait_and_harm_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the system's backlog, until another one is closed."""
    monkeypatch.setattr(server_module, "_raise_descriptor_limit", lambda: 3)
    with edge() as running:
        served = [running.connect() for _ in range(3)]
        for client in served:
            client.get()
            assert client.answer()

        late = running.connect()
        late.get()
        running.pass_time(2)
        assert not late.read()
        for client in served:
            client.get()
            assert client.answer()

        served[0].socket.close()
        assert late.answer().startswith(b"HTTP/1.1 200 ")


def test_a_crowd_of_polls_needs_no_threads(server: Server) -> None:
    """However many wait, the server has the threads it began with."""
    before = psutil.Process(server.process.pid).num_threads()
    with contextlib.ExitStack() as crowd:
        for _ in range(CROWD):
            poll = server.poll(read_path("cart", "worker", "60s"))
            crowd.callback(poll.close)
        assert server.send("GET", "/topics/cart/subscribers").status == 200
        assert psutil.Process(server.process.pid).num_threads() == before


@pytest.mark.parametrize("rests", [True, False], ids=["ours", "the control"])
def test_the_loop_does_not_look_at_who_rests(monkeypatch: pytest.MonkeyPatch, rests: bool) -> None:
    """Otherwise each wait would take longer with each client that is silent."""
    looks: list[Channel] = []
    readable = Channel.readable

    def counted(channel: Channel) -> bool:
        looks.append(channel)
        return readable(channel)

    if not rests:
        monkeypatch.setattr(Lot, "enter", lambda lot, channel: None)
    with edge() as running:
        for _ in range(50):
            running.connect().send(b"GET / HTTP/1.1\r\nHo")
        for _ in range(200):  # one is accepted each time
            running.turn(0.001)
        monkeypatch.setattr(Channel, "readable", counted)

        for _ in range(10):
            running.turn(0)

        assert (len(looks) == 0) == rests
