"""T21: a process with threads forks while its queue is at work, and starts others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from ..crash_server import child_environment
from .case import Budget, Result, Say
from .integrity import check_database

_PROGRAM = Path(__file__).with_name("fork_family.py")
_CONTROL_CHILDREN = 3


class Forks:
    """Whatever a process of the family was told is stored is handed out exactly once."""

    id = "T21"
    title = "fork and spawn with threads at work"
    ci = 15
    night = 1000
    tells = "hang|hung|failed| came"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _run(folder, seed, budget.cycles)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that knows nothing of forks."""
        return _run(folder, seed, _CONTROL_CHILDREN, BREAK_FORKS="1")


def _run(folder: Path, seed: int, children: int, **environment: str) -> Result:
    database, journal = folder / "queue.db", folder / "journal.txt"
    journal.touch()
    arguments = [str(each) for each in (_PROGRAM, database, journal, seed, children)]
    family = subprocess.Popen(
        [sys.executable, *arguments],
        env=child_environment(folder) | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    problems: list[str] = []
    try:
        _, errors = family.communicate(timeout=60 + children)
    except subprocess.TimeoutExpired:
        problems.append("the whole family hangs")
        os.killpg(family.pid, signal.SIGKILL)
        _, errors = family.communicate()
    if family.returncode != 0 or errors:
        problems.append(f"it ended with {family.returncode}: {errors[-500:]}")
    result = _judge(journal.read_text().splitlines(), children)
    result.problems += problems + check_database(database)
    return result


def _judge(lines: list[str], children: int) -> Result:
    """Hold what was published against what came."""
    published = {line[2:] for line in lines if line.startswith("P ")}
    came = Counter(line[2:] for line in lines if line.startswith("R "))
    problems = [line[2:] for line in lines if line.startswith("E ")]
    problems += [f"{body} never came" for body in sorted(published - came.keys())]
    problems += [f"{body} was never published" for body in sorted(came.keys() - published)]
    problems += [f"{body} came {count} times" for body, count in came.items() if count > 1]
    return Result({"children": children, "published": len(published)}, problems)
