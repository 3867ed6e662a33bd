"""Cron expressions: what is allowed, and when they come, by a slow and plain reference."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blockqueue import ValidationError
from blockqueue.storage._cron import Cron

MINUTE = timedelta(minutes=1)


def ms(at: datetime) -> int:
    """Return a time as the queue has it."""
    return round(at.timestamp()) * 1000


def times(expression: str, zone: str, after: datetime, count: int) -> list[str]:
    """Return the next times, in UTC, to the minute."""
    cron = Cron.parse(expression, zone)
    found: list[str] = []
    at: int | None = ms(after)
    for _ in range(count):
        assert at is not None
        at = cron.next_after(at)
        assert at is not None
        assert at % 60_000 == 0
        found.append(datetime.fromtimestamp(at / 1000, UTC).isoformat()[:16])
    return found


# What is allowed.


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("* * * * *", "* * * * *"),
        ("  0\t12  ? * ? ", "0 12 * * *"),
        ("0,30 9-17 1,15 * *", "0,30 9,10,11,12,13,14,15,16,17 1,15 * *"),
        ("*/20 0 * * *", "0,20,40 0 * * *"),
        ("5/20 0 * * *", "5,25,45 0 * * *"),
        ("0-10/5,59 0 * * *", "0,5,10,59 0 * * *"),
        ("*/100 0 * * *", "0 0 * * *"),
        ("00 07 * * *", "0 7 * * *"),
        ("0 0 * jan-MAR,Dec mon", "0 0 * 1,2,3,12 1"),
        ("0 0 * * SUN-TUE/2", "0 0 * * 0,2"),
        ("0 0 * * 5/1", "0 0 * * 5,6"),
        ("0 0 */1 * MON", "0 0 * * 1"),
        ("0 0 5,* * MON", "0 0 * * 1"),
        ("0 0 1-31 * MON", f"0 0 {','.join(map(str, range(1, 32)))} * 1"),
        ("0 0 */2 * MON", f"0 0 {','.join(map(str, range(1, 32, 2)))} * 1"),
    ],
)
def test_what_fields_may_say(expression: str, plain: str) -> None:
    """Each is written out; only an unrestricted one stays a star."""
    assert Cron.parse(expression, "UTC").plain == plain


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("", "0 fields, not 5: minute, hour"),
        ("* * * *", "4 fields, not 5"),
        ("* * * * * *", "6 fields, not 5"),
        ("CRON_TZ=UTC 0 0 * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("60 * * * *", "the minute is 0 to 59"),
        ("-1 * * * *", "the minute"),
        ("* 24 * * *", "the hour is 0 to 23"),
        ("* * 0 * *", "the day of the month is 1 to 31"),
        ("* * 32 * *", "the day of the month"),
        ("* * * 0 *", "the month is 1 to 12 or JAN-DEC"),
        ("* * * 13 *", "the month"),
        ("* * * MON *", "the month"),
        ("* * * * 7", "the weekday is 0 to 6 or SUN-SAT"),
        ("* * * * FEB", "the weekday"),
        ("* * * * MONDAY", "the weekday"),
        ("* * L * *", "the day of the month"),
        ("* * 15W * *", "the day of the month"),
        ("* * * * 5L", "the weekday"),
        ("* * * * 1#2", "the weekday"),
        ("* * * * FRI-MON", "the weekday"),
        ("50-10 * * * *", "the minute"),
        ("*/0 * * * *", "the minute"),
        ("*/-1 * * * *", "the minute"),
        ("*-5 * * * *", "the minute"),
        ("1-2-3 * * * *", "the minute"),
        ("1/2/3 * * * *", "the minute"),
        ("1, * * * *", "the minute"),
        ("+5 * * * *", "the minute"),
        ("٥ * * * *", "ASCII"),
        ("* * * * ſun", "ASCII"),
        ("0" * 2000 + " * * * *", "at most 1000"),
        ("0" * 900 + " * * * *", "the minute"),
        (None, "text"),
        (5, "text"),
    ],
)
def test_what_fields_may_not_say(expression: str, told: str) -> None:
    """The error names the field and what it may be."""
    with pytest.raises(ValidationError, match=told):
        Cron.parse(expression, "UTC")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"])
def test_zones_go_by_their_names(zone: str) -> None:
    """Those of the IANA database."""
    assert Cron.parse("* * * * *", zone).zone.key == zone


@pytest.mark.parametrize(
    "zone",
    [
        *("", "Mars/Olympus", "Europe", "Europe/", "/etc/localtime", "../etc/passwd", "localtime"),
        *("Europe/../UTC", "posix/UTC", "right/UTC", "posixrules", "Factory", "tzdata.zi", "Local"),
        *("UTC\0", " UTC", "UTC\n", "A" * 5000, "Europe/Berlin/Mitte/Ost", "+01:00", None, 1),
    ],
)
def test_other_zones_are_refused(zone: str) -> None:
    """Whatever the machine's directory of zones happens to hold."""
    with pytest.raises(ValidationError, match=r"time zone .* is not known: use an IANA name"):
        Cron.parse("* * * * *", zone)


