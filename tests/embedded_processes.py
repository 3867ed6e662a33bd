"""Running small scripts that use the queue, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from .embedded_helpers import WAIT_S, background

ROOT = Path(__file__).resolve().parent.parent


def environment(directory: Path) -> dict[str, str]:
    """Return an environment in which a script can import the package, installed or not."""
    found = dict(os.environ)
    with suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("blockqueue")
        return found
    links = directory / "links" / "blockqueue"
    if not links.exists():
        links.mkdir(parents=True)
        for source in (*(ROOT / "api/facade").glob("*"), *map(ROOT.joinpath, _FOLDERS)):
            if source.name != "__pycache__":
                (links / source.name).symlink_to(source)
    paths = [str(links.parent), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return found


_FOLDERS = ("actors", "api", "api/worker", "storage")


class Script:
    """A running script. Lines go back and forth over its standard input and output."""

    def __init__(self, directory: Path, text: str, *args: object) -> None:
        self._process = subprocess.Popen(
            # A fork while there are threads is what some of them are about.
            [sys.executable, "-W", "ignore", "-c", text, *map(str, args)],
            env=environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def hear(self, expected: str) -> None:
        """Wait for a line."""
        assert self._process.stdout is not None
        line = background(self._process.stdout.readline).result(WAIT_S).strip()
        assert line == expected, line or self.end()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it, and those it has forked, as kill -9 does. It may have ended."""
        if self._process.returncode is None:  # its number is not anybody else's yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(WAIT_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def end(self) -> str:
        """Wait for its end; return what it still said. It must have gone well."""
        out, errors = self._process.communicate(timeout=2 * WAIT_S)
        assert self._process.returncode == 0, errors
        assert errors == ""
        return out
