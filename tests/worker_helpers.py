"""What the tests of several workers look at: their processes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence

import psutil

from .http_server import Server, until


def workers(server: Server) -> list[psutil.Process]:
    """Return the worker processes that live at the moment, the oldest first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(server.process.pid).children()
        return sorted((each for each in found if is_alive(each)), key=lambda each: each.pid)
    return []


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process lives; one that is only not reaped yet does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(map(is_alive, processes))


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition; return how long that took."""
    started = time.monotonic()
    until(condition, what)
    return time.monotonic() - started


def connections(process: psutil.Process, port: int) -> int:
    """Return how many clients' connections a process has accepted on a port."""
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr[1] == port
        for each in process.net_connections("tcp")
    )


def can_listen(port: int) -> bool:
    """Say whether a server could start on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def accepting(server: Server, count: int) -> list[psutil.Process]:
    """Wait until so many workers watch the listening socket; return them."""

    def listening() -> list[psutil.Process]:
        return [
            each
            for each in workers(server)
            if any(
                connection.status == psutil.CONN_LISTEN
                for connection in each.net_connections("tcp")
            )
        ]

    until(lambda: len(listening()) == count, f"{count} workers listen")
    return listening()
