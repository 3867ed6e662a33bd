"""T14: many clients that send a byte now and then, or do not read what they asked for."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from ..crash_checker import OK
from ..crash_server import HOST, ServerProcess
from .case import Budget, Figure, Result, Say
from .integrity import check_database
from .one_client import OneClient
from .power_cut import BROKEN

_SLOW = 500
_GOOD = 4
_TICK_S = 0.5
_BASE_S = 3.0
_CONTROL_S = 12
# The server gives headers 5 s, and looks once a second.
_HEAD_MAX_S = 8.0
_P99_FLOOR_S = 0.25
_GONE_MAX_S = 15.0
# The connections to the database that a server opens when more readers come at once.
_DESCRIPTORS_MORE = 12
_JOIN_S = 60.0

_HEADERS = b"POST /topics/crash/messages HTTP/1.1\r\nHost: here\r\nX-Slow: "
_BODY = b"POST /topics/crash/messages HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n"
_UNREAD = b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 20
#: What a slow client of each kind sends at first; the first two go on byte by byte.
KINDS = {"headers": _HEADERS, "body": _BODY, "reader": _UNREAD}


class SlowClients:
    """Good clients are served as if the others were not there, and those are cut in the end.

    A cycle is a second.
    """

    id = "T14"
    title = "500 slow clients: headers, bodies, readers"
    ci = 12
    night = 60
    tells = "requests had more than"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _Crowd(folder).run(budget.cycles)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that waits for everybody for ever must be noticed."""
        return _Crowd(folder, "endless-patience").run(_CONTROL_S)


class _Slow:
    """One slow client; it comes again when it was cut."""

    def __init__(self, port: int, kind: str) -> None:
        self.kind = kind
        self._port = port
        self.cuts = 0
        self.longest_s = 0.0
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection((HOST, self._port), timeout=_JOIN_S)
        # Few bytes fit, so a reader that does not read is one soon.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.sendall(KINDS[self.kind])
        self._socket.setblocking(False)
        self._since = time.monotonic()

    def tick(self) -> None:
        """Send one more byte; notice if that is over."""
        try:
            if self.kind != "reader":
                self._socket.send(b"x")
                over = self._socket.recv(4096) == b""
            else:
                over = _is_cut(self._socket)
        except BlockingIOError:
            over = False
        except OSError:
            over = True
        if over:
            self.cuts += 1
            self.longest_s = max(self.longest_s, time.monotonic() - self._since)
            self._socket.close()
            self._connect()

    def waits_s(self) -> float:
        return time.monotonic() - self._since

    def close(self) -> None:
        self._socket.close()


def _is_cut(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection that nobody reads."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1  # not ESTABLISHED any more


class _Crowd:
    def __init__(self, folder: Path, *what: str) -> None:
        program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        self.server = ServerProcess(folder, program=program)
        self.clients: list[OneClient] = []
        for number in range(_GOOD):
            place = folder / f"client {number}"
            place.mkdir()
            self.clients.append(OneClient(place))
        self.problems: list[str] = []
        self._lock = threading.Lock()  # guards _times
        self._times: list[float] = []
        self._halt = threading.Event()

    def run(self, seconds: int) -> Result:
        with self.server:
            assert self.server.pid is not None
            process = psutil.Process(self.server.pid)
            for client in self.clients:
                client.connect(self.server)
            if not self.clients[0].create_topic():
                raise RuntimeError("the topic was not created")
            base = self._work(_BASE_S, "alone")
            descriptors, threads = process.num_fds(), process.num_threads()
            slow = self._crowd()
            crowded = self._work(seconds, "crowded", slow)
            most_threads = process.num_threads()
            figures = self._judge_slow(slow)
            gone_s = self._leave(slow, process, descriptors)
            if self.server.stop() != 0:
                self.problems.append("the server did not end well")
        if most_threads > threads:
            self.problems.append(f"{threads} threads became {most_threads}")
        if crowded > max(2 * base, _P99_FLOOR_S):
            self.problems.append(f"p99 rose from {base * 1000:.1f} to {crowded * 1000:.1f} ms")
        for client in self.clients:
            client.close()
            self.problems += client.problems
            others = {status for status in client.statuses if status not in (OK, 404)}
            if others:
                self.problems.append(f"a good client was told {others}")
        told: dict[str, Figure] = {
            **figures,
            "p99 alone, ms": round(base * 1000, 1),
            "p99 crowded, ms": round(crowded * 1000, 1),
            "descriptors back after, s": round(gone_s, 1),
        }
        return Result(told, self.problems + check_database(self.server.database))

    def _crowd(self) -> list[_Slow]:
        kinds = list(KINDS)
        return [_Slow(self.server.port, kinds[index % len(kinds)]) for index in range(_SLOW)]

    def _work(self, seconds: float, name: str, slow: list[_Slow] | None = None) -> float:
        """Let the good clients work that long; return the p99 of their requests."""
        self._times.clear()
        self._halt.clear()
        threads = [
            threading.Thread(target=self._serve, args=(client, name), daemon=True)
            for client in self.clients
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for each in slow or ():
                each.tick()
            self._halt.wait(_TICK_S)
        self._halt.set()
        for thread in threads:
            thread.join(_JOIN_S)
            if thread.is_alive():
                self.problems.append("a good client is stuck")
        times = sorted(self._times)
        return times[int(len(times) * 0.99)]

    def _serve(self, client: OneClient, name: str) -> None:
        number = 0
        while not self._halt.is_set():
            number += 1
            sent = time.monotonic()
            client.publish(f"{name} {id(client)} {number}")
            published = time.monotonic()
            client.consume()
            with self._lock:
                self._times.append(published - sent)

    def _judge_slow(self, slow: list[_Slow]) -> Counter[str]:
        figures: Counter[str] = Counter()
        for each in slow:
            figures[f"slow {each.kind}: cut"] += each.cuts
            if each.kind == "headers" and max(each.longest_s, each.waits_s()) > _HEAD_MAX_S:
                figures["slow headers: too long"] += 1
        if figures["slow headers: too long"]:
            count = figures["slow headers: too long"]
            self.problems.append(f"{count} requests had more than {_HEAD_MAX_S:.0f} s for headers")
        return figures

    def _leave(self, slow: list[_Slow], process: psutil.Process, descriptors: int) -> float:
        """Close the slow ones; return how long it took the server to let go of them."""
        for each in slow:
            each.close()
        started = time.monotonic()
        pause = threading.Event()
        while process.num_fds() > descriptors + _DESCRIPTORS_MORE:
            if time.monotonic() - started > _GONE_MAX_S:
                self.problems.append(f"{descriptors} descriptors became {process.num_fds()}")
                break
            pause.wait(0.05)
        return time.monotonic() - started
