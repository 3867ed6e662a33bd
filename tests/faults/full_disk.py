"""T9: the disk is full. Nothing is lost, acknowledgements go on, and it heals by itself."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from random import Random

from ..crash_checker import OK
from ..crash_clients import SUBSCRIBERS
from ..crash_server import ServerProcess
from . import disk
from .case import Budget, Result, Say
from .integrity import check_database
from .one_client import OneClient
from .power_cut import BROKEN

_MIB = 32
_FULL = 507
_PUBLISHES_BEFORE = 20
_PUBLISHES_MAX = 20_000
_CONTROL_CYCLES = 3
# What others leave to the queue: nothing, or up to this.
_LEFT_MAX = 2 * disk.MIB
_HEALED_MAX_S = 10.0


class FullDisk:
    """Publishes are refused, acks are not; once there is room all works without a restart."""

    id = "T9"
    title = "disk full"
    ci = 2
    night = 20
    tells = "acks were refused$|got nothing while the disk was full$"

    def missing(self) -> str | None:
        return disk.missing()

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._cycles(budget.cycles, folder, seed, say)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """Without a floor and a ballast, nothing can be read, or acks are refused."""
        return self._cycles(_CONTROL_CYCLES, folder, seed, say, "no-ballast")

    def _cycles(self, cycles: int, folder: Path, seed: int, say: Say, *what: str) -> Result:
        figures: Counter[str] = Counter()
        problems: list[str] = []
        for number in range(cycles):
            place = folder / f"{number}"
            place.mkdir()
            with disk.Ext4(place, _MIB) as on:
                case = _Case(place, on, Random(seed + number), *what)
                case.run()
            figures.update(case.figures)
            problems += case.problems
            say(f"{number + 1} of {cycles} cycles, {len(problems)} problems")
        return Result(dict(figures), problems)


class _Case:
    def __init__(self, folder: Path, on: disk.Ext4, random: Random, *what: str) -> None:
        program = (str(BROKEN), *what) if what else ("-m", "blockqueue")
        self.disk = on
        self.random = random
        self.server = ServerProcess(folder, program=program, database=on.path / "queue.db")
        self.client = OneClient(folder)
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self._published = 0

    def run(self) -> None:
        try:
            self.server.start()
            self.client.connect(self.server)
            if not self.client.create_topic():
                raise RuntimeError("the topic was not created")
            self._fill()
            self._acknowledge()
            self._heal()
        except RuntimeError as error:
            self.problems.append(str(error))
        finally:
            self.server.kill()
            self.client.close()
        self.problems += self.client.problems
        self.problems += [f"{each.kind}: {each.text}" for each in self.client.verdict().violations]
        self.problems += check_database(self.server.database)

    def _publish(self) -> int | None:
        self._published += 1
        body = f"{self._published} {self.random.randbytes(2_000).hex()}"
        return self.client.publish(body)

    def _fill(self) -> None:
        """Publish until there is no room."""
        for _ in range(_PUBLISHES_BEFORE):
            self._publish()
        leave = self.random.choice((0, self.random.randrange(_LEFT_MAX)))
        self._filler = self.disk.fill(leave)
        for _ in range(_PUBLISHES_MAX):
            if self._publish() == _FULL:
                return
        raise RuntimeError(f"not full after {_PUBLISHES_MAX} publishes")

    def _acknowledge(self) -> None:
        """With no room, read and acknowledge; publishes are refused meanwhile."""
        for subscriber in SUBSCRIBERS:
            ids = self.client.read(subscriber)
            self.figures["read while full"] += len(ids)
            if not ids:
                self.problems.append(f"{subscriber} got nothing while the disk was full")
            for each in ids:
                done = self.client.ack(subscriber, each) == OK
                self.figures["acknowledged while full"] += done
                self.figures["acks refused while full"] += not done
        if self.figures["acks refused while full"]:
            self.problems.append(f"{self.figures['acks refused while full']} acks were refused")
        self.figures["publishes refused"] += self._publish() == _FULL

    def _heal(self) -> None:
        """Make room, and go on with the same server."""
        self._filler.unlink()
        started = time.monotonic()
        while self._publish() != OK:
            if self.server.has_ended():
                raise RuntimeError(f"the server ended: {self.server.last_words()[-300:]}")
            if time.monotonic() - started > _HEALED_MAX_S:
                raise RuntimeError(f"still refuses {_HEALED_MAX_S:.0f} s after there is room")
        self.client.drain()
        if self.server.stop() != 0:
            self.problems.append("the server did not end well")
