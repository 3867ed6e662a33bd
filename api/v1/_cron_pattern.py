"""What a cron expression looks like, as a pattern for the document.

It leaves open what a pattern cannot say: that a range goes upwards, and that the day comes.
"""

from __future__ import annotations

from collections.abc import Sequence


def _any_case(names: Sequence[str]) -> str:
    """Return a pattern of names; not every reader of schemas can be told to ignore case."""
    return "|".join(
        "".join(f"[{letter.upper()}{letter.lower()}]" for letter in name) for name in names
    )


def _field(numbers: str, names: Sequence[str] = ()) -> str:
    value = f"(0{{0,2}}({numbers})" + (f"|{_any_case(names)})" if names else ")")
    item = f"([*?]|{value}(-{value})?)(/0*[1-9][0-9]*)?"
    return f"{item}(,{item})*"


_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
_FIELDS = (
    _field("[1-5]?[0-9]"),
    _field("1?[0-9]|2[0-3]"),
    _field("[1-9]|[12][0-9]|3[01]"),
    _field("[1-9]|1[0-2]", _MONTHS),
    _field("[0-6]", _WEEKDAYS),
)
CRON_PATTERN = f"^ *{' +'.join(_FIELDS)} *$"
