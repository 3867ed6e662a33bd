"""T2: one of two workers is killed, or stopped for longer than its leases last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from ..crash_campaign import Campaign, Plan
from ..crash_checker import Acked
from ..crash_server import ServerProcess
from . import zombies
from .calls import Calls
from .campaigns import result_of
from .case import Budget, Result, Say
from .controls import program
from .v1_clients import LEASE_S, KeyedPublisher, ReceiptConsumer
from .worker_pids import Line, line_to, workers_of
from .zombies import Zombie

WORKERS = ("--workers", "2")
_PROBE = "probe"
_PROBE_PATH = f"/topics/{_PROBE}/messages"
_BACK_MAX_S = 2.0
# The supervisor kills a worker that stands still inside a transaction.
_ANSWER_MAX_S = 6.0
_STOPS = 0.2
_CONTROL_CYCLES = 4


class WorkerFaults(Campaign):
    """Strikes one worker; those who talk to the other one must not notice."""

    strike_after_s = (0.2, 1.0)
    publisher = KeyedPublisher
    consumer = ReceiptConsumer

    def __init__(self, plan: Plan, folder: Path, say: Say, *build: str) -> None:
        what = build or ("-m", "blockqueue")
        super().__init__(plan, folder, say, ServerProcess(folder, program=what, options=WORKERS))
        self.slowest_back_s = 0.0
        self.slowest_answer_s = 0.0
        self.stops = 0
        self.stopped_writing = 0
        self.answers = 0

    def prepare(self) -> None:
        super().prepare()
        calls = Calls(self.server.port)
        calls.create(_PROBE, "nobody")
        zombies.prepare(calls)
        calls.close()

    def strike(self) -> None:
        pids = {each.pid for each in workers_of(self.server)}
        victim = self.random.choice(workers_of(self.server))
        with self._line(pids - {victim.pid}) as survivor, self._line({victim.pid}) as theirs:
            self._strike(victim, pids, survivor, theirs)

    @contextlib.contextmanager
    def _line(self, pids: set[int]) -> Iterator[Line]:
        found = line_to(self.server, pids, among=True)
        if found is None:
            raise RuntimeError("one of the workers takes no calls")
        with contextlib.closing(found):
            yield found

    def _strike(self, victim: psutil.Process, pids: set[int], survivor: Line, theirs: Line) -> None:
        zombie = Zombie(theirs, survivor)
        zombie.rise()
        self._judge_zombie(zombie)
        if self.random.random() < _STOPS:
            self.stops += 1
            zombie = Zombie(theirs, survivor)
            victim.suspend()
            zombie.rise()
            # Inside a transaction it stops all writing, until the supervisor kills it.
            self._talk(survivor, LEASE_S + 1.0, (200, 503))
            try:
                victim.resume()
            except psutil.NoSuchProcess:
                self.stopped_writing += 1
                self._see_back(survivor, pids)
            self._judge_zombie(zombie)
        else:
            victim.kill()
            self._see_back(survivor, pids)

    def _judge_zombie(self, zombie: Zombie) -> None:
        wrong = zombie.judge()
        if wrong is not None:
            self.report.troubles.append(wrong)

    def recover(self) -> None:
        self.gate.serving.set()

    def _talk(self, survivor: Line, seconds: float, allowed: tuple[int, ...] = (200,)) -> None:
        """Publish for a while; each must be answered well, and in time."""
        until = time.monotonic() + seconds
        while (started := time.monotonic()) < until:
            status = survivor.ask(_PROBE_PATH, {"message": "hi"})[0]
            took_s = time.monotonic() - started
            self.answers += 1
            self.slowest_answer_s = max(self.slowest_answer_s, took_s)
            if status not in allowed or took_s > _ANSWER_MAX_S:
                text = f"the other worker answered {status} after {took_s:.1f} s"
                self.report.troubles.append(text)
                return
            self.pause.wait(0.01)

    def _see_back(self, survivor: Line, pids: set[int]) -> None:
        """Wait until a new worker has answered somebody."""
        started = time.monotonic()
        self._talk(survivor, 0.1)
        fresh = line_to(self.server, pids, among=False)
        back_s = time.monotonic() - started
        if fresh is None:
            raise RuntimeError("a killed worker has not come back")
        fresh.close()
        self._talk(survivor, 0.1)
        self.slowest_back_s = max(self.slowest_back_s, back_s)
        if back_s > _BACK_MAX_S:
            self.report.troubles.append(f"a killed worker was back after {back_s:.1f} s")


class KillWorker:
    """The others serve without an error, it is back in 2 s, and old receipts are refused."""

    id = "T2"
    title = "kill -9 or SIGSTOP of one of two workers"
    ci = 6
    night = 1000
    tells = "receipt was good after its lease|receipt of a lease that has ended"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._run(WorkerFaults(Plan(budget.cycles, seed), folder, say))

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build in which an ack needs no receipt."""
        plan = Plan(_CONTROL_CYCLES, seed)
        return self._run(WorkerFaults(plan, folder, say, *program("no-receipts")))

    def _run(self, campaign: WorkerFaults) -> Result:
        result = result_of(campaign)
        refused = [
            each
            for each in campaign.journal.records()
            if isinstance(each, Acked) and each.status == 409
        ]
        result.figures |= {
            "stops": campaign.stops,
            "of these in a transaction": campaign.stopped_writing,
            "late acks refused": len(refused),
            "answers of the other worker": campaign.answers,
            "slowest of them, s": round(campaign.slowest_answer_s, 2),
            "slowest back, s": round(campaign.slowest_back_s, 2),
        }
        return result
