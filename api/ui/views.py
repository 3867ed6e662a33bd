"""What the dashboard reads that ``/v1`` does not tell: counts of all, previews, bytes.

One request a view, asked every few seconds by every page that is open: so the answers are
small, and while nothing is written an answer is "nothing has changed", without a query. No
answer holds an age: the page makes those of the times. They are no contract.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import falcon
import msgspec

from blockqueue.api._needs import OBSERVE, Needs
from blockqueue.api.queue import BlockQueue
from blockqueue.api.v1._objects import content
from blockqueue.api.v1._pages import Cursors, read_limit
from blockqueue.storage import (
    Body,
    DeliveryStatus,
    DeliveryView,
    Envelope,
    Schedule,
    SubscriberSummary,
    Summary,
    TopicSummary,
    ValidationError,
)

from ._answers import give, is_known

_ROWS = 50
_PREVIEW_CHARS = 200
_DELIVERIES_MAX = 1_000
_RUNS = 10
# The number of commits may fail to tell of one: that of a process which was killed right
# after it. So nothing is taken to be unchanged for longer than this.
_UNCHANGED_MS = 10_000

_encode = msgspec.json.Encoder().encode
_asdict = msgspec.structs.asdict
_cursors = Cursors("u", int, int, int)
_schedule_cursors = Cursors("us", str, int)


class ViewResource:
    """What ``look`` finds. Whoever has that already is told so without a look."""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def __init__(self, queue: BlockQueue, look: Callable[..., dict[str, Any]]) -> None:
        self._queue = queue
        self._look = look

    def on_get(self, req: falcon.Request, resp: falcon.Response, **names: str) -> None:
        now_ms = self._queue.system.clock.now_ms()
        # Counted before the look: what is committed in between makes another version.
        version = f"{self._queue.system.store.hints.commits}-{now_ms // _UNCHANGED_MS}"
        if not is_known(req, resp, version):
            found = self._look(self._queue, req, **names)
            give(req, resp, version, _encode(found))
        resp.set_header("X-BlockQueue-Now", str(now_ms))
        resp.cache_control = ["no-store"]


def _asked(req: falcon.Request) -> dict[str, Any]:
    """Return what of a list is wanted."""
    return {
        "search": req.get_param("search", default=""),
        "order": req.get_param("order", default="name"),
        "offset": req.get_param_as_int("offset", default=0),
        "limit": read_limit(req.get_param("limit"), _ROWS),
    }


def _summary(found: Summary[Any], items: list[dict[str, Any]]) -> dict[str, Any]:
    total = _asdict(found.tally) | {"published": found.published}
    return {"found": found.found, "offset": found.offset, "total": total, "items": items}


def _topic(found: TopicSummary) -> dict[str, Any]:
    return {
        "name": found.topic.name,
        "paused": bool(found.topic.paused),
        "subscribers": found.subscribers,
        "paused_subscribers": found.paused,
        "published": found.published,
        "oldest_ms": found.oldest_ms,
        **_asdict(found.tally),
    }


def _subscriber(found: SubscriberSummary) -> dict[str, Any]:
    options = _asdict(found.subscriber)
    for internal in ("id", "topic_id"):
        del options[internal]
    options["paused"] = bool(options["paused"])
    options |= {"published": found.published, "oldest_ms": found.oldest_ms}
    return options | _asdict(found.tally)


def topics(queue: BlockQueue, req: falcon.Request) -> dict[str, Any]:
    """GET /ui/api/topics: counts of all topics, and some of them."""
    found = queue.topic_summaries(**_asked(req))
    return _summary(found, [_topic(each) for each in found.items])


def topic(queue: BlockQueue, req: falcon.Request, topic: str) -> dict[str, Any]:
    """GET /ui/api/topics/{topic}: a topic, and some of its subscribers."""
    about = queue.topic(topic)
    found = queue.subscriber_summaries(topic, **_asked(req))
    options = {
        "name": about.name,
        "paused": bool(about.paused),
        "retention_ms": about.retention_ms,
        "created_ms": about.created_ms,
    }
    return {"topic": options} | _summary(found, [_subscriber(each) for each in found.items])


def subscriber(
    queue: BlockQueue, req: falcon.Request, topic: str, subscriber: str
) -> dict[str, Any]:
    """GET /ui/api/topics/{topic}/subscribers/{subscriber}: it, and some of its deliveries."""
    limit = read_limit(req.get_param("limit"), _ROWS)
    after = _cursors.read(req.get_param("cursor"))
    wanted = req.get_param("list", default="active")
    if wanted not in ("active", "dead"):
        raise ValidationError(f"list must be active or dead, not {wanted!r}")
    page_of = queue.active_page if wanted == "active" else queue.dead_page
    page = page_of(topic, subscriber, limit, after)
    return {
        "topic_paused": bool(queue.topic(topic).paused),
        "subscriber": _subscriber(queue.subscriber_summary(topic, subscriber)),
        "items": [_delivery(each) for each in page.items],
        "next_cursor": _cursors.write(page.after) or None,
    }


def _delivery(found: DeliveryView) -> dict[str, Any]:
    return {
        "id": found.message_id,
        **_preview(found.body),
        "state": found.state.name.lower(),
        "delivery_count": found.delivery_count,
        "failure_count": found.failure_count,
        "priority": found.priority,
        "created_ms": found.created_ms,
        "visible_ms": found.visible_ms,
        "lease_expires_ms": found.lease_expires_ms,
        "receipt_token": found.receipt_token,
        "reason": found.reason,
    }


def _preview(body: Body | None) -> dict[str, Any]:
    """Return how a payload begins; None: its block is damaged."""
    payload = body.payload if isinstance(body, Envelope) else body
    is_text = isinstance(payload, str)
    if isinstance(payload, bytes):
        payload = payload[: 4 * _PREVIEW_CHARS].decode(errors="replace")
    return {"preview": None if payload is None else payload[:_PREVIEW_CHARS], "is_text": is_text}


def schedules(queue: BlockQueue, req: falcon.Request, topic: str) -> dict[str, Any]:
    """GET /ui/api/topics/{topic}/schedules: some of them; the last runs of those in ``open``."""
    limit = read_limit(req.get_param("limit"), _ROWS)
    after = _schedule_cursors.read(req.get_param("cursor"))
    opened = req.get_param("open", default="").split(",")
    of_topic = queue.schedules(topic)
    page = of_topic.page(limit, after)
    items = [_schedule(each) for each in page.items]
    for item in items:
        if item["id"] in opened:
            runs = of_topic.run_page(item["id"], _RUNS)
            item["runs"] = [_asdict(each) for each in runs.items]
    return {
        "topic_paused": bool(queue.topic(topic).paused),
        "items": items,
        "next_cursor": _schedule_cursors.write(page.after) or None,
    }


def _schedule(found: Schedule) -> dict[str, Any]:
    return {
        "id": found.uid,
        "name": found.name,
        "cron": found.cron,
        "timezone": found.timezone,
        "paused": found.paused,
        "next_run_ms": found.next_run_ms,
        **_preview(found.body),
    }


def message(queue: BlockQueue, req: falcon.Request, topic: str, id: str) -> dict[str, Any]:
    """GET /ui/api/topics/{topic}/messages/{id}: a message whole, to the byte."""
    found = queue.message(topic, id)
    payload = found.body.payload if isinstance(found.body, Envelope) else found.body
    _, headers, correlation_id, key = content(found.body)
    return {
        "id": found.id,
        "priority": found.priority,
        "created_ms": found.created_ms,
        "visible_ms": found.scheduled_ms,
        "headers": headers or None,
        "correlation_id": correlation_id or None,
        "idempotency_key": key or None,
        **_payload(payload),
        "found": len(found.deliveries),
        "deliveries": _deliveries(found.deliveries[:_DELIVERIES_MAX]),
    }


def _payload(payload: str | bytes) -> dict[str, Any]:
    if isinstance(payload, str):
        return {"text": payload}
    return {"base64": base64.b64encode(payload).decode()}


def _deliveries(found: Sequence[DeliveryStatus]) -> list[dict[str, Any]]:
    return [
        {
            "subscriber": each.subscriber,
            "state": each.state.name.lower(),
            "delivery_count": each.delivery_count,
            "failure_count": each.failure_count,
            "visible_ms": each.visible_ms,
            "ended_ms": each.ended_ms,
            "reason": each.reason,
        }
        for each in found
    ]
