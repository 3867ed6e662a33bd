"""T8: each sync of the disk takes half a second, and more is published than can be written."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import psutil

from ..crash_checker import OK
from ..crash_server import HOST, ServerProcess
from .case import Budget, Result, Say
from .disk import MIB
from .integrity import check_database
from .power_cut import BROKEN
from .vfs import Trouble

_DELAY_S = 0.5
# The first syncs make the database; so many after that are slow.
_HEALTHY_SYNCS = 12
_SLOW_SYNCS = 16
_CLIENTS = 160
_BATCH = 1000
_REQUEST_TIMEOUT_S = 30.0
_RUN_MAX_S = 60.0
_HEALED_MAX_S = 10.0
_LOOK_EVERY_S = 0.05
# What may wait to be written, several times over: decoded, packed, and in the answers.
_GROWTH_MAX = 1024 * MIB
_TRY_LATER = {429, 503}
_PATH = "/v1/topics/slow/messages/batch"


class SlowDisk:
    """What waits is bounded: the rest is told to try later, and all heals with the disk."""

    id = "T8"
    title = "slow disk"
    ci = 1
    night = 5
    tells = "nobody was told to try later|it grew by"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        result = Result()
        for number in range(budget.cycles):
            place = folder / f"{number}"
            place.mkdir()
            _Flood(place).run(result)
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that lets everybody in must be noticed."""
        result = Result()
        _Flood(folder, "no-admission").run(result)
        return result


class _Flood:
    """Many clients that publish batches, each as soon as the last one was answered."""

    def __init__(self, folder: Path, *what: str) -> None:
        until = _HEALTHY_SYNCS + _SLOW_SYNCS
        trouble = Trouble("sync", "slow", _HEALTHY_SYNCS, until, _DELAY_S)
        says = msgspec.json.encode(trouble).decode()
        self.folder = folder
        self.server = ServerProcess(folder, program=(str(BROKEN), *what, says, str(folder)))
        self._lock = threading.Lock()  # guards the three below
        self.statuses: Counter[int | None] = Counter()
        self.slowest_s = 0.0
        self.problems: list[str] = []
        self._halt = threading.Event()

    def run(self, result: Result) -> None:
        with self.server:
            assert self.server.pid is not None
            process = psutil.Process(self.server.pid)
            subscribers = [{"name": "worker"}]
            topic = {"name": "slow", "subscribers": subscribers}
            if self._ask("POST", "/v1/topics", topic) not in (200, 201):
                raise RuntimeError("the topic was not created")
            before = process.memory_info().rss
            peak = self._flood(process)
            healed_s = self._heal()
            stored = self._stored()
            if self.server.stop() != 0:
                self.problems.append("the server did not end well")
        accepted, refused = self._judge(stored)
        if peak - before > _GROWTH_MAX:
            self.problems.append(f"it grew by {(peak - before) // MIB} MiB")
        result.figures.update(
            {
                "batches accepted": accepted,
                "told to try later": refused,
                "slowest answer, s": round(self.slowest_s, 1),
                "memory before, MiB": before // MIB,
                "memory at most, MiB": peak // MIB,
                "healed after, s": round(healed_s, 2),
            }
        )
        result.problems += self.problems + check_database(self.server.database)

    def _judge(self, stored: int) -> tuple[int, int]:
        """Look at the answers; return how many batches were accepted and refused."""
        unknown = self.statuses[None]
        accepted = sum(count for status, count in self.statuses.items() if (status or 0) < 300)
        accepted -= unknown
        refused = sum(self.statuses[status] for status in _TRY_LATER)
        if accepted + unknown + refused != sum(self.statuses.values()):
            self.problems.append(f"other answers: {dict(self.statuses)}")
        if not refused:
            self.problems.append("nobody was told to try later")
        if not accepted * _BATCH <= stored <= (accepted + unknown) * _BATCH:
            self.problems.append(f"{accepted} batches were accepted, {stored} messages stored")
        if self.slowest_s > _REQUEST_TIMEOUT_S:
            self.problems.append(f"an answer took {self.slowest_s:.1f} s")
        return accepted, refused

    def _flood(self, process: psutil.Process) -> int:
        """Publish until the disk is as fast as before; return the most memory it took."""
        threads = [threading.Thread(target=self._publish, daemon=True) for _ in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        started, peak = time.monotonic(), 0
        while self._syncs() <= _HEALTHY_SYNCS + _SLOW_SYNCS:
            peak = max(peak, process.memory_info().rss)
            if time.monotonic() - started > _RUN_MAX_S:
                self.problems.append("the disk was not used")
                break
            self._halt.wait(_LOOK_EVERY_S)
        self._halt.set()
        for thread in threads:
            thread.join(_REQUEST_TIMEOUT_S)
            if thread.is_alive():
                self.problems.append("a client is stuck")
        return max(peak, process.memory_info().rss)

    def _syncs(self) -> int:
        calls = msgspec.json.decode((self.folder / "calls.json").read_bytes(), type=dict[str, int])
        return calls.get("sync", 0)

    def _publish(self) -> None:
        body = [{"message": "x" * 100}] * _BATCH
        while not self._halt.is_set():
            sent = time.monotonic()
            status = self._ask("POST", _PATH, body)
            took = time.monotonic() - sent
            with self._lock:
                self.statuses[status] += 1
                self.slowest_s = max(self.slowest_s, took)
            if status in _TRY_LATER:
                self._halt.wait(_LOOK_EVERY_S)

    def _ask(self, method: str, path: str, body: object = None) -> int | None:
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=_REQUEST_TIMEOUT_S)
        try:
            connection.request(method, path, msgspec.json.encode(body))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status in _TRY_LATER and not answer.getheader("Retry-After"):
            self.problems.append(f"a {answer.status} without Retry-After")
        return answer.status

    def _heal(self) -> float:
        """Return the seconds until it is ready again."""
        started = time.monotonic()
        while self._ask("GET", "/readyz") != OK:
            if time.monotonic() - started > _HEALED_MAX_S:
                self.problems.append(f"not ready {_HEALED_MAX_S:.0f} s after the disk was")
                break
            self._halt.clear()
            self._halt.wait(_LOOK_EVERY_S)
        return time.monotonic() - started

    def _stored(self) -> int:
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=_REQUEST_TIMEOUT_S)
        connection.request("GET", "/topics/slow/subscribers")
        found = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        return int(found["data"][0]["unpublished_message"])
