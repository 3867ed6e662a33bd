"""Schedules: messages that are published by the clock."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, UnsetType

from blockqueue import storage
from blockqueue.api._answer import Answer
from blockqueue.api._needs import MANAGE, OBSERVE
from blockqueue.api._schedule_spec import ScheduleSpec
from blockqueue.api._schedules import Schedules
from blockqueue.storage import limits

from . import _problem
from ._call import Call
from ._cron_pattern import CRON_PATTERN
from ._objects import Id, NextCursor, Paused, Timestamp, text_of
from ._pages import Cursors
from ._parameters import FORCE, page
from ._table import Routes
from ._times import timestamp, whole_second
from .messages import CorrelationId, HeaderMap, Payload, Priority

routes = Routes("Schedules", "Publish a message again and again, as a cron expression says.")

_ALL = "/topics/{topic}/schedules"
_ONE = _ALL + "/{id}"
_CONFLICT = [_problem.CONFLICT]
_schedules = Cursors("c", str, int)
_runs = Cursors("r", int, int)


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """A schedule to be made."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.NAME_BYTES_MAX,
            description=f"1 to {limits.NAME_BYTES_MAX} bytes of UTF-8.",
            examples=["nightly"],
        ),
    ]
    cron: Annotated[
        str,
        Meta(
            description="Five fields: minute, hour, day of the month, month, day of the week "
            "(0 to 6 or SUN to SAT).",
            examples=["30 2 * * MON-FRI"],
            extra_json_schema={"format": "cron", "maxLength": 1000, "pattern": CRON_PATTERN},
        ),
    ]
    timezone: (
        Annotated[
            str,
            Meta(
                description="A name of the IANA database.",
                examples=["Europe/Vienna"],
                extra_json_schema={
                    "default": "UTC",
                    "format": "time-zone",
                    "pattern": "^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*){0,2})?$",
                },
            ),
        ]
        | None
    ) = None
    message: Payload | None = None
    headers: HeaderMap | None = None
    correlation_id: CorrelationId | None = None
    priority: Priority | None = None
    misfire_policy: (
        Annotated[
            Literal["", "fire_once"],
            Meta(
                description="After a downtime one run makes up for all that were missed.",
                extra_json_schema={"default": "fire_once"},
            ),
        ]
        | None
    ) = None
    overlap_policy: (
        Annotated[
            Literal["", "skip"],
            Meta(
                description="While the run before is unfinished an occurrence is skipped.",
                extra_json_schema={"default": "skip"},
            ),
        ]
        | None
    ) = None

    def spec(self) -> ScheduleSpec:
        """Return it as the queue wants it, which checks the rest."""
        return ScheduleSpec(
            self.name,
            self.cron,
            self.message or "",
            timezone=self.timezone or "UTC",
            headers=self.headers or None,
            correlation_id=self.correlation_id or None,
            priority=self.priority or 0,
        )


class ScheduleUpdate(NewSchedule, forbid_unknown_fields=True, kw_only=True):
    """What a schedule is to be; what is absent gets its default."""

    version: Annotated[
        int, Meta(ge=1, le=2**63 - 1, description="The version that is to be replaced.")
    ]


class Schedule(msgspec.Struct):
    """A schedule."""

    id: Id
    topic_id: Id
    name: str
    cron: str
    timezone: str
    message: str
    headers: dict[str, str]
    priority: int
    misfire_policy: str
    overlap_policy: str
    paused: bool
    version: int
    next_run_at: Timestamp
    created_at: Timestamp
    updated_at: Timestamp
    correlation_id: str | UnsetType = msgspec.UNSET


class SchedulePage(msgspec.Struct):
    """Some of a topic's schedules, by name."""

    schedules: list[Schedule]
    next_cursor: NextCursor = msgspec.UNSET


class Run(msgspec.Struct):
    """One occurrence of a schedule."""

    id: Id
    schedule_id: Id
    scheduled_for: Timestamp
    started_at: Timestamp
    status: Annotated[
        str,
        Meta(extra_json_schema={"enum": ["running", "completed", "skipped", "failed"]}),
    ]
    created_at: Timestamp
    message_id: Id | UnsetType = msgspec.UNSET
    finished_at: Timestamp | UnsetType = msgspec.UNSET
    error: str | UnsetType = msgspec.UNSET


