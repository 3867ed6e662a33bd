"""How much may wait to be written, in this process, over all topics."""

from __future__ import annotations

import threading
import time

from blockqueue.storage import BackPressure

MESSAGES_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024


class Admission:
    """A budget of messages and bytes, taken before a message enters an inbox."""

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._lock = threading.Lock()  # guards all numbers
        self._messages = 0
        self._bytes = 0
        #: How many messages were let in and turned away, ever.
        self.admitted = self.refused = 0
        self._left = 0  # how many messages are done, ever, and how many were at the last look
        self._left_before = 0
        #: When something began to wait, or was first seen to have been done.
        self._since = 0.0
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
                self.refused += messages
                raise BackPressure(
                    f"{self._messages} messages of {self._bytes} bytes wait to be written; "
                    f"at most {self.messages_max} of {self.bytes_max} bytes may: try again later"
                )
            if not self._messages:
                self._since = time.monotonic()
            self._messages += messages
            self._bytes += nbytes
            self.admitted += messages

    def leave(self, messages: int, nbytes: int) -> None:
        with self._lock:
            self._messages -= messages
            self._bytes -= nbytes
            self._left += messages

    def waiting(self) -> tuple[int, int]:
        """Return how many messages and bytes wait to be written."""
        with self._lock:
            return self._messages, self._bytes

    def lag_s(self) -> float:
        """Return for how long nothing was written though something waits; 0: nothing waits.

        Ask often: what was done since the last time counts as done now.
        """
        with self._lock:
            now = time.monotonic()
            if self._left != self._left_before:
                self._left_before, self._since = self._left, now
            return now - self._since if self._messages else 0.0
