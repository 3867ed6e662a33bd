"""Cron expressions in a time zone: when is the next time?

cronsim evaluates the fields, on times without a zone. What a zone does to them is done
here: a local time that its clocks skip does not come that day, one that they repeat comes
twice. cronsim allows more than our contract does, and takes ``*/2`` for unrestricted, so
each field is checked and written out as a list of numbers before it sees any.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from ._errors import ValidationError

_EXPRESSION_CHARS_MAX = 1_000
_SHOWN_CHARS_MAX = 60
_HORIZON = timedelta(days=5 * 366)
# No zone changes its clocks twice within a day.
_PROBE = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# a, a-b or *, each with a step or not. Which numbers and names are allowed is the field's.
_ITEM = re.compile(r"(?:([*?])|(\w+)(?:-(\w+))?)(?:/([0-9]+))?", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][\w+-]*(/[A-Za-z][\w+-]*){0,2}", re.ASCII)
# Found beside the zones on many machines: other machines have none of these, or others.
_NOT_ZONES = {"posix", "right", "posixrules", "localtime", "Factory"}


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def allowed(self) -> str:
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return (
            f"the {self.name} is {self.low} to {self.high}{named}: *, numbers, "
            "ranges a-b and steps */n, a-b/n or a/n, separated by commas"
        )

    def plain(self, text: str) -> str:
        """Return the field as ``*`` if it is unrestricted, else as a list of numbers."""
        items = text.split(",")
        found = [self._numbers(item) for item in items]
        everything = self.high - self.low + 1
        for item, numbers in zip(items, found, strict=True):
            if item[0] in "*?" and len(numbers) == everything:
                return "*"
        return ",".join(map(str, sorted(set().union(*found))))

    def _numbers(self, item: str) -> set[int]:
        found = _ITEM.fullmatch(item)
        if found is None:
            raise self._bad(item)
        star, first, last, step_text = found.groups()
        step = 1 if step_text is None else int(step_text)
        low = self.low if star else self._number(first, item)
        if last is not None:
            high = self._number(last, item)
        else:
            high = self.high if star or step_text is not None else low
        if step < 1 or low > high:
            raise self._bad(item)
        return set(range(low, high + 1, step))

    def _number(self, text: str, item: str) -> int:
        if text in self.names:
            return self.low + self.names.index(text)
        if not text.isdecimal() or len(text) > 4 or not self.low <= int(text) <= self.high:
            raise self._bad(item)
        return int(text)

    def _bad(self, item: str) -> ValidationError:
        return ValidationError(
            f"cron: {item[:_SHOWN_CHARS_MAX]!r} is not allowed: {self.allowed()}"
        )


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, tuple(_MONTHS)),
    _Field("weekday", 0, 6, tuple(_WEEKDAYS)),
)


class Cron(msgspec.Struct, frozen=True):
    """A cron expression that was found to be right, and its zone."""

    #: Five fields that mean the same to everybody: numbers and ``*`` only.
    plain: str
    zone: ZoneInfo

    @classmethod
    def parse(cls, expression: str, timezone: str) -> Self:
        """Return a cron expression. Raises ValidationError, which says what is allowed."""
        if (
            not isinstance(expression, str)
            or not expression.isascii()
            or len(expression) > _EXPRESSION_CHARS_MAX
        ):
            raise ValidationError(
                "the cron expression must be text of at most"
                f" {_EXPRESSION_CHARS_MAX} ASCII characters"
            )
        texts = expression.upper().split()
        if len(texts) != len(_FIELDS):
            raise ValidationError(
                f"cron: {expression[:_SHOWN_CHARS_MAX]!r} has {len(texts)} fields, not 5: "
                "minute, hour, day of the month, month, weekday"
            )
        fields = [field.plain(text) for field, text in zip(_FIELDS, texts, strict=True)]
        return cls(" ".join(fields), _zone(timezone))

    def next_after(self, wall_ms: int) -> int | None:
        """Return the first time after ``wall_ms``, in the same unit; None: not in 5 years."""
        at = _EPOCH + timedelta(seconds=wall_ms // 1000)
        limit = at + _HORIZON
        offset = self._offset(at)
        local = _local(at, offset)
        while True:
            match = self._next_local(local)
            if match is None:
                return None
            found = match.replace(tzinfo=UTC) - offset
            changed = self._next_change(at, min(found, limit), offset)
            if changed is None:
                return (found - _EPOCH) // _SECOND * 1000 if found <= limit else None
            # The zone's clocks are set before that: look on from what they are set to.
            at, offset = changed, self._offset(changed)
            local = _local(at, offset) - _SECOND

    def _next_local(self, after: datetime) -> datetime | None:
        try:
            return next(CronSim(self.plain, after))
        except (CronSimError, StopIteration):  # the 31st of February, say
            return None

    def _next_change(self, after: datetime, until: datetime, offset: timedelta) -> datetime | None:
        """Return the first second in (after, until] whose offset is another than ``offset``."""
        while after < until:
            probe = min(after + _PROBE, until)
            if self._offset(probe) != offset:
                return self._bisect(after, probe, offset)
            after = probe
        return None

    def _bisect(self, before: datetime, changed: datetime, offset: timedelta) -> datetime:
        while changed - before > _SECOND:
            middle = before + timedelta(seconds=(changed - before) // _SECOND // 2)
            if self._offset(middle) == offset:
                before = middle
            else:
                changed = middle
        return changed

    def _offset(self, at: datetime) -> timedelta:
        offset = at.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset


def _local(at: datetime, offset: timedelta) -> datetime:
    return (at + offset).replace(tzinfo=None)


def _zone(key: str) -> ZoneInfo:
    unknown = ValidationError(
        f"the time zone {str(key)[:_SHOWN_CHARS_MAX]!r} is not known: "
        "use an IANA name like Europe/Berlin, or UTC"
    )
    if not isinstance(key, str) or not _ZONE.fullmatch(key):
        raise unknown
    if key.split("/")[0] in _NOT_ZONES:
        raise unknown
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a directory is an OSError
        raise unknown from None
