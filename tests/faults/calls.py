"""Calls of the second contract that must succeed, and what a server's process holds."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from ..crash_clients import Answer, Http
from ..crash_server import ServerProcess


class Failed(Exception):
    """A call was not answered as it must be."""


class Calls:
    """One connection, on which everything must go well."""

    def __init__(self, port: int) -> None:
        self._http = Http(port)

    def close(self) -> None:
        self._http.close()

    def send(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request; raise Failed unless it is answered with 2xx."""
        answer = self._http.ask(method, path, body)
        if answer.status is None or not 200 <= answer.status < 300:
            raise Failed(f"{method} {path}: {answer}")
        return answer

    def create(self, topic: str, *subscribers: str, **option: object) -> None:
        """Make a topic whose subscribers all have this option of ``/topics``."""
        listed = [{"name": name, "option": option} for name in subscribers]
        self.send("POST", "/topics", {"name": topic, "subscribers": listed})

    def publish(self, topic: str, *bodies: str) -> None:
        batch = [{"message": body} for body in bodies]
        self.send("POST", f"/v1/topics/{topic}/messages/batch?wait_for=commit", batch)

    def claim(self, topic: str, subscriber: str, query: str) -> list[dict[str, Any]]:
        path = f"/v1/topics/{topic}/subscribers/{subscriber}/claim?{query}"
        found: list[dict[str, Any]] = msgspec.json.decode(self.send("POST", path).body)["data"]
        return found

    def settle(self, topic: str, subscriber: str, delivery: dict[str, Any], what: str) -> None:
        """Send ``what`` ("ack", "lease") about a delivery."""
        path = f"/v1/topics/{topic}/subscribers/{subscriber}/messages/{delivery['id']}/{what}"
        body = {"receipt_token": delivery["receipt_token"]}
        if what == "lease":
            body["extension"] = "1s"
        self.send("POST", path, body)


class Held(NamedTuple):
    """What a process holds of the machine."""

    #: Descriptors without the database's own: readers are opened when they are first needed.
    fds: int
    threads: int
    rss: int


def held_by(server: ServerProcess) -> Held:
    """Look at a running server."""
    process = psutil.Process(server.pid)
    fds = 0
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fds += not os.readlink(each).startswith(str(server.database))
    return Held(fds, process.num_threads(), process.memory_info().rss)
