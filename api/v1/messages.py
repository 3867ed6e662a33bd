"""Messages: publish, look at, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta, UnsetType

from blockqueue.api._answer import Answer
from blockqueue.api._message import Message
from blockqueue.api._needs import MANAGE, OBSERVE, PUBLISH
from blockqueue.storage import DeliveryStatus, Published, limits

from . import _problem
from ._call import Call
from ._objects import Id, Result, Status, Timestamp, content
from ._parameters import WAIT_FOR, Duration, Reason
from ._table import PREFIX, Routes
from ._times import timestamp

routes = Routes("Messages", "Publish messages, and see what became of them.")

_PUBLISHING = [_problem.CONFLICT, _problem.BUFFER_PRESSURE, _problem.WRITER_UNHEALTHY]

Payload = Annotated[
    str,
    Meta(
        max_length=limits.MESSAGE_BYTES_MAX,
        description=f"Any text up to {limits.MESSAGE_BYTES_MAX:,} bytes of UTF-8.",
        examples=['{"order": 1022}'],
        extra_json_schema={"default": ""},
    ),
]
HeaderMap = Annotated[
    dict[str, str],
    Meta(
        description=f"At most {limits.HEADERS_BYTES_MAX:,} bytes as JSON.",
        examples=[{"source": "checkout"}],
    ),
]
CorrelationId = Annotated[
    str,
    Meta(
        max_length=limits.CORRELATION_BYTES_MAX,
        description=f"Handed through. At most {limits.CORRELATION_BYTES_MAX} bytes.",
    ),
]
Priority = Annotated[
    int,
    Meta(
        ge=-limits.PRIORITY_MAX,
        le=limits.PRIORITY_MAX,
        description="Higher ones are handed out first.",
        extra_json_schema={"default": 0},
    ),
]


class NewMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message to be published, after a delay or at a time if either is given."""

    message: Payload | None = None
    headers: HeaderMap | None = None
    correlation_id: CorrelationId | None = None
    idempotency_key: (
        Annotated[
            str,
            Meta(
                max_length=limits.KEY_BYTES_MAX,
                description="The same key and message again add nothing: the first one's id is "
                f"answered. At most {limits.KEY_BYTES_MAX} bytes.",
                examples=["order-1022"],
            ),
        ]
        | None
    ) = None
    priority: Priority | None = None
    delay: (
        Annotated[
            Duration,
            Meta(description="Visible only that long after the commit. Not with `schedule_at`."),
        ]
        | None
    ) = None
    schedule_at: (
        Annotated[datetime, Meta(tz=True, description="Visible only then. Not with `delay`.")]
        | None
    ) = None

    def checked(self) -> Message:
        """Return it as the queue wants it, which checks the rest."""
        return Message(
            self.message or "",
            self.headers or None,
            self.correlation_id or None,
            self.priority or 0,
            self.delay or None,
            self.schedule_at,
            self.idempotency_key or None,
        )


_BOTH_TIMES = {
    "required": ["delay", "schedule_at"],
    "properties": {
        "delay": {"type": "string", "minLength": 1},
        "schedule_at": {"type": "string"},
    },
}
_NewMessage = Annotated[NewMessage, Meta(extra_json_schema={"not": _BOTH_TIMES})]


class Receipt(msgspec.Struct):
    """A message is on the disk."""

    message_id: Id
    state: Annotated[str, Meta(extra_json_schema={"enum": ["persisted"]})]
    duplicate: Annotated[bool, Meta(description="Its idempotency key was used before.")]
    scheduled_at: Timestamp


class Delivered(msgspec.Struct):
    """What became of a message with one subscriber."""

    subscriber_id: Id
    subscriber: str
    status: Status
    delivery_count: int
    failure_count: int
    visible_at: Timestamp
    processed_at: Timestamp | UnsetType = msgspec.UNSET
    cancelled_at: Timestamp | UnsetType = msgspec.UNSET
    cancel_reason: str | UnsetType = msgspec.UNSET


