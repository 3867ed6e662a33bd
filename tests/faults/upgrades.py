"""T26: a newer program takes over the file, and dies at each statement of that."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw

from blockqueue import BlockQueue
from blockqueue.storage import _schema

from ..crash_server import child_environment
from .case import Budget, Result, Say
from .integrity import check_database

_PROGRAM = Path(__file__).with_name("migrator.py")
_TIMEOUT_S = 30.0
_NEVER = 1_000_000
_MESSAGES = 50


class Upgrades:
    """Each migration happens whole or not at all, and an older program knows its limits."""

    id = "T26"
    title = "upgrade, killed at each statement"
    ci = 1
    night = 1
    tells = r"version \d+, and the topics have"

    def missing(self) -> str | None:
        return None

    def run(self, budget: Budget, folder: Path, seed: int, say: Say) -> Result:
        return _Upgrade(folder).run()

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        """A build that commits each step for itself."""
        return _Upgrade(folder, "--apart").run()


class _Upgrade:
    def __init__(self, folder: Path, *how: str) -> None:
        self._folder = folder
        self._how = how
        self._result = Result()

    def run(self) -> Result:
        old = self._folder / "old.db"
        with BlockQueue(str(old)) as queue:
            queue.create_topic("kept", ["a"])
            queue.publish_many("kept", [f"{number}" for number in range(_MESSAGES)])
        for name, start in (("an older file", old), ("a new file", None)):
            self._kill_everywhere(name, start)
        self._refuse(old)
        return self._result

    def _kill_everywhere(self, name: str, start: Path | None) -> None:
        """Kill the newer program before its first statement, its second, and so on."""
        deaths = 0
        while not self._result.problems:
            path = self._folder / f"{name.replace(' ', '-')}-{deaths}.db"
            if start is not None:
                shutil.copy(start, path)
            done = self._migrate(path, deaths + 1)
            if done.returncode == 0:
                break
            if done.returncode != -signal.SIGKILL:
                self._result.problems.append(f"it ended with {done.stderr[-300:]}")
            deaths += 1
            self._check(path, f"{name}, killed before statement {deaths}", start is not None)
        self._result.figures[f"deaths, {name}"] = deaths

    def _migrate(self, path: Path, limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(_PROGRAM), str(path), str(limit), *self._how],
            env=child_environment(self._folder),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def _check(self, path: Path, when: str, had_messages: bool) -> None:
        """See that nothing has happened, and that the next attempt goes well."""
        problems = self._result.problems
        version, columns = _schema_of(path)
        if version != (_schema.VERSION if had_messages else 0) or "note" in columns:
            problems.append(f"{when}: version {version}, and the topics have {columns}")
        again = self._migrate(path, _NEVER)
        if again.returncode != 0:
            problems.append(f"{when}: the next attempt failed: {again.stderr[-300:]}")
            return
        version, columns = _schema_of(path)
        if version != _schema.VERSION + 2 or "note" not in columns:
            problems.append(f"{when}: at last version {version}, the topics have {columns}")
        problems += [f"{when}: {text}" for text in check_database(path)]

    def _refuse(self, old: Path) -> None:
        """See that an older program refuses the newer file in one clear line."""
        newer = self._folder / "newer.db"
        shutil.copy(old, newer)
        if self._migrate(newer, _NEVER).returncode != 0:
            self._result.problems.append("the newer program failed")
            return
        before = newer.read_bytes()
        done = subprocess.run(
            [sys.executable, "-m", "blockqueue", "serve", "--db", str(newer), "--port", "0"],
            env=child_environment(self._folder),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        told = done.stderr.strip()
        if done.returncode == 0 or "newer blockqueue" not in told or "\n" in told:
            self._result.problems.append(f"an older program said {done.returncode}: {told}")
        if newer.read_bytes() != before:
            self._result.problems.append("an older program has changed the newer file")


def _schema_of(path: Path) -> tuple[int, list[str]]:
    """Return a file's version and the columns of its topics, after the log was applied."""
    connection = apsw.Connection(str(path))
    try:
        version = int(connection.pragma("user_version"))
        columns = [str(row[1]) for row in connection.execute("PRAGMA table_info(topic)")]
    finally:
        connection.close()
    return version, columns
