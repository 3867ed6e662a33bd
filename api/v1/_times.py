"""Times and durations as ``/v1`` writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from blockqueue.api._durations import milliseconds
from blockqueue.storage import ValidationError, limits

#: A millisecond, in nanoseconds.
MS = 1_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART = re.compile(r"([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


@lru_cache(maxsize=4096)  # what was published or claimed together has the same times
def timestamp(ms: int) -> str:
    """Return a time as RFC 3339 in UTC, without needless zeros."""
    try:
        moment = _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:  # it is as good as never, or ever
        moment = datetime.max if ms > 0 else datetime.min
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.rstrip("0").rstrip(".") + "Z"


def whole_second(ms: int) -> str:
    """Return a time as RFC 3339 without the fraction of its second."""
    return timestamp(ms - ms % 1000)


def nanoseconds(what: str, text: str) -> int:
    """Return a duration exactly, so that one just outside of a range is refused.

    Raises ValidationError.
    """
    milliseconds(what, text)  # which knows the grammar
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        digits = int(whole + fraction or "0")
        total += digits * _NANOSECONDS[unit] // 10 ** len(fraction)
    return -total if text.startswith("-") else total


def within(what: str, text: str, low_ns: int, high_ms: int, allowed: str) -> int:
    """Return a duration of a range in milliseconds, at least one unless it is zero.

    Raises ValidationError, which says what is ``allowed``.
    """
    ns = nanoseconds(what, text)
    if not low_ns <= ns <= high_ms * MS:
        raise ValidationError(f"{what} must be {allowed}, not {text}")
    return max(1 if ns else 0, round(ns / MS))


def lease_ms(what: str, text: str | None) -> int | None:
    """Return how long a lease or its extension lasts; None: as the subscriber has it."""
    allowed = "more than zero and at most 12h"
    return within(what, text, 1, limits.LEASE_MS_MAX, allowed) if text else None


def delay_ms(what: str, text: str | None) -> int:
    """Return a delay, which may be zero. Raises ValidationError."""
    allowed = "zero or more, and at most 1000 years"
    return within(what, text, 0, limits.DELAY_MS_MAX, allowed) if text else 0
