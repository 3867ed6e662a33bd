"""T27: trouble at random, for long, with an eye on what the server holds.

The clock is not set here: under libfaketime Python's sleep, which the workers' parent needs,
fails at random.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

import psutil

from ..crash_campaign import Campaign, Plan
from ..crash_server import ServerProcess
from .campaigns import result_of
from .case import Budget, Figure, Result, Say
from .controls import program
from .kill_worker import WORKERS
from .proxy import CuttingProxy
from .v1_clients import KeyedPublisher, ReceiptConsumer
from .worker_pids import workers_of

# A strike with its wait and recovery takes about that long.
_CYCLE_S = 1.8
_CONTROL_CYCLES = 20
_CHANCE = 0.05
_MIB = 1024 * 1024
# Once it is warm, it may grow by that: the greater of the two.
_GROWTH = 0.10
_GROWTH_BYTES = 8 * _MIB
_SETTLE_S = 10.0


class _Sample(NamedTuple):
    at: float
    rss: int
    fds: int
    threads: int


class Soak(Campaign):
    """Two workers behind a proxy. ``deadly``: they are also killed, one or all, and restarted."""

    strike_after_s = (0.5, 2.0)
    publisher = KeyedPublisher
    consumer = ReceiptConsumer

    def __init__(self, plan: Plan, folder: Path, say: Say, *build: str, deadly: bool) -> None:
        what = build or ("-m", "blockqueue")
        super().__init__(plan, folder, say, ServerProcess(folder, program=what, options=WORKERS))
        self.proxy = CuttingProxy(self.server.port, plan.seed, _CHANCE)
        self.samples: list[_Sample] = []
        self._deadly = deadly

    def client_port(self) -> int:
        return self.proxy.port

    def strike(self) -> None:
        ways = ["cut"]
        if self._deadly:
            ways += ["worker", "worker", "restart", "server"]
        match self.random.choice(ways):
            case "worker":
                self.random.choice(workers_of(self.server)).kill()
            case "restart":
                self.server.send(signal.SIGHUP)
            case "server":
                self.server.kill()
            case _:
                self.proxy.cutting.set()
                self.pause.wait(0.3)
                self.proxy.cutting.clear()

    def recover(self) -> None:
        if self.server.has_ended():
            super().recover()
        self.gate.serving.set()

    def on_quiet(self) -> None:
        """Note what the processes hold."""
        if not self._deadly:
            self.samples.append(self._sample())

    def _sample(self) -> _Sample:
        """Look when the connections that were cut have been let go of."""
        best: _Sample | None = None
        until = time.monotonic() + (_SETTLE_S if self.samples else 1.0)
        while time.monotonic() < until:
            found = self._look()
            if best is None or found.fds < best.fds:
                best = found
            if self.samples and best.fds <= self.samples[0].fds:
                break
            self.pause.wait(0.1)
        assert best is not None
        return best

    def _look(self) -> _Sample:
        processes = [psutil.Process(self.server.pid), *workers_of(self.server)]
        return _Sample(
            time.monotonic(),
            sum(each.memory_info().rss for each in processes),
            sum(each.num_fds() for each in processes),
            sum(each.num_threads() for each in processes),
        )


class Soaking:
    """Nothing is lost, and memory, descriptors and threads stay where they were."""

    id = "T27"
    title = "soak: kills, restarts, cuts (cycles: minutes)"
    ci = 1
    night = 30
    tells = "memory has grown"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        cycles = max(10, round(budget.cycles * 60 / 2 / _CYCLE_S))
        results = [_soak(cycles, folder, seed, say, deadly=deadly) for deadly in (False, True)]
        figures = {
            f"{name}, {when}": figure
            for when, result in zip(("calm", "deadly"), results, strict=True)
            for name, figure in result.figures.items()
        }
        return Result(figures, [text for result in results for text in result.problems])

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that keeps a little of every answer."""
        return _soak(_CONTROL_CYCLES, folder, seed, say, *program("leak"), deadly=False)


def _soak(cycles: int, folder: Path, seed: int, say: Say, *build: str, deadly: bool) -> Result:
    where = folder / ("deadly" if deadly else "calm")
    where.mkdir()
    campaign = Soak(Plan(cycles, seed), where, say, *build, deadly=deadly)
    try:
        result = result_of(campaign)
    finally:
        campaign.proxy.close()
    result.figures["answers cut"] = campaign.proxy.cuts
    if not deadly and not result.problems:
        figures, problems = _judge_growth(campaign.samples)
        result.figures |= figures
        result.problems += problems
    return result


def _judge_growth(samples: list[_Sample]) -> tuple[dict[str, Figure], list[str]]:
    """Compare the last samples with the ones after the first third, when all is warm."""
    warm = samples[len(samples) // 3 :]
    first, last = warm[0], warm[-1]
    problems: list[str] = []
    grown = last.rss - first.rss
    if grown > max(_GROWTH * first.rss, _GROWTH_BYTES):
        problems.append(f"the memory has grown by {grown / _MIB:.1f} MiB")
    if last.fds > first.fds:
        problems.append(f"{last.fds} descriptors, after {first.fds}")
    if last.threads > first.threads:
        problems.append(f"{last.threads} threads, after {first.threads}")
    figures: dict[str, Figure] = {
        "memory, MiB": round(last.rss / _MIB, 1),
        "memory grown by, MiB": round(grown / _MIB, 1),
        "over, s": round(last.at - first.at),
        "descriptors": last.fds,
        "threads": last.threads,
    }
    if len(warm) > 2:  # through two points there is no line that says anything
        slope = linear_regression([each.at for each in warm], [each.rss for each in warm]).slope
        figures["memory's slope, MiB/h"] = round(slope * 3600 / _MIB, 2)
    return figures, problems