class RunPage(msgspec.Struct):
    """Some of a schedule's runs, the latest first."""

    runs: list[Run]
    next_cursor: NextCursor = msgspec.UNSET


def _of(call: Call) -> Schedules:
    return call.queue.schedules(call.topic)


def _schedule(call: Call, found: storage.Schedule) -> Schedule:
    return Schedule(
        found.uid,
        call.public_id("topic", found.topic_id),
        found.name,
        found.cron,
        found.timezone,
        text_of(found.body.payload),
        found.body.headers or {},
        found.priority,
        "fire_once",
        "skip",
        found.paused,
        found.version,
        timestamp(found.next_run_ms),
        whole_second(found.created_ms),
        timestamp(found.updated_ms),
        found.body.correlation_id or msgspec.UNSET,
    )


def _run(found: storage.ScheduleRun) -> Run:
    return Run(
        found.id,
        found.schedule_uid,
        timestamp(found.scheduled_ms),
        timestamp(found.started_ms),
        found.status,
        timestamp(found.created_ms),
        found.message_id or msgspec.UNSET,
        msgspec.UNSET if found.finished_ms is None else timestamp(found.finished_ms),
        found.error or msgspec.UNSET,
    )


@routes.get(_ALL, OBSERVE, query=page(_schedules), answers={200: SchedulePage})
def list_schedules(call: Call) -> Answer:
    """List a topic's schedules."""
    found = _of(call).page(call.query["limit"], call.query["cursor"])
    listed = [_schedule(call, each) for each in found.items]
    return call.reply(SchedulePage(listed, _schedules.write(found.after)))


@routes.post(_ALL, MANAGE, body=NewSchedule, answers={201: Schedule}, problems=_CONFLICT)
def create_schedule(call: Call) -> Answer:
    """Make a schedule.

    It is a conflict if the topic has one of that name.
    """
    body: NewSchedule = call.body
    return call.reply(_schedule(call, _of(call).create(body.spec())))


@routes.get(_ONE, OBSERVE, answers={200: Schedule})
def get_schedule(call: Call) -> Answer:
    """Show a schedule."""
    return call.reply(_schedule(call, _of(call).get(call.path["id"])))


@routes.put(_ONE, MANAGE, body=ScheduleUpdate, answers={200: Schedule}, problems=_CONFLICT)
def update_schedule(call: Call) -> Answer:
    """Replace a schedule.

    The next run counts from now. It is a conflict if the version is not the present one.
    """
    body: ScheduleUpdate = call.body
    changed = _of(call).update(call.path["id"], body.spec(), body.version)
    return call.reply(_schedule(call, changed))


@routes.delete(_ONE, MANAGE, answers={204: None})
def delete_schedule(call: Call) -> Answer:
    """Delete a schedule and its runs; what it has published stays."""
    _of(call).delete(call.path["id"])
    return call.reply()


@routes.post(_ONE + "/pause", MANAGE, answers={200: Paused})
def pause_schedule(call: Call) -> Answer:
    """Let a schedule not run."""
    _of(call).pause(call.path["id"])
    return call.reply(Paused(True))


@routes.post(_ONE + "/resume", MANAGE, answers={200: Paused})
def resume_schedule(call: Call) -> Answer:
    """End a schedule's pause.

    If its time has passed meanwhile it runs once.
    """
    _of(call).resume(call.path["id"])
    return call.reply(Paused(False))


@routes.post(
    _ONE + "/run-now",
    MANAGE,
    query=[FORCE],
    answers={202: Run},
    problems=[*_CONFLICT, _problem.BUFFER_PRESSURE],
)
def run_schedule(call: Call) -> Answer:
    """Run a schedule now, even while it is paused.

    While the run before is unfinished the run is recorded as skipped, unless it is forced.
    """
    return call.reply(_run(_of(call).run_now(call.path["id"], call.query["force"])))


@routes.get(_ONE + "/runs", OBSERVE, query=page(_runs), answers={200: RunPage})
def list_runs(call: Call) -> Answer:
    """List a schedule's runs."""
    limit, after = call.query["limit"], call.query["cursor"]
    found = _of(call).run_page(call.path["id"], limit, after)
    return call.reply(RunPage([_run(each) for each in found.items], _runs.write(found.after)))
