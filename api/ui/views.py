"""What the dashboard reads that ``/v1`` does not tell: counts of all, previews, bytes.

One request a view, asked every few seconds by every page that is open: so the answers are
small, and say "nothing has changed" where that is so. They are no contract.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import falcon
import msgspec

from blockqueue.api._needs import OBSERVE, Needs
from blockqueue.api.queue import BlockQueue
from blockqueue.api.v1._objects import content
from blockqueue.api.v1._pages import Cursors, read_limit
from blockqueue.storage import (
    DeliveryStatus,
    DeliveryView,
    Envelope,
    Page,
    SubscriberSummary,
    Summary,
    TopicSummary,
    ValidationError,
)

from ._packing import takes_gzip

_ROWS = 50
_PREVIEW_CHARS = 200
_DELIVERIES_MAX = 1_000
_OFFSET_MAX = 2**31
_PACKED_FROM = 1_000

_encode = msgspec.json.Encoder().encode
_asdict = msgspec.structs.asdict
_cursors = Cursors("u", int, int, int)


class _Resource:
    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def __init__(self, queue: BlockQueue) -> None:
        self._queue = queue

    def _give(self, req: falcon.Request, resp: falcon.Response, data: dict[str, Any]) -> None:
        """Answer, or say that it is what who asks knows already. The time is not part of it."""
        body = _encode({name: each for name, each in data.items() if each is not msgspec.UNSET})
        resp.etag = etag = hashlib.blake2b(body, digest_size=12).hexdigest()
        resp.set_header("X-BlockQueue-Now", str(self._queue.system.clock.now_ms()))
        resp.cache_control = ["no-store"]
        if etag in (req.if_none_match or ()):
            resp.status = falcon.HTTP_304
            return
        if len(body) >= _PACKED_FROM and takes_gzip(req):
            body = gzip.compress(body, 1, mtime=0)
            resp.set_header("Content-Encoding", "gzip")
        resp.data = body


def _asked(req: falcon.Request) -> dict[str, Any]:
    """Return what of a list is wanted."""
    return {
        "search": req.get_param("search", default=""),
        "order": req.get_param("order", default="name"),
        "offset": req.get_param_as_int("offset", min_value=0, max_value=_OFFSET_MAX, default=0),
        "limit": read_limit(req.get_param("limit"), _ROWS),
    }


def _summary(found: Summary[Any], items: list[dict[str, Any]]) -> dict[str, Any]:
    total = _asdict(found.tally) | {"published": found.published}
    return {"found": found.found, "total": total, "items": items}


def _topic(found: TopicSummary) -> dict[str, Any]:
    return {
        "name": found.topic.name,
        "paused": bool(found.topic.paused),
        "subscribers": found.subscribers,
        "published": found.published,
        "oldest_ms": found.oldest_ms,
        **_asdict(found.tally),
    }


def _subscriber(found: SubscriberSummary) -> dict[str, Any]:
    options = _asdict(found.subscriber)
    for internal in ("id", "topic_id"):
        del options[internal]
    options["paused"] = bool(options["paused"])
    return options | {"oldest_ms": found.oldest_ms, **_asdict(found.tally)}


class TopicsResource(_Resource):
    """GET /ui/api/topics: counts of all topics, and some of them."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        found = self._queue.topic_summaries(**_asked(req))
        self._give(req, resp, _summary(found, [_topic(each) for each in found.items]))


class TopicResource(_Resource):
    """GET /ui/api/topics/{topic}: a topic, and some of its subscribers."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        about = self._queue.topic(topic)
        found = self._queue.subscriber_summaries(topic, **_asked(req))
        data = _summary(found, [_subscriber(each) for each in found.items])
        data["topic"] = {
            "name": about.name,
            "paused": bool(about.paused),
            "retention_ms": about.retention_ms,
            "created_ms": about.created_ms,
        }
        self._give(req, resp, data)


class SubscriberResource(_Resource):
    """GET /ui/api/topics/{topic}/subscribers/{subscriber}: it, and some of its deliveries."""

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, topic: str, subscriber: str
    ) -> None:
        found = self._queue.subscriber_summary(topic, subscriber)
        page = self._page(req, topic, subscriber)
        data = {
            "topic_paused": bool(self._queue.topic(topic).paused),
            "published": found.published,
            "subscriber": _subscriber(found.items[0]),
            "items": [_delivery(each) for each in page.items],
            "next_cursor": _cursors.write(page.after),
        }
        self._give(req, resp, data)

    def _page(self, req: falcon.Request, topic: str, subscriber: str) -> Page[DeliveryView]:
        limit = read_limit(req.get_param("limit"), _ROWS)
        after = _cursors.read(req.get_param("cursor"))
        wanted = req.get_param("list", default="active")
        if wanted == "active":
            return self._queue.active_page(topic, subscriber, limit, after)
        if wanted == "dead":
            return self._queue.dead_page(topic, subscriber, limit, after)
        raise ValidationError(f"list must be active or dead, not {wanted!r}")


def _delivery(found: DeliveryView) -> dict[str, Any]:
    body = found.body.payload if isinstance(found.body, Envelope) else found.body
    is_text = isinstance(body, str)
    if isinstance(body, bytes):
        body = body[: 4 * _PREVIEW_CHARS].decode(errors="replace")
    return {
        "id": found.message_id,
        "preview": None if body is None else body[:_PREVIEW_CHARS],
        "is_text": is_text,
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


class MessageResource(_Resource):
    """GET /ui/api/topics/{topic}/messages/{id}: a message whole, to the byte."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, topic: str, id: str) -> None:
        found = self._queue.message(topic, id)
        payload = found.body.payload if isinstance(found.body, Envelope) else found.body
        _, headers, correlation_id, key = content(found.body)
        data = {
            "id": found.id,
            "priority": found.priority,
            "created_ms": found.created_ms,
            "visible_ms": found.scheduled_ms,
            "headers": headers,
            "correlation_id": correlation_id,
            "idempotency_key": key,
            **_payload(payload),
            "found": len(found.deliveries),
            "deliveries": _deliveries(found.deliveries[:_DELIVERIES_MAX]),
        }
        self._give(req, resp, data)


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
