"""Publishing, as steps. Every message gets a key, so that sending it again adds nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.api._message import Message
from blockqueue.api._trace_context import Trace
from blockqueue.storage import ValidationError

from ._requests import Steps, ask, topic_path
from ._values import Receipt

_COMMIT = {"wait_for": "commit"}


def publish(topic: str, message: Message, trace: Trace | None = None) -> Steps[Receipt]:
    path, body = topic_path(topic) + "/messages", _body(message, _new_key())
    options = {"query": _COMMIT, "headers": trace or {}}
    receipt = yield from ask(Receipt, "POST", path, body, **options)
    return receipt if message.idempotency_key else _first(receipt)


def publish_many(
    topic: str,
    messages: Iterable[str | bytes | Message],
    priority: int,
    delay: Duration | None,
    trace: Trace | None = None,
) -> Steps[list[Receipt]]:
    key = _new_key()
    given = [
        each if isinstance(each, Message) else Message(each, priority=priority, delay=delay)
        for each in messages
    ]
    bodies = [_body(message, f"{key}-{index:03}") for index, message in enumerate(given)]
    path = topic_path(topic) + "/messages/batch"
    options = {"query": _COMMIT, "headers": trace or {}}
    receipts = yield from ask(list[Receipt], "POST", path, bodies, **options)
    return [
        receipt if message.idempotency_key else _first(receipt)
        for message, receipt in zip(given, receipts, strict=True)
    ]


def _new_key() -> str:
    """Return a key that nobody else has, and that is larger than those of a millisecond before.

    The server keeps keys in order: a new one that belongs at the end is cheaper to write than
    one in the middle. The time only orders them; a clock that is set back does no harm.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _first(receipt: Receipt) -> Receipt:
    """Return the receipt of a message whose key is ours: it was published once, by this call.

    It counts as a duplicate if it was sent again because an answer was lost.
    """
    return Receipt(receipt.id, receipt.scheduled_at, False) if receipt.duplicate else receipt


def _body(message: Message, key: str) -> dict[str, Any]:
    """Return a message as a body says it. Raises ValidationError."""
    if not isinstance(message.payload, str):
        raise ValidationError(
            f"over HTTP a message is text, not {type(message.payload).__name__}: "
            "encode it, as with base64"
        )
    body: dict[str, Any] = {
        "message": message.payload,
        "idempotency_key": message.idempotency_key or key,
    }
    if message.headers:
        body["headers"] = message.headers
    if message.correlation_id:
        body["correlation_id"] = message.correlation_id
    if message.priority:
        body["priority"] = message.priority
    if message.delay is not None:
        body["delay"] = f"{milliseconds('delay', message.delay)}ms"
    if message.schedule_at is not None:
        body["schedule_at"] = message.schedule_at
    return body
