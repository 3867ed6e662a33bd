"""The server under test as a process of its own, and how to kill it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import blockqueue

ROOT = Path(__file__).resolve().parent.parent
CONTROL = Path(__file__).with_name("crash_control.py")
HOST = "127.0.0.1"
THREADS = 16

READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 0.01


def child_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which ``python -m blockqueue`` is the code under test.

    An installed package needs nothing. A bare checkout is laid out in ``folder``.
    """
    env = dict(os.environ)
    if Path(blockqueue.__file__ or "").resolve().parent != ROOT / "api/facade":
        return env
    types = folder / "types"
    package = types / "blockqueue"
    if not package.exists():
        package.mkdir(parents=True)
        for each in [ROOT / name for name in ("actors", "api", "api/worker", "storage")]:
            (package / each.name).symlink_to(each)
        for each in (ROOT / "api/facade").iterdir():
            (package / each.name).symlink_to(each)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(types), env.get("PYTHONPATH")]))
    return env


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """``blockqueue serve`` on one database and port, started and killed again and again.

    ``control``: a server that is broken on purpose, see ``crash_control``. ``program``: what
    Python runs instead. ``database``: where it is, if not in ``folder``. ``prefix``: a command
    that runs the server's. ``options``: more of ``serve``. ``environment``: more variables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        control: bool = False,
        program: Sequence[str] = ("-m", "blockqueue"),
        database: Path | None = None,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.database = database or folder / "queue.db"
        self._log = folder / "server.log"
        self._environment = child_environment(folder) | dict(environment or {})
        program = [str(CONTROL)] if control else program
        self._command: Sequence[str] = [
            *(*prefix, sys.executable, *program, "serve", "--db", str(self.database)),
            *("--host", HOST, "--port", str(self.port), "--threads", str(THREADS)),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> float:
        """Start it and wait until it is ready. Returns the seconds that took.

        Raises RuntimeError if it ends by itself or is not ready in time.
        """
        started = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, process_group=0
            )
        pause = threading.Event()
        while not self._is_ready():
            if self.has_ended():
                raise RuntimeError(f"the server ended by itself: {self.last_words()}")
            if time.monotonic() - started > READY_TIMEOUT_S:
                raise RuntimeError(f"the server was not ready within {READY_TIMEOUT_S:.0f} s")
            pause.wait(_LOOK_EVERY_S)
        return time.monotonic() - started

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=READY_TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def has_ended(self) -> bool:
        """Tell whether it has ended without being told to."""
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        """The process that was started; None when there is none."""
        return None if self._process is None else self._process.pid

    def wait(self, timeout_s: float) -> int | None:
        """Wait until it ends by itself; return its exit code, or None if it goes on."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def strike_down(self) -> None:
        """Let none of its threads run any more, but do not wait for what the kernel still does.

        ``kill`` must follow.
        """
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill it with all its children, as a power switch would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int | None:
        """Ask it to end; kill it if it does not. Returns its exit code."""
        return self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            os.killpg(process.pid, number)
        try:
            return process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_STOP_TIMEOUT_S)
            return None

    def last_words(self) -> str:
        """Return the end of what it logged."""
        return self._log.read_text(errors="replace")[-2000:].strip()
