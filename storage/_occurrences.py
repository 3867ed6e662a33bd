"""What a schedule does when it is due: occurrences.

An occurrence is a message, a row for the run and the move to the next time, all in one
write transaction. That transaction is the fence: however many processes look at what is
due, and wherever one of them dies, each occurrence happens once.
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import UTC, datetime

import msgspec

from . import meters
from ._cron import Cron
from ._errors import BlockQueueError, Conflict, ValidationError
from ._frames import pack_messages
from ._idempotency import Keyed
from ._publish import Batch, Published, publish_in
from ._schedule_runs import RunStatus, ScheduleRun, has_active_run, note_run, run_at
from ._schedules import COLUMNS, Schedule, schedule, schedule_of
from ._snapshot import Tx
from ._verb import verb

logger = logging.getLogger("blockqueue")

# How long one transaction goes on firing; the next one does the rest.
_STEP_S = 0.01
_STILL_ACTIVE = "skipped: a delivery of the previous run is not finished yet"


def fire_schedules_in(tx: Tx, limit: int = 100) -> int:
    """Fire what is due, the longest due first; return how many schedules that were.

    None: nothing is due. Fewer than ``limit`` may have been fired though more are due.
    A schedule that has missed several times fires once, for the first of them.
    """
    wall_ms = tx.store.clock.wall_ms()
    started = time.monotonic()
    count = 0
    while count < limit and (not count or time.monotonic() - started < _STEP_S):
        row = tx.row(
            f"SELECT {COLUMNS} FROM schedule"
            " WHERE next_run_ms <= ? AND paused = 0 AND deleted_ms IS NULL"
            " ORDER BY next_run_ms LIMIT 1",
            (wall_ms,),
        )
        if row is None:
            break
        _fire(tx, schedule_of(row), wall_ms)
        count += 1
    if count:
        tx.count(meters.SCHEDULE_CLAIMED, count)
        tx.count(meters.MAINTENANCE_ROWS["scheduler"], count)
    return count


def _fire(tx: Tx, due: Schedule, wall_ms: int) -> None:
    # There is a run if the wall's clock was set back and the schedule replaced meanwhile.
    if run_at(tx, due, due.next_run_ms) is None:
        _occur(tx, due, due.next_run_ms)
    unchanged = " WHERE id = ? AND version = ? AND next_run_ms = ? AND paused = 0"
    guard = (due.id, due.version, due.next_run_ms)
    next_ms = _next_after(due, wall_ms)
    if next_ms is None:
        tx.change(
            "UPDATE schedule SET paused = 1, version = version + 1, updated_ms = ?" + unchanged,
            (tx.now_ms, *guard),
        )
    else:
        tx.change("UPDATE schedule SET next_run_ms = ?" + unchanged, (next_ms, *guard))


def _next_after(due: Schedule, wall_ms: int) -> int | None:
    """Return when it is due again; None: never, or this machine does not know its zone."""
    try:
        next_ms = Cron.parse(due.cron, due.timezone).next_after(wall_ms)
    except ValidationError as error:
        logger.warning("schedule %s is paused, its next run is unknown: %s", due.uid, error)
        return None
    if next_ms is None:
        logger.warning("schedule %s is paused: it is not due again within 5 years", due.uid)
    return next_ms


def run_schedule_now_in(
    tx: Tx, topic_id: int, uid: str, force: bool = False
) -> tuple[ScheduleRun, BlockQueueError | None]:
    """Let a schedule occur now, even a paused one; its next run stays as it is.

    Returns the run and, if it failed, why: the caller gets that as an error, after the
    commit. While the previous run is active the new one is skipped, unless ``force``.
    Raises ScheduleNotFound.
    """
    found = schedule(tx, topic_id, uid)
    at_ms = tx.store.clock.wall_ms()
    while at_ms == found.next_run_ms or run_at(tx, found, at_ms) is not None:
        at_ms += 1
    error = _occur(tx, found, at_ms, force)
    run = run_at(tx, found, at_ms)
    assert run is not None
    return run, error


def _occur(tx: Tx, due: Schedule, scheduled_ms: int, force: bool = False) -> BlockQueueError | None:
    """Publish a schedule's message and note the run; return why it failed, if it did."""
    if not force and has_active_run(tx, due):
        note_run(tx, due, scheduled_ms, RunStatus.SKIPPED, error=_STILL_ACTIVE)
        tx.count(meters.SCHEDULE_SKIPPED)
        return None
    try:
        published = _publish(tx, due, scheduled_ms)
    except Conflict as error:
        note_run(tx, due, scheduled_ms, RunStatus.FAILED, error=str(error))
        tx.count(meters.SCHEDULE_FAILED)
        return error
    note_run(tx, due, scheduled_ms, RunStatus.RUNNING, published)
    tx.count(meters.SCHEDULE_PUBLISHED)
    return None


def _publish(tx: Tx, due: Schedule, scheduled_ms: int) -> Published:
    """Publish an occurrence's message. Raises NoSubscribers, IdempotencyConflict."""
    key = f"{due.uid}:{_rfc3339(scheduled_ms)}"
    body = msgspec.structs.replace(due.body, idempotency_key=key)
    packed = pack_messages([body])
    fingerprint = hashlib.blake2b(packed, digest_size=16).digest()
    keyed = Keyed([body], [key], [fingerprint])
    (published,) = publish_in(tx, due.topic_id, [Batch(1, packed, due.priority, keyed=keyed)])
    return published


def _rfc3339(ms: int) -> str:
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{ms % 1000:03}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


fire_schedules = verb(fire_schedules_in)
run_schedule_now = verb(run_schedule_now_in)
