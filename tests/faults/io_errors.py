"""T7: the disk fails at the n-th call, for each n, until a run meets no failure."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import msgspec

from ..crash_checker import OK, Kind
from ..crash_clients import SUBSCRIBERS
from ..crash_server import ServerProcess
from .case import Budget, Result, Say
from .integrity import check_database
from .one_client import OneClient
from .power_cut import BROKEN
from .vfs import CALLS, Trouble

READY_MAX_S = 5.0
# How soon a server ends that has met a failure after which it must not go on.
_END_S = 15.0
_PUBLISHES = 12
# At the n-th, for n beyond this, something is wrong with the counting.
_CALLS_MAX = 5_000
# Calls that failed with EIO and after which nobody may trust what the disk holds.
_FATAL = ("write", "sync", "truncate")
_ERRORS = {"write": ("EIO", "ENOSPC"), "truncate": ("EIO",), "sync": ("EIO",)}


class Case:
    """One run of one client against a server whose disk fails once, then a healthy one."""

    def __init__(self, folder: Path, trouble: Trouble | None, what: str | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        self.trouble = trouble
        self.client = OneClient(folder)
        self.problems: list[str] = []
        self.exit_code: int | None = None
        self.fired = False
        self.made: Counter[str] = Counter()
        self.lost = 0
        #: How many writes there had been, before each publish.
        self.writes_before: list[int] = []
        says = msgspec.json.encode(trouble).decode()
        program = [str(BROKEN), *([what] if what else []), says, str(folder)]
        self.bad = ServerProcess(folder, program=program)
        self.good = ServerProcess(folder)

    def calls(self) -> Counter[str]:
        """Return how often each kind of call was made."""
        return Counter(msgspec.json.decode((self.folder / "calls.json").read_bytes()))

    def run(self) -> None:
        """Run it; ``problems`` says what must not be."""
        try:
            certain = self._fail()
            self._heal(certain)
        except RuntimeError as error:
            self.problems.append(str(error))
        finally:
            self.bad.kill()
            self.good.kill()
            self.client.close()
        self.problems += self.client.problems

    def _fail(self) -> bool:
        """Work until the failure and after it; return whether there is certainly a topic."""
        client, server = self.client, self.bad
        certain = False
        try:
            server.start()
        except RuntimeError:
            if not server.has_ended():
                raise
        else:
            client.connect(server)
            certain = client.create_topic()
            for number in range(_PUBLISHES):
                self.writes_before.append(self.calls()["write"])
                client.publish(f"{number} " + "x" * (40 if number % 4 else 20_000))
                if number % 3 == 2:
                    client.consume()
        self.made = self.calls()
        self.fired = (self.folder / "fired").exists()
        ends = self.trouble is not None and self.fired and self._must_end(self.trouble)
        self.exit_code = server.wait(_END_S) if ends else server.stop()
        self._judge_end(server.last_words(), ends)
        return certain

    @staticmethod
    def _must_end(trouble: Trouble) -> bool:
        return trouble.error == "EIO" and trouble.call in _FATAL

    def _judge_end(self, log: str, ends: bool) -> None:
        if ends and self.exit_code in (0, None):
            self.problems.append(f"it went on after {self.trouble}: {self.exit_code}")
        if self.exit_code is not None and self.exit_code < 0:
            self.problems.append(f"a signal ended it: {self.exit_code}")
        if self.trouble is None and self.exit_code != 0:
            self.problems.append(f"ended with {self.exit_code} without a failure")
        last = log.rpartition("\n")[2]
        if self.exit_code and not last.startswith("Error: "):
            self.problems.append(f"it did not say why it ended: {log[-500:]}")

    def _heal(self, certain: bool) -> None:
        """Start a healthy server on what there is, and drain it."""
        ready_s = self.good.start()
        if ready_s > READY_MAX_S:
            self.problems.append(f"ready only after {ready_s:.1f} s")
        self.client.connect(self.good)
        if not certain:
            self.client.create_topic()
        if self.client.publish("after") != OK:
            self.problems.append("a healthy server refused a publish")
        self.client.drain()
        if self.good.stop() != 0:
            self.problems.append("a healthy server did not end well")
        verdict = self.client.verdict(SUBSCRIBERS)
        self.lost = verdict.count(Kind.LOST)
        self.problems += [f"{each.kind}: {each.text}" for each in verdict.violations]
        self.problems += check_database(self.good.database)


def every_trouble(calls: Counter[str]) -> list[Trouble]:
    """Return every failure that a run with so many calls can meet."""
    return [
        Trouble(call, error, at)
        for call in CALLS
        for error, at in product(_ERRORS.get(call, ("EIO",)), range(1, calls[call] + 1))
    ]


class IoErrors:
    """EIO and ENOSPC at the n-th open, read, write, sync, truncate and size."""

    id = "T7"
    title = "EIO and ENOSPC at the n-th call"
    ci = 20
    night = _CALLS_MAX
    tells = "^lost: "

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        plain = self._case(folder / "plain", None)
        troubles = every_trouble(plain.made)
        total = len(troubles)
        if not budget.full and budget.cycles < total:
            troubles = random.Random(seed).sample(troubles, budget.cycles)
        result = Result({"calls that can fail": total}, list(plain.problems))
        met: Counter[str] = Counter()
        for number, trouble in enumerate(troubles, 1):
            case = self._case(folder / f"{number}", trouble)
            met["cases"] += 1
            met["ended"] += case.fired and case.exit_code != 0
            met["went on"] += case.fired and case.exit_code == 0
            met["never met"] += not case.fired
            place = f"{trouble.error} at {trouble.call} {trouble.at}"
            result.problems += [f"{place}: {text}" for text in case.problems]
            if number % 50 == 0:
                say(f"{number} of {len(troubles)} cases, {len(result.problems)} problems")
        result.figures.update(met)
        return result

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A server that says 200 whatever the disk said must lose something."""
        plain = self._case(folder / "plain", None)
        result = Result({}, [])
        for before in plain.writes_before[1::3]:
            trouble = Trouble("write", "EIO", before + 1)
            case = self._case(folder / f"{before}", trouble, "answers-anyway")
            result.problems += case.problems if case.lost else []
        return result

    @staticmethod
    def _case(folder: Path, trouble: Trouble | None, what: str | None = None) -> Case:
        case = Case(folder, trouble, what)
        case.run()
        if not case.problems:
            shutil.rmtree(folder)
        return case
