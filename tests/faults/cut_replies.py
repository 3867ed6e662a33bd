"""T24: answers are lost on their way. Was it stored? Is it done? Ask again and it is."""

from __future__ import annotations

from pathlib import Path

from ..crash_campaign import Campaign, Plan
from ..crash_server import ServerProcess
from .campaigns import result_of
from .case import Budget, Result, Say
from .controls import program
from .proxy import CuttingProxy
from .v1_clients import KeyedPublisher, ReceiptConsumer

_CHANCE = 0.05
_CONTROL_CYCLES = 3


class CutReplies(Campaign):
    """The server lives on; what clients hear of it does not."""

    strike_after_s = (0.05, 0.4)
    publisher = KeyedPublisher
    consumer = ReceiptConsumer

    def __init__(self, plan: Plan, folder: Path, say: Say, server: ServerProcess) -> None:
        super().__init__(plan, folder, say, server)
        self.proxy = CuttingProxy(server.port, plan.seed, _CHANCE)

    def client_port(self) -> int:
        return self.proxy.port

    def strike(self) -> None:
        """Let a few more answers be cut."""
        seen = self.proxy.cuts
        self.proxy.cutting.set()
        for _ in range(1000):
            if self.proxy.cuts > seen:
                break
            self.pause.wait(0.01)
        else:
            raise RuntimeError("nothing was there to cut for 10 s")

    def recover(self) -> None:
        self.proxy.cutting.clear()
        self.gate.serving.set()


class CutReply:
    """A retry with the same key stores nothing twice; a retried ack is fine."""

    id = "T24"
    title = "answers cut on their way"
    ci = 10
    night = 1000
    tells = "led to several messages|^copied: "

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._run(Plan(budget.cycles, seed), ServerProcess(folder), folder, say)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that throws keys away stores some messages twice."""
        server = ServerProcess(folder, program=program("no-keys"))
        return self._run(Plan(_CONTROL_CYCLES, seed), server, folder, say)

    def _run(self, plan: Plan, server: ServerProcess, folder: Path, say: Say) -> Result:
        campaign = CutReplies(plan, folder, say, server)
        try:
            result = result_of(campaign)
        finally:
            campaign.proxy.close()
        result.figures["answers cut"] = campaign.proxy.cuts
        return result
