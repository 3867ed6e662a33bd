"""Schedules: a message that is to be published again and again, by a cron expression."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from . import limits
from ._cron import Cron
from ._errors import AlreadyExists, ScheduleNotFound, StaleVersion, ValidationError
from ._frames import Envelope
from ._pages import After, Page, page_of
from ._snapshot import Row, Snapshot, Tx
from ._topology import topic
from ._verb import verb

COLUMNS = (
    "uid, topic_id, name, cron, timezone, message, priority, paused, version, next_run_ms,"
    " created_ms, updated_ms, id"
)


class SchedulePlan(msgspec.Struct, frozen=True):
    """All of a schedule that its owner decides: what is published, and when.

    ``name``: 1 to 150 bytes. ``cron``: five fields, see ``Cron``, in ``timezone``, an IANA
    name. Whoever makes ``body`` has checked its sizes.
    """

    name: str
    cron: str
    body: Envelope
    timezone: str = "UTC"
    priority: int = 0

    def first_ms(self, wall_ms: int) -> int:
        """Return the first time after ``wall_ms`` that it is due.

        Raises ValidationError naming the first thing that is wrong.
        """
        _check_name(self.name)
        limits.check_range("priority", self.priority, -limits.PRIORITY_MAX, limits.PRIORITY_MAX)
        due_ms = Cron.parse(self.cron, self.timezone).next_after(wall_ms)
        if due_ms is None:
            raise ValidationError(f"cron: {self.cron!r} is not due within five years")
        return due_ms


class Schedule(msgspec.Struct, frozen=True):
    """A schedule as stored. ``next_run_ms`` is the wall's time, the others are the queue's.

    ``version`` rises with every change by a caller, not when it fires.
    """

    uid: str
    topic_id: int
    name: str
    cron: str
    timezone: str
    body: Envelope
    priority: int
    paused: bool
    version: int
    next_run_ms: int
    created_ms: int
    updated_ms: int
    id: int


def schedule_of(row: Row) -> Schedule:
    """Return what the ``COLUMNS`` of a row say."""
    values: list[Any] = list(row)
    values[5], values[7] = Envelope(*msgspec.msgpack.decode(row[5])), bool(row[7])
    return Schedule(*values)


def schedule(snapshot: Snapshot, topic_id: int, uid: str) -> Schedule:
    """Return a topic's schedule. Raises ScheduleNotFound, also if ``uid`` is no UUID."""
    try:
        canonical = str(uuid.UUID(uid))
    except (ValueError, TypeError, AttributeError):
        canonical = ""
    row = snapshot.row(
        f"SELECT {COLUMNS} FROM schedule WHERE uid = ? AND topic_id = ? AND deleted_ms IS NULL",
        (canonical, topic_id),
    )
    if row is None:
        raise ScheduleNotFound("the topic has no such schedule")
    return schedule_of(row)


def schedule_page(
    snapshot: Snapshot, topic_id: int, limit: int, after: After | None = None
) -> Page[Schedule]:
    """Return some of a topic's schedules, by name; ``after`` is (name, number)."""
    rows = snapshot.rows(
        f"SELECT {COLUMNS} FROM schedule WHERE topic_id = ? AND deleted_ms IS NULL"
        " AND (name, id) > (?, ?) ORDER BY name, id LIMIT ?",
        (topic_id, *(after or ("", 0)), limit + 1),
    )
    return page_of(map(schedule_of, rows), limit, lambda found: (found.name, found.id))


def create_schedule_in(tx: Tx, topic_id: int, plan: SchedulePlan) -> Schedule:
    """Make a schedule; its first run is the next time that it is due.

    Raises:
        TopicNotFound, AlreadyExists: another schedule of the topic has the name.
        ValidationError: something is out of range, or it is never due within five years.
    """
    topic(tx, topic_id)
    due_ms = plan.first_ms(tx.store.clock.wall_ms())
    _check_free(tx, topic_id, plan.name)
    uid = str(uuid.uuid4())
    tx.change(
        "INSERT INTO schedule (uid, topic_id, name, cron, timezone, message, priority, paused,"
        " version, next_run_ms, created_ms, updated_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1, ?, ?, ?)",
        (uid, topic_id, *_values(plan), due_ms, tx.now_ms, tx.now_ms),
    )
    return schedule(tx, topic_id, uid)


