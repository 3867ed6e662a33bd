"""The body of a request in chunks, with limits on everything around its bytes."""

from __future__ import annotations

from typing import Any

from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

# A line before a chunk: its size, and extensions that nobody reads.
_LINE_BYTES_MAX = 1_024
_TRAILER_BYTES_MAX = 8_192
# A chunk costs processor time, however small it is, and at least five bytes around it. So
# many bytes around the chunks are free, and then one for so many of the body.
_AROUND_BYTES_FREE = 131_072
_BODY_BYTES_EACH = 4


class Chunks(ChunkedReceiver):
    """Refuses bodies that cost the server more than their bytes are worth.

    Waitress keeps an unfinished line or trailer whole, and looks through it again for every
    piece that comes: without a limit that takes time with the square of its length.
    """

    def __init__(self, buf: Any) -> None:
        super().__init__(buf)
        self._received = 0

    def received(self, s: bytes) -> int:
        consumed = int(super().received(s))
        self._received += consumed
        body = len(self)
        if self.error is None:
            if len(self.control_line) > _LINE_BYTES_MAX:
                self._refuse("a line before a chunk is too long")
            elif len(self.trailer) > _TRAILER_BYTES_MAX:
                self._refuse("the trailer is too long")
            elif self._received - body > _AROUND_BYTES_FREE + body // _BODY_BYTES_EACH:
                self._refuse("the chunks are too small: send more bytes in each")
        return consumed

    def _refuse(self, reason: str) -> None:
        self.error: Any = BadRequest(reason)
        self.all_chunks_received = True
