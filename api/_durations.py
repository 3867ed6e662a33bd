"""Durations as people write them: seconds, ``timedelta``, or text as in Go ("1h30m")."""

from __future__ import annotations

import re
from datetime import timedelta

import durationpy

from blockqueue.storage import ValidationError

Duration = int | float | timedelta | str

# Go's grammar. durationpy alone would also take days, gaps and strange numbers.
_GO = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_TEXT_MAX = 64
# What a timedelta can hold. Each use has a smaller maximum of its own, or needs none.
_SECONDS_MAX = 86_400e9


def milliseconds(what: str, value: Duration) -> int:
    """Return a duration in whole milliseconds.

    Args:
        what: its name in an error's text.
        value: seconds, a timedelta, or a Go duration: units ns us µs ms s m h.

    Raises:
        ValidationError: it is none of these, or not finite.
    """
    seconds: float
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse(what, value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValidationError(f"{what} must be seconds, a timedelta or text, not {value!r}")
    else:
        seconds = value
    if not abs(seconds) <= _SECONDS_MAX:  # not a number is not, either
        raise ValidationError(f"{what} must be finite, at most {_SECONDS_MAX:g} s, not {value!r}")
    return round(seconds * 1000)


def _parse(what: str, text: str) -> float:
    if len(text) > _TEXT_MAX or not _GO.fullmatch(text):
        raise ValidationError(
            f"{what} {text[:_TEXT_MAX]!r} is not a duration: write numbers with units, "
            "like 300ms, 5s or 1h30m"
        )
    try:
        parsed: timedelta = durationpy.from_str(text)
    except durationpy.DurationError as error:
        raise ValidationError(f"{what} {text!r} is not a duration: {error}") from error
    return parsed.total_seconds()
