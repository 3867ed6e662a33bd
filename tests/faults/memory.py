"""T23: memory runs out, while large messages are published."""

from __future__ import annotations

import resource
from pathlib import Path

from ..crash_campaign import Campaign, Plan
from ..crash_clients import Publisher
from ..crash_server import ServerProcess
from .campaigns import result_of
from .case import Budget, Result, Say, telling
from .disk import MIB
from .power_cut import BROKEN

_MORE_MIB = (0, 16)
_CONTROL_CYCLES = 6
_CONTROL_ATTEMPTS = 8
_CLIENTS = 6


class _LargePublisher(Publisher):
    sizes = (40, 2_000, 200_000, 900_000)


class _Starving(Campaign):
    """Leaves the server a little more memory than it has, and starts it anew after a while."""

    publisher = _LargePublisher
    strike_after_s = (0.3, 1.5)

    def __init__(self, plan: Plan, folder: Path, say: Say, *what: str) -> None:
        program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        super().__init__(plan, folder, say, ServerProcess(folder, program=program))
        #: How many servers had ended by themselves, or had at least refused something.
        self.ended = 0

    def cycle(self) -> None:
        pid = self.server.pid
        assert pid is not None
        more = self.random.randrange(_MORE_MIB[0] * MIB, _MORE_MIB[1] * MIB)
        allowed = _data_bytes(pid) + more
        resource.prlimit(pid, resource.RLIMIT_DATA, (allowed, allowed))
        self.pause.wait(self.random.uniform(*self.strike_after_s))
        self.ended += self.server.has_ended()
        self.strike()
        self.gate.serving.clear()
        self.report.kills += 1
        self.start()


class OutOfMemory:
    """It refuses, or it ends; it never says that something is stored which is not."""

    id = "T23"
    title = "out of memory"
    ci = 5
    night = 100
    tells = "^lost: "

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _starve(budget.cycles, folder, seed, say)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that takes what it has no memory for to be damaged must lose something."""
        what = ("answers-anyway", "memory-is-damage")
        result = Result()
        for number in range(_CONTROL_ATTEMPTS):  # where memory ends is a matter of chance
            if not telling(self.tells, result.problems):
                place = folder / f"{number}"
                place.mkdir()
                result = _starve(_CONTROL_CYCLES, place, seed + number, say, *what)
        return result


def _data_bytes(pid: int) -> int:
    """Return how much memory a process has that it can write to."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) * 1024


def _starve(cycles: int, folder: Path, seed: int, say: Say, *what: str) -> Result:
    starving = _Starving(Plan(cycles, seed, _CLIENTS, _CLIENTS), folder, say, *what)
    result = result_of(starving)
    log = (folder / "server.log").read_text(errors="replace")
    result.figures["servers that ended"] = starving.ended
    result.figures["MemoryError in the log"] = log.count("\nMemoryError")
    return result
