"""T22: the server is told to end while it works: in order, by Ctrl-C, or twice."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import msgspec

from ..crash_campaign import Campaign, Plan
from ..crash_clients import Http
from ..crash_server import HOST, ServerProcess
from .campaigns import result_of
from .case import Budget, Result, Say
from .controls import program

_EXIT_MAX_S = 10.0
_CONTROL_CYCLES = 3
_IDLE = "idle"


class Signals(Campaign):
    """Ends the server in one of three ways, and starts it anew."""

    #: The poll of each cycle has arrived by then.
    strike_after_s = (0.3, 1.5)

    def __init__(self, plan: Plan, folder: Path, say: Say, server: ServerProcess) -> None:
        super().__init__(plan, folder, say, server)
        self.slowest_exit_s = 0.0
        self.slowest_poll_s = 0.0
        self.ends: Counter[str] = Counter()
        self._poll: socket.socket | None = None

    def prepare(self) -> None:
        super().prepare()
        http = Http(self.server.port)
        answer = http.ask("POST", "/topics", {"name": _IDLE, "subscribers": [{"name": "a"}]})
        http.close()
        if answer.status != 200:
            raise RuntimeError(f"the idle topic was not created: {answer}")
        self._open_poll()

    def strike(self) -> None:
        way = self.random.choice(("SIGTERM", "SIGINT", "twice"))
        self.ends[way] += 1
        started = time.monotonic()
        self.server.send(signal.SIGINT if way == "SIGINT" else signal.SIGTERM)
        if way == "twice":
            self.pause.wait(self.random.uniform(0.0, 0.05))
            with contextlib.suppress(ProcessLookupError):
                self.server.send(signal.SIGTERM)
        else:
            self._check_poll(started)
        code = self.server.wait(_EXIT_MAX_S)
        self.slowest_exit_s = max(self.slowest_exit_s, time.monotonic() - started)
        if code not in ((0, 128 + signal.SIGTERM) if way == "twice" else (0,)):
            self.report.troubles.append(f"after {way} the exit code was {code}")

    def recover(self) -> None:
        self.server.kill()
        super().recover()
        self._open_poll()

    def _open_poll(self) -> None:
        """Wait for messages of which there are none."""
        if self._poll is not None:
            self._poll.close()
        self._poll = socket.create_connection((HOST, self.server.port), timeout=_EXIT_MAX_S)
        request = f"GET /topics/{_IDLE}/subscribers/a?timeout=30s HTTP/1.1\r\nHost: a\r\n\r\n"
        self._poll.sendall(request.encode())

    def _check_poll(self, started: float) -> None:
        """See that it was answered at once, with an empty list."""
        assert self._poll is not None
        answer = b""
        try:
            while chunk := self._poll.recv(65_536):
                answer += chunk
        except OSError as error:
            answer += repr(error).encode()
        took_s = time.monotonic() - started
        self.slowest_poll_s = max(self.slowest_poll_s, took_s)
        _, _, body = answer.partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 ") or msgspec.json.decode(body)["data"] != []:
            self.report.troubles.append(f"the long poll was answered with {answer[:200]!r}")
        elif took_s > _EXIT_MAX_S:
            self.report.troubles.append(f"the long poll was answered after {took_s:.1f} s")

    def close(self) -> None:
        if self._poll is not None:
            self._poll.close()


class SignalsUnderLoad:
    """What was answered is kept, who waits is answered, and it ends with 0 in 10 s."""

    id = "T22"
    title = "SIGTERM, SIGINT, a second signal"
    ci = 10
    night = 300
    tells = "the long poll was answered with"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._run(Plan(budget.cycles, seed), ServerProcess(folder), folder, say)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that ends where it stands leaves a poll without an answer."""
        server = ServerProcess(folder, program=program("no-drain"))
        return self._run(Plan(_CONTROL_CYCLES, seed), server, folder, say)

    def _run(self, plan: Plan, server: ServerProcess, folder: Path, say: Say) -> Result:
        campaign = Signals(plan, folder, say, server)
        try:
            result = result_of(campaign)
        finally:
            campaign.close()
        result.figures.update({f"ended by {way}": count for way, count in campaign.ends.items()})
        result.figures["slowest exit, s"] = round(campaign.slowest_exit_s, 2)
        result.figures["slowest poll's answer, s"] = round(campaign.slowest_poll_s, 2)
        return result
