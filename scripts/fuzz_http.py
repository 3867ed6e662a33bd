#!/usr/bin/env python3
"""Send the server requests that are broken in every way, and see that it takes no harm.

    scripts/fuzz_http.py                              # 20,000 requests
    scripts/fuzz_http.py --requests 200000 --seed 7   # the same ones again

A server of its own is started on a free port of the loopback address. Good requests of both
contracts are mutated: bytes deleted, replaced and inserted, parts doubled, swapped and cut off,
headers that contradict each other added. Each mutant has a connection of its own, sent whole or
in pieces. Of the answers none may be a 5xx but 501 and 503; every so often a good request must
be served; and in the end the server's descriptors, threads and memory must be what they were
after the first tenth. Prints what happened as JSON. Exits 1 if anything is wrong.

Run it with a Python that has blockqueue[dev], as `.venv/bin/python scripts/fuzz_http.py`.
"""

from __future__ import annotations

import random
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import click
import fuzz_api
import msgspec
import psutil
from tqdm import tqdm

_TOGETHER = 32
_ANSWER_S = 10.0
_GOOD_EVERY = 500
_MUTATIONS_MAX = 4
_REST_S = 60.0
_MEMORY_RATIO = 1.25
# The database, its log, its index, the lock and the hints, and two for each reader.
_FILES_MAX = 64
_SOUND = {501, 503}


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


