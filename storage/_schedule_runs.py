"""The runs of schedules: what has become of each occurrence, and how long that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec

from ._ids import message_id, public_id
from ._pages import After, Page, page_of
from ._publish import Published
from ._schedules import Schedule
from ._snapshot import Row, Snapshot, Tx
from ._states import State

_ROWS_MAX = 1_000
_KEPT_MS = 30 * 86400 * 1000
_NO_ID = 2**63 - 1


class RunStatus(IntEnum):
    """What has become of an occurrence. The numbers are stored."""

    #: Published; at least one delivery of the message is unfinished.
    RUNNING = 0
    #: Every delivery is processed, dead or cancelled.
    COMPLETED = 1
    #: Not published, because the previous run was active.
    SKIPPED = 2
    #: Not published, because it could not be: nobody subscribes, say.
    FAILED = 3


class ScheduleRun(msgspec.Struct, frozen=True):
    """An occurrence of a schedule. ``scheduled_ms`` is the wall's time, the others the queue's."""

    id: str
    schedule_uid: str
    message_id: str | None
    scheduled_ms: int
    started_ms: int
    finished_ms: int | None
    status: str
    error: str | None
    created_ms: int


_RUN = "id, scheduled_ms, status, started_ms, finished_ms, error, created_ms, priority, seq, tag"


def _run_of(snapshot: Snapshot, owner: Schedule, row: Row) -> ScheduleRun:
    number, scheduled_ms, status, started_ms, finished_ms, error, created_ms, *place = row
    return ScheduleRun(
        public_id(snapshot.store.secret, "run", number),
        owner.uid,
        None if place[1] is None else message_id(owner.topic_id, *place),
        scheduled_ms,
        started_ms,
        finished_ms,
        RunStatus(status).name.lower(),
        error,
        created_ms,
    )


def run_page(
    snapshot: Snapshot, owner: Schedule, limit: int, after: After | None = None
) -> Page[ScheduleRun]:
    """Return some of a schedule's runs, the latest first; ``after`` is (time, number)."""
    rows = snapshot.rows(
        f"SELECT {_RUN} FROM schedule_run WHERE schedule_id = ?"
        " AND (scheduled_ms, id) < (?, ?) ORDER BY scheduled_ms DESC, id DESC LIMIT ?",
        (owner.id, *(after or (_NO_ID, _NO_ID)), limit + 1),
    )
    page = page_of(rows, limit, lambda row: (row[1], row[0]))
    return Page([_run_of(snapshot, owner, row) for row in page.items], page.after)


def run_at(snapshot: Snapshot, owner: Schedule, scheduled_ms: int) -> ScheduleRun | None:
    """Return a schedule's run for one time, if there is one."""
    row = snapshot.row(
        f"SELECT {_RUN} FROM schedule_run WHERE schedule_id = ? AND scheduled_ms = ?",
        (owner.id, scheduled_ms),
    )
    return None if row is None else _run_of(snapshot, owner, row)


def note_run(
    tx: Tx,
    owner: Schedule,
    scheduled_ms: int,
    status: RunStatus,
    published: Published | None = None,
    error: str | None = None,
) -> None:
    """Note that a schedule has occurred, and the message that was published for it."""
    place: tuple[int | None, ...] = (None, None, None)
    if published is not None:
        place = (published.priority, published.first_seq, published.tag)
    finished_ms = None if status is RunStatus.RUNNING else tx.now_ms
    tx.change(
        "INSERT INTO schedule_run (schedule_id, scheduled_ms, status, started_ms, finished_ms,"
        " error, created_ms, priority, seq, tag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (owner.id, scheduled_ms, int(status), tx.now_ms, finished_ms, error, tx.now_ms, *place),
    )


