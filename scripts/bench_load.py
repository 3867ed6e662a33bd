"""A cheap HTTP client on raw sockets; as a program, the load for the HTTP benchmark.

    python bench_load.py topics|v1|v1-batch    # what is published

It reads orders from its standard input, one a line: port, connections, seconds. It answers each
with how many requests were answered and in how many seconds. A client like the usual libraries
would need more processor time than the server that it is to measure.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench_figures import messages

BATCH = 100
OK = b"HTTP/1.1 200"
#: Where the program finds the token to show, if there is one.
TOKEN_VARIABLE = "BENCH_TOKEN"
_HOST = "127.0.0.1"


def post(path: str, body: object) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    return post_encoded(path, json.dumps(body).encode())


def post_encoded(path: str, encoded: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {_HOST}\r\nContent-Type: application/json\r\n"
    if token := os.environ.get(TOKEN_VARIABLE):
        head += f"Authorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {len(encoded)}\r\n\r\n".encode() + encoded


def bare(method: str, path: str) -> bytes:
    """Return the bytes of a request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: {_HOST}\r\n\r\n".encode()


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((_HOST, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        """Wait for an answer; return its body. Raises RuntimeError unless it is a success."""
        data = b""
        while not (body := _body(data)):
            received = self._socket.recv(65536)
            if not received:
                raise RuntimeError("the server closed the connection")
            data += received
        if not data.startswith(OK):
            raise RuntimeError(f"the server answered {data!r}")
        return body

    def ask(self, request: bytes) -> bytes:
        self.send(request)
        return self.receive()

    def close(self) -> None:
        self._socket.close()


def _body(data: bytes) -> bytes:
    """Return the body of an answer once all of it is there; ours are never empty."""
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:") and len(body) == int(line.split(b":")[1]):
            return body
    return b""


def park(port: int, paths: Sequence[str]) -> list[Client]:
    """Open a long poll on each path, and do not wait for the answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(paths) + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    clients: list[Client] = []
    for path in paths:
        client = Client(port)
        client.send(bare("GET", path))
        clients.append(client)
    return clients


def _publish(kind: str) -> tuple[bytes, bytes]:
    """Return a request, and how its answers end: that much is enough to know a whole one."""
    batch = [{"message": each} for each in messages(BATCH)]
    if kind == "topics":
        return post("/topics/cart/messages", batch[0]), b'"success"}'
    if kind == "v1":
        return post("/v1/topics/cart/messages?wait_for=commit", batch[0]), b"}}"
    assert kind == "v1-batch"
    return post("/v1/topics/cart/messages/batch?wait_for=commit", batch), b"}]}"


def load(kind: str, port: int, connections: int, seconds: float) -> tuple[int, float]:
    """Send the same publish on all connections again and again; return how often, how long."""
    request, end = _publish(kind)
    sockets = {s.fileno(): s for s in (connect(port) for _ in range(connections))}
    parts = dict.fromkeys(sockets, b"")
    poll = select.epoll()
    for fd, connection in sockets.items():
        poll.register(fd, select.EPOLLIN)
        connection.sendall(request)
    answered, started = 0, time.perf_counter()
    now = started
    while sockets:
        for fd, _ in poll.poll(1):
            data = parts[fd] + sockets[fd].recv(65536)
            if not data.endswith(end):
                if not data or not OK.startswith(data[: len(OK)]):
                    raise RuntimeError(f"the server answered {data!r}")
                parts[fd] = data
                continue
            parts[fd] = b""
            answered += 1
            if now < started + seconds:
                sockets[fd].send(request)
            else:
                sockets.pop(fd).close()
        now = time.perf_counter()
    return answered, now - started


def connect(port: int) -> socket.socket:
    connection = socket.create_connection((_HOST, port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Loader:
    """A load in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], connections: int) -> None:
        self._process = process
        self._connections = connections

    def run(self, port: int, amount: float) -> tuple[int, float]:
        """Load the server at ``port``; return how much was answered in how many seconds.

        ``amount`` is the program's: seconds, or messages.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{port} {self._connections} {amount}\n")
        self._process.stdin.flush()
        answered, spent = self._process.stdout.readline().split()
        return int(answered), float(spent)


@contextmanager
def loader(
    connections: int, kind: str, program: str = __file__, token: str = ""
) -> Iterator[Loader]:
    """Start a process that asks for so much as so many connections can, when told to."""
    pipe = subprocess.PIPE
    command = [sys.executable, program, kind]
    environment = {**os.environ, TOKEN_VARIABLE: token}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield Loader(process, connections)
        finally:
            process.terminate()


def take_orders(load: Callable[[int, int, float], tuple[int, float]]) -> None:
    """Do what each line of the standard input says."""
    for line in sys.stdin:
        port, connections, amount = line.split()
        print(*load(int(port), int(connections), float(amount)), flush=True)


if __name__ == "__main__":
    take_orders(partial(load, sys.argv[1]))
