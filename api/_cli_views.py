"""What a file and a server tell of messages, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from blockqueue import DeliveryView, Schedule, ScheduleRun
from blockqueue.storage import Body, Envelope

from ._cli_rows import time_of

if TYPE_CHECKING:
    from blockqueue.client import DeliveryView as Remote
    from blockqueue.client import Schedule as RemoteSchedule
    from blockqueue.client import ScheduleRun as RemoteRun

_PAGE = 100


def body_record(body: Body | None) -> dict[str, Any]:
    """Return a body's message and headers; no message: it is damaged."""
    envelope = body if isinstance(body, Envelope) else None
    payload = body.payload if isinstance(body, Envelope) else body
    if isinstance(payload, bytes):
        payload = payload.decode(errors="backslashreplace")
    return {
        "message": payload,
        "headers": dict(envelope.headers or {}) if envelope else {},
        "correlation_id": envelope.correlation_id if envelope else None,
    }


def view_record(view: DeliveryView | Remote) -> dict[str, Any]:
    """Return a delivery as lists show it."""
    if isinstance(view, DeliveryView):
        about = {"status": view.state.status, **body_record(view.body)}
    else:
        about = {
            "status": view.status,
            "message": view.message,
            "headers": dict(view.headers),
            "correlation_id": view.correlation_id,
        }
    return {
        "id": view.message_id,
        **about,
        "priority": view.priority,
        "delivery_count": view.delivery_count,
        "failure_count": view.failure_count,
        "visible_at": time_of(view.visible_ms),
        "created_at": time_of(view.created_ms),
    }


def schedule_record(found: Schedule | RemoteSchedule) -> dict[str, Any]:
    """Return a schedule."""
    if isinstance(found, Schedule):
        about = body_record(found.body)
    else:
        about = {
            "message": found.message,
            "headers": dict(found.headers),
            "correlation_id": found.correlation_id,
        }
    return {
        "name": found.name,
        "id": found.uid,
        "cron": found.cron,
        "timezone": found.timezone,
        **about,
        "priority": found.priority,
        "paused": found.paused,
        "version": found.version,
        "next_run_at": time_of(found.next_run_ms),
    }


def run_record(run: ScheduleRun | RemoteRun) -> dict[str, Any]:
    """Return a run of a schedule."""
    return {
        "id": run.id,
        "status": run.status,
        "message_id": run.message_id,
        "error": run.error,
        "scheduled_for": time_of(run.scheduled_ms),
        "finished_at": time_of(run.finished_ms),
    }


def pages(page: Callable[[int, Any], Any], limit: int | None) -> Iterator[Any]:
    """Yield what pages have, up to ``limit``; ``page`` takes a size and where one begins."""
    after: Any = None
    left = limit
    while left is None or left > 0:
        found = page(_PAGE if left is None else min(left, _PAGE), after)
        yield from found.items
        after = found.after
        if after is None:
            return
        left = None if left is None else left - len(found.items)