# A delivery of the run's message is unfinished: its row says so, or it has none and was not
# handed out yet. The cursor of a subscriber that came later begins above the message.
_UNFINISHED = f"""EXISTS (
    SELECT 1 FROM subscriber
    LEFT JOIN cursor ON cursor.subscriber_id = subscriber.id AND cursor.priority = run.priority
    WHERE subscriber.topic_id = schedule.topic_id AND subscriber.deleted_ms IS NULL
    AND coalesce(
        (SELECT CASE WHEN first_seq + count > run.seq THEN state END FROM delivery
         WHERE delivery.subscriber_id = subscriber.id AND delivery.priority = run.priority
         AND first_seq <= run.seq ORDER BY first_seq DESC LIMIT 1),
        CASE WHEN run.seq >= coalesce(next_seq, 0) THEN {State.PENDING:d} END,
        {State.PROCESSED:d}
    ) IN ({State.PENDING:d}, {State.LEASED:d}, {State.WAITING:d}))"""


def has_active_run(snapshot: Snapshot, owner: Schedule) -> bool:
    """Say whether a delivery of an earlier run is unfinished."""
    row = snapshot.row(
        "SELECT 1 FROM schedule_run AS run JOIN schedule ON schedule.id = schedule_id"
        f" WHERE schedule_id = ? AND status = 0 AND {_UNFINISHED} LIMIT 1",
        (owner.id,),
    )
    return row is not None


class RunsLook(msgspec.Struct, frozen=True):
    """What a look at some of the running runs has found."""

    #: The numbers of those whose deliveries are all finished.
    done: Sequence[int]
    #: Where the next look goes on; None: that were all.
    after: tuple[int, int] | None


def look_at_runs(
    snapshot: Snapshot,
    owner: Schedule | None = None,
    after: tuple[int, int] | None = None,
    limit: int = 500,
) -> RunsLook:
    """Look which running runs, of one schedule or of all, are done: up to ``limit`` of them."""
    low, high = (0, _NO_ID) if owner is None else (owner.id, owner.id)
    rows = snapshot.rows(
        f"SELECT schedule_id, run.id, {_UNFINISHED} FROM"
        " (SELECT * FROM schedule_run WHERE status = 0"
        "  AND (schedule_id, id) > (?, ?) AND schedule_id <= ?"
        "  ORDER BY schedule_id, id LIMIT ?) AS run"
        " JOIN schedule ON schedule.id = schedule_id ORDER BY schedule_id, run.id",
        (*(after or (low, 0)), high, limit),
    )
    done = [number for _, number, unfinished in rows if not unfinished]
    return RunsLook(done, tuple(rows[-1][:2]) if len(rows) == limit else None)


def finish_runs_in(tx: Tx, numbers: Sequence[int]) -> None:
    """Complete those of the given runs that are running and done."""
    for number in numbers:
        tx.execute(
            "UPDATE schedule_run AS run SET status = 1, finished_ms = ? FROM schedule"
            f" WHERE run.id = ? AND status = 0 AND schedule.id = schedule_id AND NOT {_UNFINISHED}",
            (tx.now_ms, number),
        )


# A schedule goes when none of its runs is left. CROSS: what was deleted is the few, of which
# the runs are looked up; without it all runs would be read.
_PURGES = (
    "DELETE FROM schedule_run WHERE id IN"
    " (SELECT schedule_run.id FROM schedule CROSS JOIN schedule_run ON schedule_id = schedule.id"
    "  WHERE deleted_ms IS NOT NULL LIMIT :rows)",
    "DELETE FROM schedule WHERE id IN"
    " (SELECT id FROM schedule WHERE deleted_ms IS NOT NULL LIMIT :rows)",
    "DELETE FROM schedule_run WHERE id IN"
    " (SELECT id FROM schedule_run WHERE finished_ms <= :old LIMIT :rows)",
)


def purge_runs_in(tx: Tx) -> bool:
    """Remove what is left of deleted schedules, and old runs. False: nothing is."""
    values = {"old": tx.now_ms - _KEPT_MS, "rows": _ROWS_MAX}
    for statement in _PURGES:
        tx.execute(statement, values)
        if tx.changes():
            return True
    return False
