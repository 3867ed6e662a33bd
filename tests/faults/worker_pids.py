"""The worker processes of a server, and which of them a connection belongs to."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time

import msgspec
import psutil

from ..crash_server import HOST, ServerProcess
from ..worker_helpers import is_alive

_LOOK_S = 0.01
_CONNECT_MAX_S = 10.0


def workers_of(server: ServerProcess) -> list[psutil.Process]:
    """Return the workers that live at the moment, by their numbers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(server.pid).children()
        return sorted(filter(is_alive, found), key=lambda each: each.pid)
    return []


class Line:
    """A connection with one worker, which answers on it or not."""

    def __init__(self, connection: http.client.HTTPConnection, pid: int) -> None:
        self._connection = connection
        self.pid = pid

    def send(self, path: str, body: object = None) -> None:
        """Send a POST whose answer is fetched later."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._connection.request("POST", path, msgspec.json.encode(body) if body else None)
            return
        self._connection.close()  # so that there is no answer

    def answer(self) -> tuple[int | None, bytes]:
        """Return status and body of the answer; a status of None if none comes."""
        try:
            with self._connection.getresponse() as response:
                return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None, b""

    def ask(self, path: str, body: object = None) -> tuple[int | None, bytes]:
        """Send a POST, and wait for its answer."""
        self.send(path, body)
        return self.answer()

    def close(self) -> None:
        self._connection.close()


def line_to(server: ServerProcess, pids: set[int], *, among: bool) -> Line | None:
    """Connect until a worker among ``pids``, or one that is not, has taken the call.

    None: there was no such worker in time.
    """
    pause = threading.Event()
    deadline = time.monotonic() + _CONNECT_MAX_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=_CONNECT_MAX_S)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/livez")
            connection.getresponse().read()
            pid = _owner(server, connection.sock.getsockname()[1])
            if pid is not None and (pid in pids) == among:
                return Line(connection, pid)
        connection.close()
        pause.wait(_LOOK_S)
    return None


def _owner(server: ServerProcess, port: int) -> int | None:
    """Return which worker has the other end of a client's connection."""
    for each in workers_of(server):
        with contextlib.suppress(psutil.Error):
            for connection in each.net_connections("tcp"):
                if connection.raddr and connection.raddr[1] == port:
                    return int(each.pid)
    return None
