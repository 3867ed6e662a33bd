"""T6: the files as a power cut leaves them after each single call, for all calls of a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

from blockqueue.storage import BlockQueueError, Store

from ..crash_server import child_environment
from . import prefix_writer
from .case import Budget, Result, Say
from .integrity import check_database
from .traced_files import TRACE, Files, read_trace

_WRITER_TIMEOUT_S = 300.0
_CONTROL_MESSAGES = 6
_PROBLEMS_MAX = 20


class Prefixes:
    """Rows are exactly the commits that were answered, and at most one that was under way."""

    id = "T6"
    title = "every crash state of a trace"
    ci = 8
    night = 60
    tells = r"answered: \d+ messages$"

    def missing(self) -> str | None:
        return "strace is missing" if shutil.which("strace") is None else None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _Trace(folder, seed, say).check(budget.cycles)

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A log that is not synced must lose what was answered."""
        return _Trace(folder, seed, say).check(_CONTROL_MESSAGES, "synchronous=NORMAL")


class _Trace:
    def __init__(self, folder: Path, seed: int, say: Say) -> None:
        self.folder = folder
        self.say = say
        self.random = Random(seed)
        self.figures: Counter[str] = Counter()
        self.problems: list[str] = []
        self.stored = 0  # messages that were answered so far

    def check(self, messages: int, *what: str) -> Result:
        """Publish so many messages, and judge each state on the way."""
        directory = self.folder / "written"
        directory.mkdir()
        self._write(directory / "queue.db", messages, *what)
        files = Files(directory)
        for op in read_trace(self.folder / "trace"):
            if op.call == "write" and op.data.startswith(b"stored "):
                self.stored += 1
            elif files.apply(op):
                self._judge(files)
            if len(self.problems) > _PROBLEMS_MAX:
                break
        self.figures["messages"] = self.stored
        if self.stored != messages and not self.problems:
            self.problems.append(f"the trace has {self.stored} of {messages} messages")
        return Result(dict(self.figures), self.problems)

    def _write(self, database: Path, messages: int, *what: str) -> None:
        command = [*TRACE, "-o", str(self.folder / "trace"), sys.executable]
        subprocess.run(
            [*command, prefix_writer.__file__, str(database), str(messages), *what],
            env=child_environment(self.folder),
            stdout=subprocess.DEVNULL,
            timeout=_WRITER_TIMEOUT_S,
            check=True,
        )

    def _judge(self, files: Files) -> None:
        self.figures["calls"] += 1
        if self.figures["calls"] % 200 == 0:
            self.say(f"{self.figures['calls']} calls, {self.stored} messages")
        self._open("all", files.everything())
        self._open("synced", files.synced_only())
        self._open("some", files.some(self.random))

    def _open(self, name: str, contents: dict[str, bytes]) -> None:
        """Open what is left after a cut, as a server would."""
        self.figures["states"] += 1
        place = self.folder / "state"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for file, content in contents.items():
            if not file.endswith("-shm"):  # a machine that starts anew finds none in use
                (place / file).write_bytes(content)
        path = place / "queue.db"
        try:
            found = _messages(path)
        except BlockQueueError as error:
            self._report(name, f"it does not open: {error}")
            return
        wanted = [prefix_writer.body(number) for number in range(len(found))]
        if found != wanted:
            self._report(name, "a wrong body")
        if not self.stored <= len(found) <= self.stored + 1:
            self._report(name, f"{len(found)} messages")
        self.figures["with one under way"] += len(found) > self.stored
        for problem in check_database(path):
            self._report(name, problem)

    def _report(self, name: str, text: str) -> None:
        place = f"after call {self.figures['calls']}, {name}, {self.stored} answered"
        self.problems.append(f"{place}: {text}")


def _messages(path: Path) -> list[object]:
    """Open a database, and return all its messages in their order."""
    store = Store(path)
    try:
        with store.reading() as snapshot:
            rows = snapshot.rows("SELECT topic_id, priority, first_seq FROM block ORDER BY 3")
            return [body for row in rows for body in snapshot.block(*row).bodies]
    finally:
        store.close()
