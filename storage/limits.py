"""What is allowed, in one place. Source: the HTTP contract's table of limits."""

from __future__ import annotations

import unicodedata

from ._errors import ValidationError

MESSAGE_BYTES_MAX = 1_048_576
HEADERS_BYTES_MAX = 16_384
CORRELATION_BYTES_MAX = 255
KEY_BYTES_MAX = 128
NAME_BYTES_MAX = 150
REASON_BYTES_MAX = 16_384
BATCH_MAX = 1_000
PRIORITY_MAX = 1_000
LEASE_MS_MAX = 12 * 3600 * 1000
WAIT_MS_MAX = 60 * 1000
# Delays have no maximum in the contract. A thousand years keeps sums within 64 bits.
DELAY_MS_MAX = 1000 * 365 * 86400 * 1000
ATTEMPTS_MAX = 2**31 - 1
# Errors kept for one delivery; a run of messages that fail together shares them.
FAILURES_KEPT = 100

BLOCK_MESSAGES_MAX = 1_000
BLOCK_BYTES_MAX = 256 * 1024
# A message, its headers and their framing always fit in a block of their own.
FRAME_BYTES_MAX = BLOCK_BYTES_MAX + MESSAGE_BYTES_MAX + HEADERS_BYTES_MAX + 4096

TRUNCATED = "…[truncated]"


def check_name(kind: str, name: object) -> str:
    """Return ``name`` if it may name a topic or a subscriber, else raise ValidationError."""
    allowed = (
        f"a {kind} name is 1 to {NAME_BYTES_MAX} bytes of UTF-8 without '/', "
        "control characters, or spaces at either end, and not '.' or '..'"
    )
    if not isinstance(name, str):
        raise ValidationError(f"{kind} name must be text: {allowed}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValidationError(f"{kind} name is not valid Unicode: {allowed}") from None
    if not 1 <= size <= NAME_BYTES_MAX:
        raise ValidationError(f"{kind} name has {size} bytes: {allowed}")
    bad = any(char == "/" or unicodedata.category(char) == "Cc" for char in name)
    if bad or name != name.strip() or name in {".", ".."} or "\ufffd" in name:
        raise ValidationError(f"{kind} name {name!r} is not allowed: {allowed}")
    return name


def check_range(what: str, value: int, low: int, high: int, unit: str = "") -> int:
    """Return ``value`` if it is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValidationError(
            f"{what} must be a whole number from {low} to {high}{unit}, not {value!r}"
        )
    return value


def cut_reason(text: str) -> str:
    """Cut an error or a cancel reason to its limit, on a character boundary, and mark it."""
    raw = text.encode(errors="replace")
    if len(raw) <= REASON_BYTES_MAX:
        return raw.decode()
    room = REASON_BYTES_MAX - len(TRUNCATED.encode())
    return raw[:room].decode(errors="ignore") + TRUNCATED
