"""A fault of the matrix: what it does, what it needs, what it found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

Figure = str | int | float
#: Tells whoever watches how far it is.
Say = Callable[[str], None]


class Budget(msgspec.Struct, frozen=True):
    """How much to do: so many cycles or cases. ``full``: the published figures."""

    cycles: int
    full: bool = False


class Result(msgspec.Struct):
    """What a run found. ``problems``: what must not be; empty means it held."""

    figures: dict[str, Figure] = {}
    problems: list[str] = []


class Fault(Protocol):
    """One fault. The same seed does the same, as far as the machine's own timing allows."""

    #: As in the matrix: "T4".
    id: str
    #: What happens, for people: "power cut, ext4".
    title: str
    #: Cycles in CI.
    ci: int
    #: Cycles of the published figure.
    night: int
    #: What its control must be caught for, as a pattern in a problem. A broken build that does
    #: not even start has problems, too.
    tells: str

    def missing(self) -> str | None:
        """Say why this machine cannot run it; None: it can."""
        raise NotImplementedError

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        """Do it in ``folder``, which is empty, and judge what came of it."""
        raise NotImplementedError

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """Do it to a build that is broken on purpose: there must be problems, as it ``tells``."""
        raise NotImplementedError


def telling(tells: str, problems: list[str]) -> list[str]:
    """Return those of a control's problems for which it was to be caught."""
    return [each for each in problems if re.search(tells, each)]
