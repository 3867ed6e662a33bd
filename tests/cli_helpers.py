"""The command line as it is typed: in this process, as a process, and in a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from blockqueue.api.cli import main

from .http_server import child_environment, serving

PATIENCE_S = 30.0


class Shell:
    """A folder with commands that are typed in it."""

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        self.folder = folder
        self.db = folder / "queue.db"
        place = {"BLOCKQUEUE_DB": str(self.db)}
        self.env = place if url is None else {"BLOCKQUEUE_URL": url}

    def run(self, *words: str, stdin: str | bytes | None = None) -> Result:
        """Run a command in this process."""
        return CliRunner().invoke(main, list(words), input=stdin, env=self.env)

    def ok(self, *words: str, stdin: str | bytes | None = None) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*words, stdin=stdin)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    def lines(self, *words: str) -> list[Any]:
        """Run a command that must succeed with ``--json``; return its lines."""
        return [json.loads(line) for line in self.ok(*words, "--json").splitlines()]

    def fails(self, code: int, *words: str, stdin: str | bytes | None = None) -> str:
        """Run a command that must exit with ``code``; return the error's text."""
        done = self.run(*words, stdin=stdin)
        assert done.exit_code == code, (done.output, done.exception)
        assert "Traceback" not in done.output
        return done.stderr

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command as a process."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "blockqueue", *words],
            cwd=self.folder,
            env={**child_environment(), **self.env},
            text=True,
            **options,
        )


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a process, and see to its end whatever happens."""
    with process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """A pseudo-terminal: what a process at its other end shows, and what is typed."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 100))
        self.seen = b""

    def read_until(self, text: str) -> str:
        """Return all that was shown until now, once ``text`` is in it."""
        while text.encode() not in self.seen:
            self.seen += os.read(self.master, 4096)
        return self.seen.decode()

    def read_all(self) -> str:
        """Return all that was shown, once the other end is closed."""
        os.close(self.slave)
        # Linux says EIO when nobody has the other end open any more.
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 4096):
                self.seen += data
        os.close(self.master)
        return self.seen.decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def orders(shell: Shell) -> Shell:
    """A shell whose queue has the topic ``orders`` with the subscriber ``worker``."""
    shell.ok("topic", "create", "orders", "--subscriber", "worker", "--max-attempts", "2")
    return shell


@pytest.fixture(params=["file", "server"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """A shell on a file, and one on a server."""
    if request.param == "file":
        yield Shell(tmp_path)
        return
    with serving(tmp_path / "queue.db") as server:
        yield Shell(tmp_path, url=f"http://127.0.0.1:{server.port}")
