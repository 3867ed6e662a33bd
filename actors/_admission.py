"""How much may wait to be written, in this process, over all topics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from blockqueue.storage import BackPressure, meters

MESSAGES_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024


class Admission:
    """A budget of messages and bytes, taken before a message enters an inbox."""

    def __init__(
        self,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        count: Callable[[int, int], object] = lambda place, messages: None,
    ) -> None:
        self._lock = threading.Lock()  # guards the three numbers
        self._messages = 0
        self._bytes = 0
        #: Since when something waits, or when the last of what waited was done.
        self._since = 0.0
        #: Told how many messages were admitted or refused, by the meter's place.
        self._count = count
        self.messages_max = messages_max
        self.bytes_max = bytes_max

    def enter(self, messages: int, nbytes: int) -> None:
        """Take a share of the budget. Raises BackPressure if there is not enough left.

        A publish that is larger than the whole budget is let in when nothing else waits.
        """
        with self._lock:
            if self._messages and (
                self._messages + messages > self.messages_max
                or self._bytes + nbytes > self.bytes_max
            ):
                self._count(meters.PUBLISH_REFUSED, messages)
                raise BackPressure(
                    f"{self._messages} messages of {self._bytes} bytes wait to be written; "
                    f"at most {self.messages_max} of {self.bytes_max} bytes may: try again later"
                )
            if not self._messages:
                self._since = time.monotonic()
            self._messages += messages
            self._bytes += nbytes
        self._count(meters.ADMITTED, messages)

    def leave(self, messages: int, nbytes: int) -> None:
        with self._lock:
            self._messages -= messages
            self._bytes -= nbytes
            self._since = time.monotonic()

    def waiting(self) -> tuple[int, int]:
        """Return how many messages and bytes wait to be written."""
        with self._lock:
            return self._messages, self._bytes

    def lag_s(self) -> float:
        """Return for how long nothing was written though something waits; 0: nothing waits."""
        with self._lock:
            return time.monotonic() - self._since if self._messages else 0.0
