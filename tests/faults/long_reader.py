"""T25: another process holds a read transaction, so that the log cannot be emptied."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from blockqueue.storage._space import LOG_BYTES_MAX

from ..crash_checker import OK
from ..crash_server import ServerProcess
from . import hold_reader
from .case import Budget, Figure, Result, Say
from .disk import MIB
from .integrity import check_database
from .one_client import OneClient
from .power_cut import BROKEN

UNAVAILABLE = 503
# The log while nobody is in the way: what the writer lets it grow to, and the last commit.
_USUAL_BYTES_MAX = 8 * MIB
# The log is written over from its start then, and its file is cut to this.
_GONE_BYTES_MAX = 32 * MIB + _USUAL_BYTES_MAX
_BODY_BYTES = 400_000
# Beyond this nothing is published; the last commit may go over it.
_HELD_BYTES_MAX = LOG_BYTES_MAX + _USUAL_BYTES_MAX
_HELD_MIB, _FULL_MIB = 64, 300
_HEALED_MAX_S = 10.0
_END_TIMEOUT_S = 10.0


class LongReader:
    """Nothing stops while it reads; once it has gone the log is as short as before."""

    id = "T25"
    title = "a reader holds the log"
    ci = 1
    night = 5
    tells = "^the log "

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        result = Result()
        for number in range(budget.cycles):
            place = folder / f"{number}"
            place.mkdir()
            _Case(place, seed + number).run(result, _FULL_MIB if budget.full else _HELD_MIB)
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that never empties its log must be noticed."""
        result = Result()
        _Case(folder, seed, "no-checkpoints").run(result)
        return result


class _Case:
    def __init__(self, folder: Path, seed: int, *what: str) -> None:
        program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        self.server = ServerProcess(folder, program=program)
        self.client = OneClient(folder)
        self.random = Random(seed)
        self.refused = 0
        self._number = 0

    def run(self, result: Result, held_mib: int = _HELD_MIB) -> None:
        problems = result.problems
        with self.server:
            self.client.connect(self.server)
            self.client.create_topic()
            self._publish_mib(8, problems)
            usual = self._log_bytes()
            with self._reading():
                self._publish_mib(held_mib, problems)
                held = self._log_bytes()
            self._wait_until_healed()
            self._publish_mib(8, problems)
            gone = self._log_bytes()
            self.client.drain()
            if self.server.stop() != 0:
                problems.append("the server did not end well")
        after = self._log_bytes()
        figures: dict[str, Figure] = {
            "log before, MiB": round(usual / MIB, 1),
            "log while it reads, MiB": round(held / MIB, 1),
            "publishes refused meanwhile": self.refused,
            "log once it has gone, MiB": round(gone / MIB, 1),
            "log after a stop, MiB": round(after / MIB, 1),
        }
        result.figures.update(figures)
        if held < usual:
            problems.append("the reader did not hold the log: this proves nothing")
        if usual > _USUAL_BYTES_MAX:
            problems.append(f"the log had {usual} bytes before anybody was in the way")
        if held > _HELD_BYTES_MAX:
            problems.append(f"the log grew to {held} bytes")
        if gone > _GONE_BYTES_MAX:
            problems.append(f"the log has {gone} bytes though nobody is in the way any more")
        if after:
            problems.append(f"the log still has {after} bytes after a stop")
        self.client.close()
        problems += self.client.problems
        problems += [f"{each.kind}: {each.text}" for each in self.client.verdict().violations]
        problems += check_database(self.server.database)

    def _publish_mib(self, mib: int, problems: list[str]) -> None:
        for _ in range(mib * MIB // _BODY_BYTES):
            self._number += 1
            # Hexadecimal digits are packed to half their size.
            body = f"{self._number} {self.random.randbytes(_BODY_BYTES).hex()}"
            status = self.client.publish(body)
            if status == UNAVAILABLE and self._log_bytes() > LOG_BYTES_MAX:
                self.refused += 1
            elif status != OK:
                problems.append(f"a publish was refused: {status}")

    def _wait_until_healed(self) -> None:
        """The reader has gone: before long the log can be moved, and all is as before."""
        started = time.monotonic()
        while self.client.publish(f"healed {time.monotonic()}") != OK:
            if time.monotonic() - started > _HEALED_MAX_S:
                raise RuntimeError(f"refuses publishes {_HEALED_MAX_S:.0f} s after the reader")

    def _log_bytes(self) -> int:
        log = self.server.database.with_name("queue.db-wal")
        return log.stat().st_size if log.exists() else 0

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold a read transaction in another process."""
        process = subprocess.Popen(
            [sys.executable, hold_reader.__file__, str(self.server.database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"reading\n":
                raise RuntimeError("the reader did not begin")
            yield
        finally:
            process.stdin.close()
            process.wait(_END_TIMEOUT_S)
            process.stdout.close()
