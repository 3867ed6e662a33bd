"""Servers for the benchmarks, each in a process of its own: ours, and what it is held against.

python bench_server.py bound           # answers as ours does, but only parses
python bench_server.py canned          # answers without even that: the client's ceiling
python bench_server.py claims DB       # no server: claims in another process
python bench_server.py traced DB COUNT # ours, counting SQL statements in the file COUNT
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import falcon
import psutil

from blockqueue import BlockQueue
from blockqueue.api import _envelope, _topics
from blockqueue.api._listener import address_of, listen
from blockqueue.api.server import Server, stop_on_signals

THREADS = 16
HOST = "127.0.0.1"
_COUNT = struct.Struct("<q")
_STOP_S = 15.0


class Served:
    """A server that runs: its port, and its process to look at."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self._process = process
        self.process = psutil.Process(process.pid)

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rest(self) -> None:
        """Wait until it has nothing to do any more: then all polls are parked."""
        while True:
            before = self.cpu_s()
            time.sleep(0.2)
            if self.cpu_s() - before < 0.02:
                return


@contextmanager
def ours(db: str, workers: int = 1) -> Iterator[Served]:
    """Serve a database the way everybody does."""
    arguments = ["-m", "blockqueue", "serve", "--db", db, "--host", HOST, "--port", "0"]
    arguments += ["--threads", str(THREADS), "--workers", str(workers)]
    with _started(arguments) as served:
        yield served


@contextmanager
def other(kind: str, *arguments: str) -> Iterator[Served]:
    """Serve one of the kinds of this module."""
    with _started([__file__, kind, *arguments]) as served:
        yield served


@contextmanager
def _started(arguments: Sequence[str]) -> Iterator[Served]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "http://" not in line:
                raise RuntimeError(f"the server did not start: {command}")
            yield Served(process, int(line.rsplit(":", 1)[1]))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


class _ParseOnly:
    """POST /topics/{topic}/messages that reads and parses like ours, and stores nothing."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        _envelope.first_value(_topics._message, req.bounded_stream.read())
        resp.data = _envelope.SUCCESS


def _serve_bound() -> None:
    app: falcon.App[Any, Any] = falcon.App()
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.keep_blank_qs_values = True
    app.add_route("/topics/{topic}/messages", _ParseOnly())
    listener = listen(HOST, 0)
    server = Server(app, listener, threads=THREADS, on_stop=lambda: None)
    stop_on_signals(server)
    gc.freeze()
    print(f"serves on {address_of(HOST, listener)}", flush=True)
    server.run()


def _serve_canned() -> None:
    body = _envelope.SUCCESS
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    listener = socket.create_server((HOST, 0))
    print(f"serves on http://{HOST}:{listener.getsockname()[1]}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
            elif clients[fd].recv(65536):
                clients[fd].send(answer)
            else:
                clients.pop(fd).close()


def statements(path: Path) -> int:
    """Return how many SQL statements a ``traced`` server has run so far."""
    return int(_COUNT.unpack(path.read_bytes())[0])


def _serve_claims(db: str) -> None:
    """Claim, one after the other, and say after how many milliseconds each has come."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with BlockQueue(db) as queue:
        print("claims; there is no http://:0", flush=True)
        while True:
            for delivery in queue.claim("cart", "counter", wait=3600):
                print(1000 * (time.monotonic() - float(delivery.message)), flush=True)
                delivery.ack()


def _serve_traced(db: str, count_path: str) -> None:
    """Serve, and count every statement of every connection where the benchmark can see it."""
    Path(count_path).write_bytes(_COUNT.pack(0))
    with open(count_path, "r+b") as file:
        count = mmap.mmap(file.fileno(), _COUNT.size)

    def trace(_event: dict[str, Any]) -> None:
        _COUNT.pack_into(count, 0, _COUNT.unpack_from(count)[0] + 1)

    apsw.connection_hooks.append(lambda each: each.trace_v2(apsw.SQLITE_TRACE_STMT, trace))
    from blockqueue.api.cli_serve import serve

    serve(["--db", db, "--host", HOST, "--port", "0", "--threads", str(THREADS)])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bound"]:
            _serve_bound()
        case ["claims", db]:
            _serve_claims(db)
        case ["canned"]:
            _serve_canned()
        case ["traced", db, count_path]:
            _serve_traced(db, count_path)
