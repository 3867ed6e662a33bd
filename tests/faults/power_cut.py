"""T4: the power is cut under a loaded server, on ext4."""

from __future__ import annotations

from pathlib import Path

from ..crash_campaign import Campaign, Plan
from ..crash_server import ServerProcess
from . import disk
from .campaigns import result_of
from .case import Budget, Result, Say

BROKEN = Path(__file__).with_name("broken.py")

# A cycle is to be short: there are to be many.
_CUT_AFTER_S = (0.05, 0.8)
_CONTROL_CYCLES = 4
_PUBLISHERS = 4
_CONSUMERS = 4


class PowerCuts(Campaign):
    """Cuts the power, waits for nobody, and starts anew from what is on the disk."""

    strike_after_s = _CUT_AFTER_S

    def __init__(self, plan: Plan, folder: Path, say: Say, on: disk.Ext4, *what: str) -> None:
        program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        server = ServerProcess(folder, program=program, database=on.path / "queue.db")
        super().__init__(plan, folder, say, server)
        self.disk = on

    def prepare(self) -> None:
        """Begin with the topic on the disk, even if the server's commits are not."""
        super().prepare()
        self.server.stop()
        self.start()

    def strike(self) -> None:
        # Without power nobody computes either: a server that ran on while ext4 is shut down
        # could be told that a sync was done, and answer, which no machine would have done.
        # What it has asked the kernel for goes on.
        self.server.strike_down()
        self.disk.cut()
        self.server.kill()
        self.gate.serving.clear()
        self.disk.unmount()
        self.disk.mount()


class PowerCut:
    """The server answers, the power fails: what was answered must be there."""

    id = "T4"
    title = "power cut, ext4"
    ci = 15
    night = 1000
    tells = "^lost: "

    def missing(self) -> str | None:
        return disk.missing()

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        plan = Plan(budget.cycles, seed, _PUBLISHERS, _CONSUMERS)
        with disk.Ext4(folder) as on:
            return result_of(PowerCuts(plan, folder, say, on))

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """Commits that are not synced must be lost."""
        plan = Plan(_CONTROL_CYCLES, seed, _PUBLISHERS, _CONSUMERS)
        with disk.Ext4(folder) as on:
            return result_of(PowerCuts(plan, folder, say, on, "synchronous=NORMAL"))