class MessageStatus(msgspec.Struct):
    """A message and what became of it, by subscriber."""

    id: Id
    topic_id: Id
    message: str
    priority: int
    scheduled_at: Timestamp
    created_at: Timestamp
    deliveries: list[Delivered]
    headers: dict[str, str] | UnsetType = msgspec.UNSET
    correlation_id: str | UnsetType = msgspec.UNSET
    idempotency_key: str | UnsetType = msgspec.UNSET


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Why something is cancelled."""

    reason: Reason | None = None


@routes.post(
    "/topics/{topic}/messages",
    PUBLISH,
    query=[WAIT_FOR],
    body=_NewMessage,
    answers={202: Receipt, 200: Receipt},
    problems=_PUBLISHING,
    hot=True,
)
def publish_message(call: Call) -> Answer:
    """Publish a message.

    Every subscriber that exists now gets it. It is on the disk before the answer, which is
    202 with its place, or 200 with `wait_for=commit`.

    The request's `traceparent` and `tracestate` become headers of the message, unless it has
    one of its own.
    """
    body: NewMessage = call.body
    commit = call.query["wait_for"]

    def render(published: list[Published]) -> Answer:
        (receipt,) = _receipts(published)
        call.info.message_id = receipt.message_id
        if commit:
            return call.reply(receipt, status=200)
        place = f"{PREFIX}/topics/{quote(call.topic, safe='')}/messages/{receipt.message_id}"
        return call.reply(receipt, headers=(("Location", place),))

    return call.later(call.queue.start_publish(call.topic, [body.checked()], call.trace), render)


@routes.post(
    "/topics/{topic}/messages/batch",
    PUBLISH,
    query=[WAIT_FOR],
    body=Annotated[list[_NewMessage], Meta(min_length=1, max_length=limits.BATCH_MAX)],
    answers={202: list[Receipt], 200: list[Receipt]},
    problems=_PUBLISHING,
    hot=True,
)
def publish_batch(call: Call) -> Answer:
    """Publish up to 1000 messages.

    All or nothing; the receipts are in the order of the messages. As for one message,
    `traceparent` and `tracestate` become headers.
    """
    body: list[NewMessage] = call.body
    status = 200 if call.query["wait_for"] else 202
    messages = [each.checked() for each in body]
    promise = call.queue.start_publish(call.topic, messages, call.trace)
    return call.later(promise, lambda found: call.reply(_receipts(found), status=status))


def _receipts(published: Sequence[Published]) -> list[Receipt]:
    return [
        Receipt(each.id(index), "persisted", each.duplicate, timestamp(each.visible_ms))
        for each in published
        for index in range(each.count)
    ]


@routes.get("/topics/{topic}/messages/{id}", OBSERVE, answers={200: MessageStatus})
def get_message(call: Call) -> Answer:
    """Show a message and what became of it."""
    found = call.queue.message(call.topic, call.path["id"])
    text, headers, correlation_id, key = content(found.body)
    return call.reply(
        MessageStatus(
            found.id,
            call.public_id("topic", found.topic_id),
            text,
            found.priority,
            timestamp(found.scheduled_ms),
            timestamp(found.created_ms),
            [_delivered(call, each) for each in found.deliveries],
            headers,
            correlation_id,
            key,
        )
    )


def _delivered(call: Call, found: DeliveryStatus) -> Delivered:
    status = found.state.status
    ended = msgspec.UNSET if found.ended_ms is None else timestamp(found.ended_ms)
    cancelled = status == "cancelled"
    return Delivered(
        call.public_id("subscriber", found.subscriber_id),
        found.subscriber,
        status,
        found.delivery_count,
        found.failure_count,
        timestamp(found.visible_ms),
        ended,
        ended if cancelled else msgspec.UNSET,
        found.reason or msgspec.UNSET if cancelled else msgspec.UNSET,
    )


@routes.post(
    "/topics/{topic}/messages/{id}/cancel",
    MANAGE,
    body=Cancel,
    body_may_be_empty=True,
    answers={200: list[Result]},
)
def cancel_message(call: Call) -> Answer:
    """Cancel a message for all subscribers that have not finished it.

    Those that have are listed as they are. Live receipts stop working. Repeatable.
    """
    body: Cancel = call.body
    message_id = call.path["id"]
    found = call.queue.cancel_message(call.topic, message_id, reason=body.reason or "")
    return call.reply(
        [
            Result(
                message_id,
                each.state.status,
                subscriber_id=call.public_id("subscriber", each.subscriber_id),
            )
            for each in found
        ]
    )