def update_schedule_in(
    tx: Tx, topic_id: int, uid: str, plan: SchedulePlan, version: int
) -> Schedule:
    """Replace all of a schedule that its owner decides; the next run is reckoned from now.

    Raises:
        ScheduleNotFound, AlreadyExists.
        StaleVersion: it has another version than the one that the caller has seen.
        ValidationError: something is out of range, or it is never due within five years.
    """
    due_ms = plan.first_ms(tx.store.clock.wall_ms())
    found = schedule(tx, topic_id, uid)
    if found.version != version:
        raise StaleVersion(
            f"the schedule has version {found.version}, not {version}: read it again"
        )
    if plan.name != found.name:
        _check_free(tx, topic_id, plan.name)
    tx.change(
        "UPDATE schedule SET name = ?, cron = ?, timezone = ?, message = ?, priority = ?,"
        " next_run_ms = ?, updated_ms = ?, version = version + 1"
        " WHERE id = ? AND version = ? AND deleted_ms IS NULL",
        (*_values(plan), due_ms, tx.now_ms, found.id, version),
    )
    return schedule(tx, topic_id, uid)


def pause_schedule_in(tx: Tx, topic_id: int, uid: str, paused: bool) -> None:
    """Pause or resume a schedule. It keeps its next run: if that is past, one run fires.

    Raises ScheduleNotFound.
    """
    found = schedule(tx, topic_id, uid)
    tx.change(
        "UPDATE schedule SET paused = ?, updated_ms = ?, version = version + 1"
        " WHERE id = ? AND version = ? AND deleted_ms IS NULL",
        (int(paused), tx.now_ms, found.id, found.version),
    )


def delete_schedule_in(tx: Tx, topic_id: int, uid: str) -> None:
    """Delete a schedule; its name is free. Its runs go later, its messages stay.

    Raises ScheduleNotFound.
    """
    tx.change(
        "UPDATE schedule SET deleted_ms = ? WHERE id = ? AND deleted_ms IS NULL",
        (tx.now_ms, schedule(tx, topic_id, uid).id),
    )


def next_schedule_ms(snapshot: Snapshot) -> int | None:
    """Return when the next schedule of any topic is due, in the wall's time."""
    row = snapshot.row(
        "SELECT min(next_run_ms) FROM schedule WHERE paused = 0 AND deleted_ms IS NULL"
    )
    return None if row is None else row[0]


def _values(plan: SchedulePlan) -> tuple[str, str, str, bytes, int]:
    return plan.name, plan.cron, plan.timezone, msgspec.msgpack.encode(plan.body), plan.priority


def _check_name(name: object) -> None:
    allowed = f"a schedule name is 1 to {limits.NAME_BYTES_MAX} bytes of UTF-8"
    try:
        size = len(name.encode()) if isinstance(name, str) else 0
    except UnicodeEncodeError:
        raise ValidationError(f"schedule name is not valid Unicode: {allowed}") from None
    if not 1 <= size <= limits.NAME_BYTES_MAX:
        raise ValidationError(f"schedule name {str(name)[:60]!r} is not allowed: {allowed}")


def _check_free(tx: Tx, topic_id: int, name: str) -> None:
    if tx.row(
        "SELECT 1 FROM schedule WHERE topic_id = ? AND name = ? AND deleted_ms IS NULL",
        (topic_id, name),
    ):
        raise AlreadyExists(f"schedule {name!r} exists already")


create_schedule = verb(create_schedule_in)
update_schedule = verb(update_schedule_in)
pause_schedule = verb(pause_schedule_in)
delete_schedule = verb(delete_schedule_in)
