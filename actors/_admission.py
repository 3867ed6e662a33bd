"""How much may wait to be written, in this process, over all topics."""

from __future__ import annotations

import threading

from blockqueue.storage import BackPressure

MESSAGES_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024


class Admission:
    """A budget of messages and bytes, taken before a message enters an inbox."""

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._lock = threading.Lock()  # guards the two counts
        self._messages = 0
        self._bytes = 0
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
                raise BackPressure(
                    f"{self._messages} messages of {self._bytes} bytes wait to be written; "
                    f"at most {self.messages_max} of {self.bytes_max} bytes may: try again later"
                )
            self._messages += messages
            self._bytes += nbytes

    def leave(self, messages: int, nbytes: int) -> None:
        with self._lock:
            self._messages -= messages
            self._bytes -= nbytes

    def waiting(self) -> tuple[int, int]:
        """Return how many messages and bytes wait to be written."""
        with self._lock:
            return self._messages, self._bytes
