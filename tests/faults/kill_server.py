"""T1: the whole server is killed under load, with everything that it has started."""

from __future__ import annotations

from pathlib import Path

from ..crash_campaign import Campaign, Plan
from .campaigns import result_of
from .case import Budget, Result, Say

_CONTROL_CYCLES = 3


class KillServer:
    """What was answered is there when the server is back, and nothing comes twice."""

    id = "T1"
    title = "kill -9 of the server"
    ci = 20
    night = 1000
    tells = "^lost: "

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return result_of(Campaign(Plan(budget.cycles, seed), folder, say))

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that answers before the commit must lose messages."""
        return result_of(Campaign(Plan(_CONTROL_CYCLES, seed, control=True), folder, say))
