"""A server in the test's own process: its loop is turned by hand, and so is its clock."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waitress import wasyncore
from waitress.server import create_server

from blockqueue.api._listener import listen
from blockqueue.api.server import Server

from .http_server import PATIENCE_S

App = Callable[[dict[str, Any], Callable[..., Any]], list[bytes]]
BIG = 40_000_000


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer everything, ``/big`` with much."""
    environ["wsgi.input"].read()
    body = b"x" * BIG if environ["PATH_INFO"] == "/big" else b"hello"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class Client:
    """A connection that never waits: the test turns the loop until there is something."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.socket = socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE_S)
        self.socket.setblocking(False)
        self.received = b""
        self.has_ended = False

    def send(self, data: bytes) -> bool:
        """Send as much as goes; say whether the other side still listens."""
        try:
            self.socket.send(data)
        except BlockingIOError:
            pass
        except OSError:
            self.has_ended = True
        return not self.has_ended

    def read(self, size: int = 65_536) -> bytes:
        """Take what has come; return all that was taken and not forgotten."""
        with contextlib.suppress(BlockingIOError):
            try:
                data = self.socket.recv(size)
            except ConnectionResetError:
                data = b""
            self.received += data
            self.has_ended = self.has_ended or not data
        return self.received

    def get(self, path: str = "/") -> None:
        self.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    def answer(self, end: bytes = b"hello") -> bytes:
        """Turn the loop until an answer is there; return it."""

        def arrived() -> bool:
            self.read()
            return self.received.endswith(end) or self.has_ended

        self._edge.until(arrived)
        answer, self.received = self.received, b""
        return answer

    def end(self) -> bytes:
        """Turn the loop until the server has closed the connection; return what it had said."""

        def ended() -> bool:
            self.read()
            return self.has_ended

        self._edge.until(ended)
        return self.received


class Edge:
    """What tests do with a server: turn its loop, let time pass, connect."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.clients: list[Client] = []
        self.port = 0
        self.turn: Callable[[float], None] = lambda timeout: None

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "in vain"
            self.turn(0.01)

    def pass_time(self, seconds: int, each: Callable[[], object] = lambda: None) -> None:
        """Let time pass; call something each second."""
        for _ in range(seconds):
            self.now += 1
            each()
            for _ in range(8):
                self.turn(0)
            self.turn(0.001)  # the other threads have their turn

    def connect(self) -> Client:
        self.clients.append(Client(self))
        return self.clients[-1]


@contextlib.contextmanager
def edge(app: App = hello, *, threads: int = 2, **options: Any) -> Iterator[Edge]:
    """Serve an application the way we do."""
    running = Edge()
    listener = listen("127.0.0.1", 0)
    running.port = listener.getsockname()[1]
    server = Server(
        app,
        listener,
        threads=threads,
        on_stop=lambda: None,
        clock=lambda: running.now,
        **options,
    )
    running.turn = server.turn
    try:
        yield running
    finally:
        for client in running.clients:
            client.socket.close()
        server.stop()
        server.run()


@contextlib.contextmanager
def plain(
    monkeypatch: pytest.MonkeyPatch, app: App = hello, *, threads: int = 2, **options: Any
) -> Iterator[Edge]:
    """Serve it with Waitress as it comes, as the control: what holds here too proves nothing."""
    running, known = Edge(), dict[int, Any]()
    clock = SimpleNamespace(time=lambda: running.now)
    for module in ("waitress.channel", "waitress.server"):
        monkeypatch.setattr(f"{module}.time", clock)
    server: Any = create_server(
        app, map=known, listen="127.0.0.1:0", threads=threads, asyncore_use_poll=True, **options
    )
    running.port = server.effective_port
    running.turn = lambda timeout: wasyncore.loop(timeout, use_poll=True, map=known, count=1)
    try:
        yield running
    finally:
        for client in running.clients:
            client.socket.close()
        for _ in range(3):
            running.turn(0.01)
        server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(known, ignore_all=True)
