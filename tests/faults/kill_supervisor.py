"""T3: the parent of the workers is killed, alone."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil

from ..crash_campaign import Campaign, Plan
from ..crash_server import ServerProcess
from ..worker_helpers import can_listen, gone
from .campaigns import result_of
from .case import Budget, Result, Say
from .controls import program
from .kill_worker import WORKERS
from .worker_pids import workers_of

_GONE_MAX_S = 2.0
_CONTROL_CYCLES = 1


class SupervisorDeaths(Campaign):
    """Kills the parent and starts another, on the same port and file."""

    def __init__(self, plan: Plan, folder: Path, say: Say, *build: str) -> None:
        what = build or ("-m", "blockqueue")
        super().__init__(plan, folder, say, ServerProcess(folder, program=what, options=WORKERS))
        self.slowest_gone_s = 0.0

    def strike(self) -> None:
        orphans = workers_of(self.server)
        started = time.monotonic()
        self.server.send(signal.SIGKILL)
        self.server.wait(_GONE_MAX_S)
        while not (gone(orphans) and can_listen(self.server.port)):
            if time.monotonic() - started > _GONE_MAX_S:
                left = [each.pid for each in orphans if not gone([each])]
                self._end_orphans(orphans)
                raise RuntimeError(f"{left} lived on after their parent, for {_GONE_MAX_S:.0f} s")
            self.pause.wait(0.01)
        self.slowest_gone_s = max(self.slowest_gone_s, time.monotonic() - started)

    def _end_orphans(self, orphans: list[psutil.Process]) -> None:
        for each in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def recover(self) -> None:
        self.server.kill()
        super().recover()


class KillSupervisor:
    """Its workers die with it, and the port is free in 2 s."""

    id = "T3"
    title = "kill -9 of the workers' parent"
    ci = 5
    night = 200
    tells = "lived on after their parent"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._run(SupervisorDeaths(Plan(budget.cycles, seed), folder, say))

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build whose workers do not look after their parent."""
        plan = Plan(_CONTROL_CYCLES, seed)
        return self._run(SupervisorDeaths(plan, folder, say, *program("orphans")))

    def _run(self, campaign: SupervisorDeaths) -> Result:
        result = result_of(campaign)
        result.figures["slowest all gone, s"] = round(campaign.slowest_gone_s, 2)
        return result
