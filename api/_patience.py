"""How long a client may take."""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True):
    """Limits of time that hold however a client spreads its bytes. All in seconds."""

    #: From the end of an answer, or from the connection, until a request begins.
    idle_s: float = 75.0
    #: From the first byte of a request to the last of its headers.
    head_s: float = 5.0
    #: For a body, and for taking an answer; and one more for each ``bytes_per_s`` that moved.
    body_s: float = 30.0
    bytes_per_s: int = 32_768

    def is_over(self, seconds: float, moved: int) -> bool:
        """Say whether so few bytes in so long are too slow for a body or an answer."""
        return seconds > self.body_s + moved / self.bytes_per_s
