"""T11: bits, sectors and whole files are damaged. Nobody gets a wrong body, and nobody hangs."""

from __future__ import annotations

import contextlib
import queue as queues
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from random import Random

import msgspec

from ..crash_server import child_environment
from . import corruption_victim
from .case import Budget, Figure, Result, Say, telling
from .corruption_victim import Made, Work
from .integrity import check_database
from .surgery import FILES, Damage, damage, last_commit

_CASE_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_CONTROL_CASES = 40
_SHOWN_MAX = 20


class _Child:
    """The process that makes a database, or works on damaged ones."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with (folder / "child.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, corruption_victim.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=child_environment(folder),
            )
        self._lines: queues.SimpleQueue[bytes] = queues.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def answer(self) -> bytes:
        """Return its next line. Raises queue.Empty if it hangs; b"" if it has ended."""
        return self._lines.get(timeout=_CASE_TIMEOUT_S)

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(_END_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Corruption:
    """Damage is noticed, or is a log's torn end, or (SQLite has no page checksums) is counted."""

    id = "T11"
    title = "corrupted database, log, index, hints, blocks"
    ci = 80
    night = 2000
    tells = "got a body|deliveries are missing"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _Run(folder, seed, say).run(budget.cycles)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """Blocks without checksums, or a log that nobody looks through: both must be noticed."""
        result = Result()
        for what in ("no-checksums", "no-log-scan"):
            place = folder / what
            place.mkdir()
            found = _Run(place, seed, say, what).run(_CONTROL_CASES)
            result.figures[f"{what}: problems"] = len(found.problems)
            result.problems += found.problems
            if not telling(self.tells, found.problems):
                return found  # one of them was not noticed, so the control was not
        return result


class _Run:
    def __init__(self, folder: Path, seed: int, say: Say, *what: str) -> None:
        self.folder = folder
        self.seed = seed
        self.say = say
        self.what = what
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self.base, self.older = folder / "base", folder / "older"
        self.made = Made()
        self.last_commit = 0

    def run(self, cases: int) -> Result:
        self._make()
        child = self._victim()
        try:
            for number in range(cases):
                child = self._case(number, child)
                if number % 100 == 99:
                    self.say(f"{number + 1} of {cases} cases, {len(self.problems)} problems")
        finally:
            child.end()
        figures: dict[str, Figure] = {"cases": cases, **dict(sorted(self.figures.items()))}
        return Result(figures, self.problems[:_SHOWN_MAX])

    def _victim(self) -> _Child:
        return _Child(self.folder, "serve", *self.what)

    def _make(self) -> None:
        """Make the database, with a copy of its earlier self, as a kill leaves them."""
        self.base.mkdir()
        child = _Child(
            self.folder, "build", str(self.base / FILES["db"]), str(self.seed), *self.what
        )
        try:
            child.answer()
            shutil.copytree(self.base, self.older)
            child.tell("go on")
            self.made = msgspec.json.decode(child.answer(), type=Made)
        finally:
            child.end()
        self.last_commit = last_commit((self.base / FILES["wal"]).read_bytes())

    def _case(self, number: int, child: _Child) -> _Child:
        """Damage a copy, and have the child work on it; return the child for the next one."""
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.base, place)
        done = damage(place, self.older, Random(f"{self.seed} {number}"))
        child.tell(str(place / FILES["db"]))
        try:
            line = child.answer()
        except queues.Empty:
            line = None
        if line:
            self._judge(f"case {number}, {done}", done, msgspec.json.decode(line, type=Work))
            return child
        self.problems.append(f"case {number}, {done}: {'hung' if line is None else 'died'}")
        child.end()
        return self._victim()

    def _judge(self, place: str, done: Damage, work: Work) -> None:
        self.problems += [f"{place}: {text}" for text in work.crashes]
        for subscriber, received in work.received.items():
            for message_id, body in received:
                if self.made.bodies.get(message_id) != body and body != "after":
                    known = body in self.made.bodies.values()
                    text = "under another id" if known else "that nobody published"
                    self.problems.append(f"{place}: {subscriber} got a body {text}, {message_id}")
        missing, again = self._compare(work)
        noticed = bool(work.refused) or any(work.dead.values())
        word = "noticed" if noticed else f"unnoticed, {'harmless' if not missing else 'missing'}"
        self.figures[f"{done.target}: {word}"] += 1
        if not noticed and (missing or again):
            self._look_closer(place, done, missing)

    def _compare(self, work: Work) -> tuple[int, int]:
        """Return how many deliveries are missing, and how many came though they were done."""
        missing = again = 0
        for subscriber, done in self.made.done.items():
            received = {message_id for message_id, _ in work.received.get(subscriber, [])}
            out = received | set(done) | set(self.made.leased[subscriber])
            missing += len(self.made.bodies.keys() - out - set(work.dead.get(subscriber, ())))
            again += len(received & set(done))
        return missing, again

    def _look_closer(self, place: str, done: Damage, missing: int) -> None:
        """What the queue did not notice: would a check of the whole file have?"""
        path = self.folder / "case" / FILES["db"]
        self.figures["unnoticed, found by an integrity check"] += bool(check_database(path))
        inside_log = done.target == "wal" and done.how not in ("truncate", "restore")
        if missing and inside_log and done.places[1] < self.last_commit:
            self.problems.append(f"{place}: {missing} deliveries are missing, and nothing said so")
