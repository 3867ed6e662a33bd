"""T5: the power is cut under a disk with a cache of its own, which keeps any torn part of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

from ..crash_campaign import Plan
from . import disk, volatile_file
from .campaigns import result_of
from .case import Budget, Result, Say
from .power_cut import PowerCuts

# Room for what 200 cycles publish: it is kept, as the first contract keeps all for a week.
_MIB = 256
_START_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 10.0
_CONTROL_CYCLES = 4
_CLIENTS = 4


class _Served:
    """The file of a disk, served by another process."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / "served"
        self.path.mkdir()
        backing = folder / "backing.img"
        with backing.open("wb") as file:
            file.truncate(_MIB * disk.MIB)
        command = [sys.executable, volatile_file.__file__, str(self.path), str(backing), str(seed)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        pause = threading.Event()
        started = time.monotonic()
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() - started > _START_TIMEOUT_S:
                self.__exit__()
                raise RuntimeError("FUSE did not begin to serve")
            pause.wait(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        if os.path.ismount(self.path):
            disk.run(["fusermount3", "-u", self.path])
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def image(self) -> Path:
        return self.path / volatile_file.NAME

    def tell(self, command: str) -> int:
        """Send a command; return the number it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class _VolatileCuts(PowerCuts):
    """Cuts the power of the disk itself; ext4 and the server only see that all fails."""

    def __init__(
        self, plan: Plan, folder: Path, say: Say, on: disk.Ext4, served: _Served, *what: str
    ) -> None:
        super().__init__(plan, folder, say, on, *what)
        self._served = served
        self.unsynced = 0
        self.kept = 0

    def strike(self) -> None:
        self.unsynced += self._served.tell("cut")
        self.server.kill()
        self.gate.serving.clear()
        self.disk.unmount()
        self.kept += self._served.tell("on")
        self.disk.mount()


class VolatileDisk:
    """What was synced is there, whatever part of the rest is."""

    id = "T5"
    title = "power cut, disk with a cache, torn sectors"
    ci = 6
    night = 200
    tells = r"^lost: |would drop \d+ or more commits that were answered"

    def missing(self) -> str | None:
        if importlib.util.find_spec("mfusepy") is None:
            return "mfusepy is missing"
        if not os.path.exists("/dev/fuse"):
            return "there is no FUSE"
        return disk.missing("fusermount3")

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return self._cycles(budget.cycles, folder, seed, say)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """Commits that are not synced must be lost."""
        return self._cycles(_CONTROL_CYCLES, folder, seed, say, "synchronous=NORMAL")

    def _cycles(self, cycles: int, folder: Path, seed: int, say: Say, *what: str) -> Result:
        plan = Plan(cycles, seed, _CLIENTS, _CLIENTS)
        with _Served(folder, seed) as served, disk.Ext4(folder, image=served.image) as on:
            cuts = _VolatileCuts(plan, folder, say, on, served, *what)
            result = result_of(cuts)
            result.figures["sectors not synced"] = cuts.unsynced
            result.figures["of these kept"] = cuts.kept
            return result