SEEDS = [
    b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /topics/orders/subscribers/worker?timeout=1ms HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/topics?limit=3 HTTP/1.1\r\nHost: a\r\nX-Request-Id: 7\r\n\r\n",
    b"DELETE /topics/orders/subscribers/worker/messages/7 HTTP/1.1\r\nHost: a\r\n\r\n",
    _post("/topics/orders/messages", b'{"message":"hi"}', "Content-Type: application/json"),
    _post("/v1/topics/orders/messages", b'{"message":"hi","delay":"1h"}', "Idempotency-Key: k"),
    _post("/v1/topics/orders/messages/batch", b'[{"message":"hi"}]', "Expect: 100-continue"),
    _post("/v1/topics/orders/subscribers/worker/claims", b'{"limit":1}'),
    b"POST /topics/orders/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'8\r\n{"messag\r\n8;a=b\r\ne":"hi"}\r\n0\r\nX: y\r\n\r\n',
]
HEADERS = [
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding : chunked"),
    *(b"Content-Length: 3", b"Content-Length: +3", b"Content-Length: 99999999999999999999"),
    *(b"Host: b", b"Host: a/b", b"Connection: close", b"Connection: upgrade", b" folded"),
    *(b"Expect: 100-continue", b"X: \x00", b"X: " + b"y" * 9_000, b"Authorization: Bearer x"),
]


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _delete(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice([1, 1, 2, 10]) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    some = [rng.randbytes(1), b"\r\n", b"\r", b"\n", b" ", b"\x00", b"%", b"\xff", b"0", b";"]
    return data[:at] + rng.choice(some) * rng.choice([1, 1, 1, 50]) + data[at:]


def _replace(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def _double(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((_place(rng, data), _place(rng, data)))
    return data[:end] + data[start:]


def _swap_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _add_header(rng: random.Random, data: bytes) -> bytes:
    first, _, rest = data.partition(b"\r\n")
    return b"\r\n".join([first, rng.choice(HEADERS), rest])


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    *(_delete, _insert, _replace, _double, _swap_lines, _add_header, _cut)
]


def mutant(rng: random.Random) -> bytes:
    """Return a request that is broken a little."""
    data = rng.choice(SEEDS)
    for _ in range(rng.randint(1, _MUTATIONS_MAX)):
        data = rng.choice(MUTATIONS)(rng, data)
    return data


def _pieces(rng: random.Random, data: bytes) -> list[bytes]:
    if rng.random() < 0.7:
        return [data]
    at = _place(rng, data)
    return [data[:at], data[at:]]


def statuses(received: bytes) -> list[int]:
    """Return the status of each answer that is in what was received."""
    parts = received.split(b"HTTP/1.")[1:]
    return [int(part[2:5]) for part in parts if part[2:5].isdigit() and part[1:2] == b" "]


class Exchange:
    """One mutant on its way: sent, then the end of the stream, then all that comes back."""

    def __init__(self, rng: random.Random, port: int) -> None:
        self.data = mutant(rng)
        self.received = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S)
        # Some hang up with a reset, and what they would have been told is not read.
        self.leaves = rng.random() < 0.1
        try:
            for piece in _pieces(rng, self.data):
                self.socket.sendall(piece)
            if self.leaves:
                linger = (1).to_bytes(4, sys.byteorder) + bytes(4)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except OSError:
            pass  # it has been refused already
        self._ends_at = time.monotonic() + rng.choice([0.0, 0.002, 0.05])
        self._shut = False

    def step(self) -> bool:
        """Go on; say whether it is over."""
        if not self._shut and time.monotonic() >= self._ends_at:
            self._shut = True
            if self.leaves:
                return True
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return True
        readable, _, _ = select.select([self.socket], [], [], 0)
        if not readable:
            return False
        try:
            data = self.socket.recv(65_536)
        except OSError:
            return True
        self.received += data
        return not data


class Campaign:
    """Mutants, so many at once, and what became of them."""

    def __init__(self, seed: int, server: psutil.Process, address: str) -> None:
        self._rng = random.Random(seed)
        self._server = server
        self._address = address
        self._port = urlsplit(address).port or 0
        self.answers: Counter[int] = Counter()
        self.wrong: list[str] = []

    def run(self, count: int) -> None:
        flying: list[Exchange] = []
        with tqdm(total=count, unit="requests", file=sys.stderr) as bar:
            while count or flying:
                while count and len(flying) < _TOGETHER:
                    flying.append(Exchange(self._rng, self._port))
                    count -= 1
                    if count % _GOOD_EVERY == 0:
                        self._check_good()
                over = [each for each in flying if each.step()]
                for each in over:
                    self._note(each)
                    flying.remove(each)
                bar.update(len(over))
                if not over:
                    select.select([each.socket for each in flying], [], [], 0.001)

    def _note(self, exchange: Exchange) -> None:
        exchange.socket.close()
        found = statuses(exchange.received)
        self.answers.update(found or [0])
        if any(status >= 500 and status not in _SOUND for status in found):
            self.wrong.append(f"{exchange.data!r} was answered {exchange.received!r}")

    def _check_good(self) -> None:
        """A good client on a new connection must be served, whatever the others do."""
        try:
            with urllib.request.urlopen(f"{self._address}/livez", timeout=_ANSWER_S) as response:
                response.read()
        except (OSError, urllib.error.URLError) as error:
            self.wrong.append(f"a good request was not served: {error}")

    def at_rest(self, descriptors: int | None = None) -> dict[str, Any]:
        """Wait until the connections are gone; return what the server holds."""
        deadline = time.monotonic() + _REST_S
        while time.monotonic() < deadline:
            if descriptors in (None, self._descriptors()) and len(self._sockets()) <= 1:
                break
            time.sleep(0.1)
        return {
            "descriptors": self._descriptors(),
            "files": len(self._server.open_files()),
            "threads": self._server.num_threads(),
            "memory_mb": round(self._server.memory_info().rss / 1e6, 1),
        }

    def _sockets(self) -> list[Any]:
        """Return its TCP sockets: one of them listens."""
        return list(self._server.net_connections("tcp"))

    def _descriptors(self) -> int:
        """Count all but files: readers of the database are opened when many read at once."""
        return int(self._server.num_fds()) - len(self._server.open_files())


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what a server holds in the end that it did not hold before."""
    wrong = [
        f"{after[what]} {what} instead of {before[what]}"
        for what in ("descriptors", "threads")
        if after[what] != before[what]
    ]
    if after["files"] > _FILES_MAX:
        wrong.append(f"{after['files']} open files")
    if after["memory_mb"] > before["memory_mb"] * _MEMORY_RATIO:
        wrong.append(f"{after['memory_mb']} MB instead of {before['memory_mb']}")
    return wrong


@click.command(help=__doc__)
@click.option("--requests", default=20_000, show_default=True, type=click.IntRange(100))
@click.option("--seed", type=int, help="Default: another one each time; it is printed.")
def main(requests: int, seed: int | None) -> None:
    """Run the campaign."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="blockqueue-fuzz-") as folder:
        server, address = fuzz_api.start(folder)
        try:
            fuzz_api.post(f"{address}/v1/topics", fuzz_api.TOPIC)
            report, wrong = _campaign(seed, requests, server, address)
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(30)
    if code != 0:
        wrong.append(f"the server exited with {code}")
    report["wrong"] = wrong[:10]
    click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    sys.exit(bool(wrong))


def _campaign(
    seed: int, requests: int, server: subprocess.Popen[str], address: str
) -> tuple[dict[str, Any], list[str]]:
    campaign = Campaign(seed, psutil.Process(server.pid), address)
    started = time.monotonic()
    campaign.run(requests // 10)
    before = campaign.at_rest()
    campaign.run(requests - requests // 10)
    after = campaign.at_rest(before["descriptors"])
    report = {
        "requests": requests,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "answers": {str(status or "none"): n for status, n in sorted(campaign.answers.items())},
        "before": before,
        "after": after,
    }
    return report, campaign.wrong + compare(before, after)


if __name__ == "__main__":
    main()
