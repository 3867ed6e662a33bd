"""What systemd, or another that speaks its protocol, is told: see sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

logger = logging.getLogger("blockqueue")


class ServiceManager:
    """Told when the server is ready, that it lives, and that it stops.

    ``tell_alive`` may be called as often as one likes, by whoever's hanging must not go
    unnoticed: the server's loop. A thread of its own would live on beside a loop that hangs.

    Args:
        address: the manager's socket; None: there is nobody to tell.
        watchdog_s: the server is killed if it was not heard of for so long; None: it is not.
    """

    def __init__(
        self,
        address: str | None,
        watchdog_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # An abstract name is written with "@" for its first byte.
        self._address = f"\0{address[1:]}" if address and address[0] == "@" else address
        self._period_s = None if watchdog_s is None else watchdog_s / 3
        self._clock = clock
        #: When it was last told that the server lives; None: not before it was ready.
        self._told_at: float | None = None

    @classmethod
    def inherited(cls) -> ServiceManager:
        """Return the one that has started this process. Children will have none."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        watched = microseconds.isascii() and microseconds.isdigit() and pid == str(os.getpid())
        return cls(address, int(microseconds) / 1_000_000 if watched else None)

    def tell_ready(self, status: str) -> None:
        """Say that requests are answered from now on."""
        self._tell(f"READY=1\nSTATUS={status}")
        self._told_at = self._clock()

    def tell_alive(self) -> None:
        """Say that the server lives, if it is time to."""
        if self._period_s is None or self._told_at is None:
            return
        now = self._clock()
        if now - self._told_at >= self._period_s:
            self._told_at = now
            self._tell("WATCHDOG=1")

    def tell_stopping(self) -> None:
        """Say that the server ends."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
                # A manager that does not read must not hold the server up.
                ours.setblocking(False)
                ours.sendto(text.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager could not be told %r: %s", text, error)
