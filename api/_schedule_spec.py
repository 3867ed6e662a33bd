"""A schedule as a caller writes it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class ScheduleSpec(msgspec.Struct, frozen=True):
    """What to publish, and when.

    Args:
        name: 1 to 150 bytes, one schedule of that name in a topic.
        cron: minute, hour, day 1–31, month 1–12 or JAN–DEC, weekday 0–6 (Sunday is 0) or
            SUN–SAT. Each is ``*``, numbers, ranges ``a-b``, steps ``*/n``, ``a-b/n``, ``a/n``,
            or several of these with commas. If both days are restricted, either will do.
        message: text or bytes up to 1 MiB.
        timezone: an IANA name; the hours are those of its clocks. A time that they skip does
            not come that day, a time that they repeat comes twice.
        headers, correlation_id, priority: as in ``BlockQueue.publish``.
    """

    name: str
    cron: str
    message: str | bytes
    timezone: str = "UTC"
    headers: Mapping[str, str] | None = None
    correlation_id: str | None = None
    priority: int = 0