# When they come.


def test_the_next_time_is_after_and_not_at_the_given_one() -> None:
    """To the millisecond."""
    cron = Cron.parse("0 12 * * *", "UTC")
    noon = ms(datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert cron.next_after(noon - 1) == noon
    assert cron.next_after(noon) == noon + 86_400_000
    assert cron.next_after(noon + 1) == noon + 86_400_000


def test_either_day_will_do_if_both_are_restricted() -> None:
    """The 13th, and every Friday."""
    assert times("0 0 13 * FRI", "UTC", datetime(2026, 2, 1, tzinfo=UTC), 4) == [
        *("2026-02-06T00:00", "2026-02-13T00:00", "2026-02-20T00:00", "2026-02-27T00:00")
    ]
    assert times("0 0 10 * FRI", "UTC", datetime(2026, 2, 5, tzinfo=UTC), 3) == [
        *("2026-02-06T00:00", "2026-02-10T00:00", "2026-02-13T00:00")
    ]
    # A step makes a star a restriction.
    assert times("0 0 */10 * FRI", "UTC", datetime(2026, 2, 5, tzinfo=UTC), 3) == [
        *("2026-02-06T00:00", "2026-02-11T00:00", "2026-02-13T00:00")
    ]


def test_both_must_be_right_if_one_is_a_star() -> None:
    """A star is right every day."""
    assert times("0 0 * * FRI", "UTC", datetime(2026, 2, 1, tzinfo=UTC), 2) == [
        *("2026-02-06T00:00", "2026-02-13T00:00")
    ]
    assert times("0 0 13 * */1", "UTC", datetime(2026, 2, 1, tzinfo=UTC), 2) == [
        *("2026-02-13T00:00", "2026-03-13T00:00")
    ]


def test_a_time_that_the_clocks_skip_does_not_come_that_day() -> None:
    """In Berlin 02:30 on 29 March 2026."""
    assert times("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), 3) == [
        *("2026-03-28T01:30", "2026-03-30T00:30", "2026-03-31T00:30")
    ]


def test_a_time_that_the_clocks_repeat_comes_twice() -> None:
    """In Berlin 02:30 on 25 October 2026."""
    assert times("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 3) == [
        *("2026-10-25T00:30", "2026-10-25T01:30", "2026-10-26T01:30")
    ]


def test_a_day_that_a_zone_skips_has_no_times() -> None:
    """Samoa had no 30 December 2011."""
    assert times("0 12 * * *", "Pacific/Apia", datetime(2011, 12, 29, 0, tzinfo=UTC), 3) == [
        *("2011-12-29T22:00", "2011-12-30T22:00", "2011-12-31T22:00")
    ]
    assert times("0 12 30 12 *", "Pacific/Apia", datetime(2011, 1, 1, tzinfo=UTC), 1) == [
        "2012-12-29T22:00"
    ]


@pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30-31 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_comes(expression: str) -> None:
    """It is found out at once."""
    assert Cron.parse(expression, "Europe/Berlin").next_after(ms(datetime(2026, 1, 1))) is None


def test_a_leap_day_comes_if_it_is_within_five_years() -> None:
    """The year 2100 has none."""
    cron = Cron.parse("0 0 29 2 *", "UTC")
    leap = ms(datetime(2096, 2, 29, tzinfo=UTC))
    assert cron.next_after(ms(datetime(2092, 3, 1, tzinfo=UTC))) == leap
    assert cron.next_after(leap) is None
    assert cron.next_after(ms(datetime(2099, 3, 1, tzinfo=UTC))) == ms(
        datetime(2104, 2, 29, tzinfo=UTC)
    )


def test_a_time_before_the_epoch_is_a_time_too() -> None:
    """A clock may be set to anything."""
    cron = Cron.parse("30 0 * * *", "UTC")
    assert cron.next_after(-1) == 30 * 60_000
    assert cron.next_after(-86_400_000) == -86_400_000 + 30 * 60_000


# The reference: look at each minute.


class Expression(NamedTuple):
    """An expression with a plain test of each field."""

    text: str
    matches: Callable[[datetime], bool]


class _Field(NamedTuple):
    text: str
    values: frozenset[int]
    is_star: bool


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> _Field:
    """Draw a field and what it stands for."""
    kind = draw(st.sampled_from(["star", "step", "number", "range", "from", "list"]))
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, high))
    if kind == "star":
        return _Field(draw(st.sampled_from("*?")), frozenset(range(low, high + 1)), True)
    if kind == "step":
        return _Field(f"*/{step}", frozenset(range(low, high + 1, step)), step == 1)
    if kind == "number":
        return _Field(f"{first}", frozenset({first}), False)
    if kind == "range":
        return _Field(f"{first}-{last}/{step}", frozenset(range(first, last + 1, step)), False)
    if kind == "from":
        return _Field(f"{first}/{step}", frozenset(range(first, high + 1, step)), False)
    return _Field(f"{first},{last}", frozenset({first, last}), False)


