"""A real server in a process of its own, and the ways in which the tests talk to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import blockqueue

# How long a test waits for what must happen. Generous: a busy machine is no bug.
PATIENCE_S = 30.0
SUCCESS = {"message": "success"}

_ROOT = Path(__file__).resolve().parent.parent


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def messages(self) -> list[dict[str, str]]:
        """What a read has got."""
        assert self.status == 200, self
        assert self.json["message"] == "success"
        data: list[dict[str, str]] = self.json["data"]
        return data

    @property
    def texts(self) -> list[str]:
        return [each["message"] for each in self.messages]

    def check_failure(self, status: int) -> str:
        """Assert that this is a failure in the envelope; return its text."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/json"
        wire_value = {404: "not found", 409: "Conflict"}.get(status, "failure")
        assert self.json == {"message": wire_value, "error": self.json["error"]}
        assert "Traceback" not in self.json["error"]
        text: str = self.json["error"]
        assert text
        return text


class Connection:
    """A keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, anything but bytes as JSON, and read the answer."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self._http.request(method, path, body, dict(headers or {}))
        response = self._http.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def close(self) -> None:
        self._http.close()


class Poll:
    """A read on a socket of its own, whose answer is fetched later."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._file = self.socket.makefile("rb")
        self.send(path)

    def send(self, path: str, method: str = "GET") -> None:
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def answer(self) -> Answer:
        """Wait for the next answer."""
        status = int(self._file.readline().split()[1])
        headers = dict(http.client.parse_headers(self._file))
        return Answer(status, headers, self._file.read(int(headers["Content-Length"])))

    def is_answered(self) -> bool:
        """Say whether something has come, be it an answer or an end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def reset(self) -> None:
        """Break the connection off, so that the server gets a reset and no end."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Server:
    """``blockqueue serve`` in a process of its own.

    Args:
        db: its database.
        arguments: its command line after ``serve --db DB``; without a port, a free one.
        environment: variables besides the test's own.
        launcher: a program to run instead of ``python -m blockqueue``.
        directory: where to run it.
    """

    def __init__(
        self,
        db: Path | None,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        launcher: str = "",
        directory: Path | None = None,
    ) -> None:
        self.db = db
        start = ["-c", launcher] if launcher else ["-m", "blockqueue"]
        given = ["--db", str(db)] if db is not None else []
        port = [] if "--port" in arguments or environment else ["--port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-u", *start, "serve", *given, *port, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment() | dict(environment or {}),
            cwd=directory,
            text=True,
        )
        self._errors: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._errors.extend, args=(self.process.stderr,))
        self._reader.start()
        self.line = self._first_line()
        self.port = int(self.line.rsplit(":", 1)[1]) if self.line else 0

    def _first_line(self) -> str:
        """Return what it says once it serves; nothing if it has ended instead."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE_S), "the server does not say where it serves"
        return self.process.stdout.readline().strip()

    def connect(self) -> Connection:
        return Connection(self.port)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = self.connect()
        try:
            return connection.send(method, path, body, headers)
        finally:
            connection.close()

    def poll(self, path: str) -> Poll:
        return Poll(self.port, path)

    def say(self, data: bytes, *, ends: bool = False) -> bytes:
        """Send bytes, then the end of the stream if it ``ends``; return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            received = b""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait until it has ended; return its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(PATIENCE_S)
        return code

    def stop(self) -> int:
        """End it in order; return its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """End it somehow, and let go of its pipes."""
        self.process.kill()
        self.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    @property
    def errors(self) -> str:
        """What it has said on stderr; complete once it has ended."""
        return "".join(self._errors)


@contextlib.contextmanager
def serving(db: Path | None, *arguments: str, **options: Any) -> Iterator[Server]:
    """Run a server for the length of a block; afterwards see that it has met no bug."""
    server = Server(db, *arguments, **options)
    try:
        assert server.line, server.errors
        yield server
    finally:
        server.close()
    assert "Traceback" not in server.errors, server.errors


def refused(db: Path | None, *arguments: str, **options: Any) -> str:
    """Run a server that cannot start; return the one line it says, after its checks."""
    server = Server(db, *arguments, **options)
    try:
        code = server.wait()
    finally:
        server.close()
    lines = server.errors.splitlines()
    assert code > 0, server.line or code
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: "), lines
    return lines[0]


def child_environment() -> dict[str, str]:
    """Return the environment in which another Python imports what this one imports."""
    assert blockqueue.__file__ is not None
    package = Path(blockqueue.__file__).parent
    root = package.parent if package.name == "blockqueue" else _linked_checkout()
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("BLOCKQUEUE_")
    }
    return inherited | {"PYTHONPATH": os.pathsep.join(paths)}


def _linked_checkout() -> Path:
    """Lay a bare checkout out as a package, by links, for processes without our conftest."""
    package = _ROOT / "build/http/blockqueue"
    package.mkdir(parents=True, exist_ok=True)
    parts = [*(_ROOT / "api/facade").glob("*"), *(_ROOT / name for name in ("actors", "api"))]
    parts += [
        _ROOT / name for name in ("storage", "api/client", "api/otel", "api/testing", "api/worker")
    ]
    for part in parts:
        with contextlib.suppress(FileExistsError):  # another run may make the same at once
            (package / part.name).symlink_to(part)
    return package.parent


def unused_port() -> int:
    """Return a port for a program that cannot be told to take any.

    It is below those that the system gives out, so that nobody else is given it meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], bool], what: str, timeout: float = PATIENCE_S) -> None:
    """Ask again and again until a condition of the server holds."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        pause.wait(0.01)


# What most tests do. ``to`` is a server or a connection.


def create_topic(
    to: Server | Connection, topic: str, subscribers: Sequence[str] = ("worker",), **option: Any
) -> None:
    """Make a topic whose subscribers all have the same option."""
    listed = [{"name": name, "option": option} for name in subscribers]
    answer = to.send("POST", "/topics", {"name": topic, "subscribers": listed})
    assert (answer.status, answer.json) == (200, SUCCESS)


def publish(to: Server | Connection, topic: str, *messages: str) -> None:
    for message in messages:
        answer = to.send("POST", f"/topics/{topic}/messages", {"message": message})
        assert (answer.status, answer.json) == (200, SUCCESS)


def read_path(topic: str, subscriber: str = "worker", timeout: str | None = None) -> str:
    query = "" if timeout is None else f"?timeout={timeout}"
    return f"/topics/{topic}/subscribers/{subscriber}{query}"


def read(
    to: Server | Connection, topic: str, subscriber: str = "worker", timeout: str | None = None
) -> list[dict[str, str]]:
    return to.send("GET", read_path(topic, subscriber, timeout)).messages


def ack(to: Server | Connection, topic: str, delivery: str, subscriber: str = "worker") -> Answer:
    return to.send("DELETE", f"{read_path(topic, subscriber)}/messages/{delivery}")


def counters(to: Server | Connection, topic: str, subscriber: str = "worker") -> tuple[int, int]:
    """Return how many messages wait to be handed out, and how many are handed out."""
    answer = to.send("GET", f"/topics/{topic}/subscribers")
    assert answer.status == 200, answer
    (found,) = [each for each in answer.json["data"] if each["name"] == subscriber]
    return found["unpublished_message"], found["unacked_message"]


def check_healthy(server: Server, topic: str) -> None:
    """Let a message make its whole way: nothing that came before has done any harm."""
    assert server.send("GET", "/readyz").status == 200
    connection = server.connect()
    create_topic(connection, topic)
    publish(connection, topic, "well")
    (message,) = read(connection, topic, timeout="10s")
    assert message["message"] == "well"
    assert ack(connection, topic, message["id"]).status == 200
    assert connection.send("DELETE", f"/topics/{topic}").status == 200
    connection.close()
