"""A worker's end of the link to its supervisor.

A worker is the supervisor's own command, started anew; a variable in its environment tells it
what it is, and which descriptors it has been handed: the listening socket, and one end of a
pair of sockets. Over that it says that it is ready or why it failed, and its closing at the
other end, however that comes, is the end of the worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading

_VARIABLE = "BLOCKQUEUE_WORKER_LINK"
_PR_SET_PDEATHSIG = 1

READY = b"ready"
FAILED = b"failed "


def variable(
    listener: socket.socket, link: socket.socket, *, is_replacement: bool
) -> dict[str, str]:
    """Return what a worker's environment must have besides the supervisor's own."""
    told = (listener.fileno(), link.fileno(), os.getpid(), int(is_replacement))
    return {_VARIABLE: ",".join(map(str, told))}


class Link:
    """What a worker has from its supervisor: ``listener``, and somebody to report to.

    ``is_replacement``: it comes for one that has ended though nobody told it to.
    """

    def __init__(
        self, listener: socket.socket, connection: socket.socket, parent: int, is_replacement: bool
    ) -> None:
        self.listener = listener
        self.is_replacement = is_replacement
        self._connection = connection
        self._die_with(parent)
        threading.Thread(target=self._watch, name="blockqueue-link", daemon=True).start()

    @classmethod
    def inherited(cls) -> Link | None:
        """Return this process's link; None if it is nobody's worker."""
        value = os.environ.pop(_VARIABLE, None)
        if value is None:
            return None
        listener, connection, parent, replacement = map(int, value.split(","))
        for fd in (listener, connection):
            os.set_inheritable(fd, False)
        sockets = socket.socket(fileno=listener), socket.socket(fileno=connection)
        return cls(*sockets, parent, bool(replacement))

    @staticmethod
    def _die_with(parent: int) -> None:
        """Have the system kill this process with its parent, even if it is stopped or stuck."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before that
            os._exit(1)

    def _watch(self) -> None:
        """Wait for the end of the supervisor, which never says anything."""
        with contextlib.suppress(OSError):
            self._connection.recv(1)
        os._exit(1)

    def tell_ready(self) -> None:
        """Say that requests are answered from now on."""
        self._connection.sendall(READY + b"\n")

    def tell_failed(self, reason: str) -> None:
        """Say why this process ends; the supervisor passes that on."""
        line = reason.replace("\n", " ").encode(errors="replace")
        self._connection.sendall(FAILED + line + b"\n")
