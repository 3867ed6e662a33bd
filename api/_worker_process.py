"""A worker as its supervisor sees it: a process, and a link that ends when it does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from ._worker_link import FAILED, READY, variable

_REPORT_BYTES_MAX = 65_536
_REAP_S = 10.0


class Worker:
    """A worker process. It is started, and later ended, once. Raises OSError if it cannot be.

    ``link`` is readable when there is something to ``hear``.
    """

    def __init__(self, listener: socket.socket, *, is_replacement: bool) -> None:
        self.link, theirs = socket.socketpair()
        self.link.setblocking(False)
        try:
            with theirs:
                # By exec: a fork would inherit what threads of the parent hold.
                self._process = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env=os.environ | variable(listener, theirs, is_replacement=is_replacement),
                    pass_fds=(listener.fileno(), theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            self.link.close()
            raise
        self.pid = self._process.pid
        #: When it said that it is ready, by time.monotonic.
        self.ready_at: float | None = None
        #: Why it failed, in its own words.
        self.reason = ""
        #: By when it must have ended, once it was told to.
        self.end_by: float | None = None
        self._heard = b""

    def hear(self) -> bool:
        """Read what it says. Returns False once it has ended."""
        try:
            data = self.link.recv(_REPORT_BYTES_MAX)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            if line == READY:
                self.ready_at = time.monotonic()
            elif line.startswith(FAILED):
                self.reason = line.removeprefix(FAILED).decode(errors="replace")
        return bool(data)

    def drain(self, seconds: float) -> None:
        """Tell it to answer what it has, accept nothing more, and end."""
        if self.end_by is None:
            self.end_by = time.monotonic() + seconds
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def reap(self) -> str:
        """Let go of it after its end; return how that was: "" is as it should be."""
        self.link.close()
        try:
            code = self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:  # it has only closed its link, which it never does
            self.kill()
            code = self._process.wait()
        if code == 0:
            return self.reason
        how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        return f"{self.reason} ({how})" if self.reason else how

    @property
    def ran_s(self) -> float:
        """For how many seconds it has been ready."""
        return 0.0 if self.ready_at is None else time.monotonic() - self.ready_at
