"""The schedules of a topic, as steps."""

from __future__ import annotations

from typing import Any

import msgspec

from blockqueue.api._schedule_spec import ScheduleSpec
from blockqueue.storage import ValidationError

from ._requests import Steps, ask, segment, tell, topic_path
from ._topics import page_query
from ._values import Page, Schedule, ScheduleRun


class _Schedules(msgspec.Struct):
    schedules: list[Schedule]
    next_cursor: str | None = None


class _Runs(msgspec.Struct):
    runs: list[ScheduleRun]
    next_cursor: str | None = None


def _all_path(topic: str) -> str:
    return topic_path(topic) + "/schedules"


def _path(topic: str, id: str) -> str:
    return f"{_all_path(topic)}/{segment('schedule id', id)}"


def _body(spec: ScheduleSpec) -> dict[str, Any]:
    if not isinstance(spec.message, str):
        raise ValidationError(
            f"over HTTP a message is text, not {type(spec.message).__name__}: "
            "encode it, as with base64"
        )
    body: dict[str, Any] = {
        "name": spec.name,
        "cron": spec.cron,
        "message": spec.message,
        "timezone": spec.timezone,
        "priority": spec.priority,
    }
    if spec.headers:
        body["headers"] = spec.headers
    if spec.correlation_id:
        body["correlation_id"] = spec.correlation_id
    return body


def create(topic: str, spec: ScheduleSpec) -> Steps[Schedule]:
    return (yield from ask(Schedule, "POST", _all_path(topic), _body(spec)))


def get(topic: str, id: str) -> Steps[Schedule]:
    return (yield from ask(Schedule, "GET", _path(topic, id)))


def page(topic: str, limit: int, after: str | None) -> Steps[Page[Schedule]]:
    query = page_query(limit, after)
    found = yield from ask(_Schedules, "GET", _all_path(topic), query=query)
    return Page(found.schedules, found.next_cursor or None)


def update(topic: str, id: str, spec: ScheduleSpec, version: int) -> Steps[Schedule]:
    body = _body(spec) | {"version": version}
    return (yield from ask(Schedule, "PUT", _path(topic, id), body))


def delete(topic: str, id: str) -> Steps[None]:
    yield from tell("DELETE", _path(topic, id), deletes=True)


def pause(topic: str, id: str, verb: str) -> Steps[None]:
    yield from tell("POST", f"{_path(topic, id)}/{verb}")


def run_now(topic: str, id: str, force: bool) -> Steps[ScheduleRun]:
    path, query = _path(topic, id) + "/run-now", {"force": "true" if force else "false"}
    # Not again if its answer is lost: that could publish the message twice.
    return (yield from ask(ScheduleRun, "POST", path, query=query, repeatable=False))


def run_page(topic: str, id: str, limit: int, after: str | None) -> Steps[Page[ScheduleRun]]:
    query = page_query(limit, after)
    found = yield from ask(_Runs, "GET", _path(topic, id) + "/runs", query=query)
    return Page(found.runs, found.next_cursor or None)
