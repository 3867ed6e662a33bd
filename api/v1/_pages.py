"""Lists in pages: ``limit``, and a ``cursor`` that only we can read."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any

import msgspec

from blockqueue.storage import ValidationError, limits

LIMIT_DEFAULT = 100

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_STRANGE = "the cursor is not one that this list has given"
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Position = list[_Integer | str]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Position).decode


def read_limit(text: str | None, default: int = LIMIT_DEFAULT) -> int:
    """Return how many items are wanted; what makes no sense is not refused."""
    if text is None or not _WHOLE.fullmatch(text):
        return default
    limit = int(text)
    return min(limit, limits.BATCH_MAX) if limit > 0 else default


class Cursors:
    """The cursors of one list: positions of one shape, marked as this list's.

    Invariant: what a client sends becomes a position of exactly that shape or is refused.
    """

    def __init__(self, mark: str, *shape: type[int] | type[str]) -> None:
        self._mark = mark
        self._shape = (str, *shape)

    def write(self, position: tuple[Any, ...] | None) -> str | msgspec.UnsetType:
        """Return the cursor that goes on after a position, if anything follows."""
        if position is None:
            return msgspec.UNSET
        packed = base64.urlsafe_b64encode(_encode([self._mark, *position]))
        return packed.rstrip(b"=").decode()

    def read(self, text: str | None) -> Any:
        """Return a cursor's position. Raises ValidationError if it is none of ours."""
        if not text:
            return None
        try:
            plain = text.translate(_FROM_URL).encode("ascii")
            position = _decode(binascii.a2b_base64(plain + b"=" * (-len(plain) % 4)))
        except (ValueError, msgspec.DecodeError) as error:
            raise ValidationError(_STRANGE) from error
        if tuple(map(type, position)) != self._shape or position[0] != self._mark:
            raise ValidationError(_STRANGE)
        return tuple(position[1:])


_FROM_URL = str.maketrans("-_", "+/")
