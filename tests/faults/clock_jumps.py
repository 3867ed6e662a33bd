"""T12: somebody sets the clock on the wall, by an hour, a day, or past 2038."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..crash_campaign import Campaign, Plan
from ..crash_clients import Answer, Client, Http, Unsent, Wrong
from ..crash_server import ServerProcess
from .campaigns import result_of
from .case import Budget, Result, Say, telling
from .controls import program

# Where Debian's libfaketime is, by the machine's kind.
_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
JUMPS_S = (3_600, -3_600, 86_400, -86_400, 400_000_000, 0)
# Forwards, a broken build is quick to show what it does.
_CONTROL_JUMPS_S = (3_600, 86_400)
_CONTROL_CYCLES = 3
# On a busy machine few leases are live at the moment of a jump.
_CONTROL_ATTEMPTS = 4
_RESTARTS = 0.3

_DELAYED = "delayed"
DELAY_S = 1.0
# How much later than due a message may come on a busy machine.
_LATE_S = 2.5
_SLACK_S = 0.05


class WallClock:
    """The wall clock of the processes that run in its environment."""

    def __init__(self, library: Path, setting: Path) -> None:
        self._library = library
        self._setting = setting
        self.set(0)

    @classmethod
    def at(cls, setting: Path) -> WallClock | None:
        """Return one whose setting is kept there; None if libfaketime is missing."""
        library = next(Path("/").glob(_LIBRARIES[1:]), None)
        return None if library is None else cls(library, setting)

    @staticmethod
    def missing() -> str | None:
        found = any(Path("/").glob(_LIBRARIES[1:]))
        return None if found else "libfaketime is missing"

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._setting),
            # The setting is read that often: at each look at the clock it is too slow.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, jump_s: int) -> None:
        """Set the clock so far off, in one step: nobody reads half a line."""
        draft = self._setting.with_suffix(".new")
        draft.write_text(f"{jump_s:+d}\n")
        draft.replace(self._setting)


class _Delivery(msgspec.Struct):
    id: str
    message: str
    receipt_token: str


class _Claimed(msgspec.Struct):
    data: list[_Delivery]


class DelayProbe(Client):
    """Publishes with a delay, and sees that the message comes then: not sooner, not later."""

    probes = 0
    _number = 0

    def step(self) -> None:
        http, topic = self._http, f"/v1/topics/{_DELAYED}"
        subscriber = f"{topic}/subscribers/probe"
        self._number += 1
        body = {"message": f"{self._number}", "delay": f"{DELAY_S}s"}
        try:
            sent = http.ask("POST", f"{topic}/messages", body)
            found, came = self._take(subscriber)
            while came and str(self._number) not in came:  # left from before a restart
                found, came = self._take(subscriber)
        except Unsent:
            return
        if sent.status == 202 and found.status == 200:
            self._judge(sent, found, came)

    def _take(self, subscriber: str) -> tuple[Answer, list[str]]:
        """Claim and acknowledge what there is, waiting for it; return what it was."""
        http = self._http
        found = http.ask("POST", f"{subscriber}/claim?timeout=10s&limit=10&lease=1m")
        claimed: list[_Delivery] = []
        if found.status == 200:
            claimed = msgspec.json.decode(found.body, type=_Claimed).data
        for each in claimed:
            receipt = {"receipt_token": each.receipt_token}
            http.ask("POST", f"{subscriber}/messages/{each.id}/ack", receipt)
        return found, [each.message for each in claimed]

    def _judge(self, sent: Answer, found: Answer, came: Sequence[str]) -> None:
        took_s = found.answered - sent.sent
        if not came or took_s > DELAY_S + _LATE_S:
            raise Wrong(f"{took_s:.2f} s after a publish with a delay there was {came}")
        if took_s < DELAY_S - _SLACK_S:
            raise Wrong(f"it came {took_s:.2f} s after its publish")
        self.probes += 1


class ClockJumps(Campaign):
    """Sets the server's clock; clients keep the right time."""

    strike_after_s = (1.2, 3.0)

    def __init__(self, plan: Plan, folder: Path, say: Say, name: str | None = None) -> None:
        clock = WallClock.at(folder / "clock")
        assert clock is not None
        self._clock = clock
        build = program(name) if name else ("-m", "blockqueue")
        server = ServerProcess(folder, program=build, environment=clock.environment())
        super().__init__(plan, folder, say, server)
        self._jumps_s = _CONTROL_JUMPS_S if name else JUMPS_S
        self.restarts = 0
        self.probes = 0

    def prepare(self) -> None:
        super().prepare()
        http = Http(self.server.port)
        topic = {"name": _DELAYED, "subscribers": [{"name": "probe"}]}
        answer = http.ask("POST", "/topics", topic)
        http.close()
        if answer.status != 200:
            raise RuntimeError(f"the delayed topic was not created: {answer}")

    def _cycles(self) -> None:
        with self._clients(DelayProbe, 1, "probe") as clients:
            super()._cycles()
        self.probes = sum(each.probes for each in clients if isinstance(each, DelayProbe))

    def strike(self) -> None:
        """Set the clock; sometimes the server dies just then and starts in another time."""
        dies = self.random.random() < _RESTARTS
        if dies:
            self.server.kill()
            self.restarts += 1
        self._clock.set(self.random.choice(self._jumps_s))

    def recover(self) -> None:
        if self.server.has_ended():
            super().recover()
        self.gate.serving.set()


class SetClock:
    """Leases neither end all at once nor last for ever; nothing comes before its delay."""

    id = "T12"
    title = "the wall clock is set"
    ci = 4
    night = 40
    tells = "^(two leases|unexplained duplicate|refused ack): |a publish with a delay|its publish$"

    def missing(self) -> str | None:
        return WallClock.missing()

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        campaign = ClockJumps(Plan(budget.cycles, seed), folder, say)
        result = self._run(campaign)
        if campaign.probes < budget.cycles // 4:
            result.problems.append(f"only {campaign.probes} delays were looked at")
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build whose leases follow the wall clock."""
        result = Result()
        for number in range(_CONTROL_ATTEMPTS):
            if not telling(self.tells, result.problems):
                place = folder / f"{number}"
                place.mkdir()
                plan = Plan(_CONTROL_CYCLES, seed + number)
                result = self._run(ClockJumps(plan, place, say, "wall-clock"))
        return result

    def _run(self, campaign: ClockJumps) -> Result:
        result = result_of(campaign)
        result.figures["restarts"] = campaign.restarts
        result.figures["delays kept"] = campaign.probes
        return result
