"""A consumer that wakes up after its lease, when somebody else holds the message."""

from __future__ import annotations

from typing import Any

import msgspec

from .calls import Calls
from .worker_pids import Line

_TOPIC, _SUBSCRIBER = "zombie", "z"
_PATH = f"/v1/topics/{_TOPIC}"
_CLAIM = f"{_PATH}/subscribers/{_SUBSCRIBER}/claim"
_SHORT = "300ms"


def prepare(calls: Calls) -> None:
    """Make what is needed."""
    calls.create(_TOPIC, _SUBSCRIBER, max_attempts=1_000_000)


class Zombie:
    """Claims on ``theirs``; on ``ours`` the message comes again. None: there was no answer."""

    def __init__(self, theirs: Line, ours: Line) -> None:
        self._theirs = theirs
        self._ours = ours
        ours.ask(f"{_PATH}/messages", {"message": "brains"})
        self._mine = self._claim(theirs, _SHORT)

    def _claim(self, line: Line, lease: str) -> dict[str, Any] | None:
        status, body = line.ask(f"{_CLAIM}?limit=1&timeout=10s&lease={lease}")
        if status != 200:
            return None
        found: list[dict[str, Any]] = msgspec.json.decode(body)["data"]
        return found[0] if found else None

    def rise(self) -> None:
        """Show the receipt, whose lease has ended by then; who is stopped does not read it."""
        self._again = self._claim(self._ours, "1m")
        if self._mine is not None:
            self._theirs.send(*self._ack(self._mine))

    def judge(self) -> str | None:
        """Return what is wrong with the answers."""
        if self._mine is None or self._again is None:
            return None
        status, _ = self._theirs.answer()
        if status not in (409, None):
            return f"the receipt of a lease that has ended was answered with {status}"
        status, body = self._ours.ask(*self._ack(self._again))
        if status not in (200, 503):
            return f"a live receipt was answered with {status}, {body[:200]!r}"
        return None

    def _ack(self, delivery: dict[str, Any]) -> tuple[str, object]:
        path = f"{_PATH}/subscribers/{_SUBSCRIBER}/messages/{delivery['id']}/ack"
        return path, {"receipt_token": delivery["receipt_token"]}
