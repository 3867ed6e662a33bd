"""Messages, lists of deliveries and dead letters, as steps."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from blockqueue.storage import ValidationError, limits

from ._requests import Steps, ask, segment, subscriber_path, topic_path
from ._topics import page_query
from ._values import DeliveryStatus, DeliveryView, Failure, MessageStatus, Page, Result


class _Messages(msgspec.Struct):
    messages: list[DeliveryView]
    next_cursor: str | None = None


class _Errors(msgspec.Struct):
    errors: list[Failure]
    next_cursor: str | None = None


def _message_path(topic: str, message_id: str) -> str:
    return f"{topic_path(topic)}/messages/{segment('message id', message_id)}"


def message(topic: str, message_id: str) -> Steps[MessageStatus]:
    return (yield from ask(MessageStatus, "GET", _message_path(topic, message_id)))


def cancel_message(topic: str, message_id: str, reason: str) -> Steps[list[DeliveryStatus]]:
    if not isinstance(reason, str):
        raise ValidationError(f"reason must be text, not {type(reason).__name__}")
    path = _message_path(topic, message_id)
    body = {"reason": limits.cut_reason(reason)}
    yield from ask(list[Result], "POST", path + "/cancel", body)
    return (yield from message(topic, message_id)).deliveries


def delivery_page(
    topic: str, subscriber: str, which: str, limit: int, after: str | None
) -> Steps[Page[DeliveryView]]:
    """Return a page of ``which``: "messages", those that are active, or "dlq"."""
    path = f"{subscriber_path(topic, subscriber)}/{which}"
    found = yield from ask(_Messages, "GET", path, query=page_query(limit, after))
    return Page(found.messages, found.next_cursor or None)


def failure_page(
    topic: str, subscriber: str, message_id: str, limit: int, after: str | None
) -> Steps[Page[Failure]]:
    place = subscriber_path(topic, subscriber)
    path = f"{place}/messages/{segment('message id', message_id)}/errors"
    found = yield from ask(_Errors, "GET", path, query=page_query(limit, after))
    return Page(found.errors, found.next_cursor or None)


def replay(topic: str, subscriber: str, message_ids: Sequence[str] | None) -> Steps[int]:
    if message_ids is not None:
        return (yield from _replay(topic, subscriber, message_ids))
    count, after = 0, None
    while True:
        page = yield from delivery_page(topic, subscriber, "dlq", limits.BATCH_MAX, after)
        count += yield from _replay(topic, subscriber, [each.message_id for each in page.items])
        after = page.after
        if after is None:
            return count


def _replay(topic: str, subscriber: str, message_ids: Sequence[str]) -> Steps[int]:
    path, count = subscriber_path(topic, subscriber) + "/dlq/replay", 0
    for start in range(0, len(message_ids), limits.BATCH_MAX):
        part = message_ids[start : start + limits.BATCH_MAX]
        results = yield from ask(list[Result], "POST", path, {"message_ids": part})
        count += sum(each.status != "failed" for each in results)
    return count
