"""T15: clients vanish while they wait: by a reset, by an end, or without reading."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from random import Random

from ..crash_server import ServerProcess
from ..http_server import Poll
from .calls import Calls, held_by
from .case import Budget, Result, Say
from .controls import program

_TOPIC = "gone"
_BATCH = 25
_MESSAGES = 3
# A claim that was handed to somebody who has gone would be missed for that long.
_LEASE = "5m"
_AT_ONCE_S = 3.0
_SHORT_S = 1.0
_HEALED_S = 5.0
_CONTROL_DROPS = 50


class GoneClients:
    """What they were to get goes to somebody else at once; their connections are closed."""

    id = "T15"
    title = "clients that vanish while they wait"
    ci = 100
    night = 1000
    tells = "went to clients that had gone"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _Dropping(ServerProcess(folder), seed).run(budget.cycles)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that takes every client for a living one."""
        server = ServerProcess(folder, program=program("trusts-clients"))
        return _Dropping(server, seed).run(_CONTROL_DROPS)


class _Dropping:
    def __init__(self, server: ServerProcess, seed: int) -> None:
        self._server = server
        self._random = Random(seed)
        self._result = Result()
        self._slowest_s = 0.0
        self._pause = threading.Event()  # never set: only its timeouts are used

    def run(self, drops: int) -> Result:
        with self._server as server:
            calls = Calls(server.port)
            calls.create(_TOPIC, "a", "deaf", visibility_duration=_LEASE)
            calls.publish(_TOPIC, "first")
            self._receive(calls, 1)
            before = held_by(server)
            dropped = 0
            while dropped < drops and not self._result.problems:
                self._drop_batch(calls)
                dropped += _BATCH
            if not self._result.problems:
                self._check_deaf(calls)
            self._check_held(before.fds, before.threads)
            calls.close()
            if server.stop() != 0:
                self._result.problems.append("the server did not end in order")
        self._result.figures = {
            "clients dropped": dropped,
            "slowest to somebody else, s": round(self._slowest_s, 3),
            **self._result.figures,
        }
        return self._result

    def _drop_batch(self, calls: Calls) -> None:
        """Let many wait and vanish, then publish."""
        polls = [
            Poll(self._server.port, f"/topics/{_TOPIC}/subscribers/a?timeout=30s")
            for _ in range(_BATCH)
        ]
        # Sometimes all have begun to wait by then, sometimes they are on their way.
        if self._random.random() < 0.7:
            calls.send("GET", "/readyz")
        for poll in polls:
            match self._random.choice(("reset", "end", "half")):
                case "reset":
                    poll.reset()
                case "end":
                    poll.close()
                case _:
                    poll.socket.shutdown(socket.SHUT_WR)
        calls.publish(_TOPIC, *(f"{number}" for number in range(_MESSAGES)))
        self._receive(calls, _MESSAGES)
        for poll in polls:
            poll.close()

    def _receive(self, calls: Calls, count: int) -> None:
        """Read so many messages, which must be there at once."""
        started = time.monotonic()
        while count > 0 and time.monotonic() < started + _AT_ONCE_S:
            for each in calls.claim(_TOPIC, "a", "limit=10&timeout=1s"):
                calls.settle(_TOPIC, "a", each, "ack")
                count -= 1
        self._slowest_s = max(self._slowest_s, time.monotonic() - started)
        if count > 0:
            self._result.problems.append(f"{count} messages went to clients that had gone")

    def _check_deaf(self, calls: Calls) -> None:
        """Who is there but never reads cannot be told from others: the lease is the remedy."""
        while deliveries := calls.claim(_TOPIC, "deaf", "limit=1000&timeout=100ms"):
            for each in deliveries:
                calls.settle(_TOPIC, "deaf", each, "ack")
        path = f"/v1/topics/{_TOPIC}/subscribers/deaf/claim?timeout=30s&lease={_SHORT_S}s"
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=10) as deaf:
            deaf.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
            calls.publish(_TOPIC, "unheard")
            started = time.monotonic()
            found = calls.claim(_TOPIC, "deaf", "timeout=5s")
            took_s = time.monotonic() - started
            for each in found:
                calls.settle(_TOPIC, "deaf", each, "ack")
        for each in calls.claim(_TOPIC, "a", "timeout=1s"):
            calls.settle(_TOPIC, "a", each, "ack")
        self._result.figures["an unread answer came again after, s"] = round(took_s, 2)
        if [each["message"] for each in found] != ["unheard"]:
            self._result.problems.append(f"what was not read did not come again: {found}")

    def _check_held(self, fds: int, threads: int) -> None:
        """See that the server holds nothing more than before."""
        deadline = time.monotonic() + _HEALED_S
        while True:
            held = held_by(self._server)
            if held.fds <= fds and held.threads <= threads:
                break
            if time.monotonic() > deadline:
                text = f"{held.fds} descriptors, {held.threads} threads"
                self._result.problems.append(f"{text}; before it were {fds}, {threads}")
                break
            self._pause.wait(0.05)
        self._result.figures["descriptors more than before"] = held.fds - fds
        self._result.figures["threads more than before"] = held.threads - threads
