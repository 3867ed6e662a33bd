"""What a run of the faults found: for programs, for people, for the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterable

import msgspec

import blockqueue

from .case import Result

_SHOWN_MAX = 20


class Outcome(msgspec.Struct):
    """What came of one fault. ``missing``: why it was not run; that never counts as passed."""

    id: str
    title: str
    seconds: float = 0.0
    missing: str | None = None
    result: Result | None = None
    #: None: the control was not asked for. Else it must have problems.
    control: Result | None = None

    @property
    def is_caught(self) -> bool:
        """Tell whether the control was noticed, or was not asked for."""
        return self.control is None or bool(self.control.problems)

    @property
    def is_good(self) -> bool:
        """Tell whether nothing is wrong; what was not run is neither good nor bad."""
        return (self.result is None or not self.result.problems) and self.is_caught

    @property
    def word(self) -> str:
        """Say in a word how it went."""
        if self.missing is not None:
            return f"not run: {self.missing}"
        if not self.is_caught:
            return "CONTROL NOT CAUGHT"
        return "held" if self.is_good else "BROKEN"


class Report(msgspec.Struct):
    """A whole run."""

    seed: int
    date: str
    command: str
    version: str = blockqueue.__version__
    machine: str = (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    )
    outcomes: list[Outcome] = []

    @property
    def is_good(self) -> bool:
        """Tell whether everything that was run is as it must be."""
        return all(each.is_good for each in self.outcomes)


def lines(outcome: Outcome) -> Iterable[str]:
    """Describe an outcome for somebody at a terminal."""
    yield f"{outcome.id:4} {outcome.title:40} {outcome.word}  ({outcome.seconds:.0f} s)"
    if outcome.result is not None:
        for name, figure in outcome.result.figures.items():
            yield f"     {name:32} {figure}"
        for problem in outcome.result.problems[:_SHOWN_MAX]:
            yield f"     ! {problem}"
    if outcome.control is not None:
        found = outcome.control.problems
        yield f"     control: {f'caught, {found[0]}' if found else 'NOT CAUGHT'}"


def markdown(report: Report) -> str:
    """Return a table for the documentation."""
    rows = [
        f"{report.date}, seed {report.seed}, blockqueue {report.version}, {report.machine}:",
        f"`{report.command}`",
        "",
        "| # | fault | result | figures | control |",
        "|---|---|---|---|---|",
    ]
    for each in report.outcomes:
        figures = {} if each.result is None else each.result.figures
        told = "; ".join(f"{name}: {figure}" for name, figure in figures.items())
        control = "not run" if each.control is None else "caught" if each.is_caught else "missed"
        cells = (each.id, each.title, each.word, told or "–", control)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