@st.composite
def expressions(draw: st.DrawFn) -> Expression:
    """Draw an expression; months are free, or the search would take for ever."""
    minute, hour = draw(fields(0, 59)), draw(fields(0, 23))
    day, weekday = draw(fields(1, 31)), draw(fields(0, 6))

    def matches(local: datetime) -> bool:
        by_day = local.day in day.values
        by_weekday = local.isoweekday() % 7 in weekday.values
        both = day.is_star or weekday.is_star
        days = (by_day and by_weekday) if both else (by_day or by_weekday)
        return days and local.minute in minute.values and local.hour in hour.values

    return Expression(f"{minute.text} {hour.text} {day.text} * {weekday.text}", matches)


EVERY_MINUTE = Expression("* * * * *", lambda local: True)
HALF_PAST = Expression("*/30 * * * *", lambda local: local.minute in {0, 30})
#: Where clocks are changed: zone, time, and how long before and after it is looked at.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 15, 2, tzinfo=UTC)),
    ("UTC", datetime(2026, 12, 31, 23, 30, tzinfo=UTC)),
]


def reference(expression: Expression, zone: str, after: datetime, until: datetime) -> list[int]:
    """Return the times in (after, until] by looking at each minute."""
    found: list[int] = []
    at = after.replace(second=0, microsecond=0)
    while at <= until:
        if at > after and expression.matches(at.astimezone(ZoneInfo(zone))):
            found.append(ms(at))
        at += MINUTE
    return found


def all_times(text: str, zone: str, after: datetime, until: datetime) -> list[int]:
    """Return the times in (after, until]."""
    cron = Cron.parse(text, zone)
    found: list[int] = []
    at = cron.next_after(ms(after))
    while at is not None and at <= ms(until):
        found.append(at)
        at = cron.next_after(at)
    return found


@given(
    expression=expressions(),
    change=st.sampled_from(CHANGES),
    minutes_before=st.integers(0, 26 * 60),
)
@example(EVERY_MINUTE, CHANGES[1], 90)
@example(EVERY_MINUTE, CHANGES[4], 90)
@example(EVERY_MINUTE, CHANGES[6], 90)
@example(HALF_PAST, CHANGES[5], 90)
def test_times_around_changed_clocks_are_those_of_the_reference(
    expression: Expression, change: tuple[str, datetime], minutes_before: int
) -> None:
    """Each instant whose local time matches, each once, in order, and no other."""
    zone, changed = change
    after, until = changed - minutes_before * MINUTE, changed + timedelta(hours=26)

    expected = reference(expression, zone, after, until)

    assert all_times(expression.text, zone, after, until) == expected
