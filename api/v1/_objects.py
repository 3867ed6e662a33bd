"""What several answers have in common."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, UnsetType

from blockqueue.storage import Body, Envelope, State

Id = Annotated[
    str,
    Meta(examples=["0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61"], extra_json_schema={"format": "uuid"}),
]
Timestamp = Annotated[
    str,
    Meta(examples=["2026-03-01T12:00:00.25Z"], extra_json_schema={"format": "date-time"}),
]
NextCursor = Annotated[str, Meta(description="For the next page; absent at the end.")] | UnsetType
Status = Annotated[
    str,
    Meta(extra_json_schema={"enum": list(dict.fromkeys(state.status for state in State))}),
]


class Paused(msgspec.Struct):
    """Whether nothing can be claimed."""

    paused: bool


class Result(msgspec.Struct):
    """What became of one item."""

    message_id: str
    status: Annotated[
        str,
        Meta(extra_json_schema={"enum": [*dict.fromkeys(each.status for each in State), "failed"]}),
    ]
    error: (
        Annotated[
            str,
            Meta(
                description="Why it failed.",
                extra_json_schema={
                    "enum": [
                        "delivery lease lost",
                        "delivery not found",
                        "receipt_token is required",
                        "delivery operation failed",
                    ]
                },
            ),
        ]
        | UnsetType
    ) = msgspec.UNSET
    subscriber_id: Id | UnsetType = msgspec.UNSET


def content(body: Body | None) -> tuple[str, Any, Any, Any]:
    """Return a body's text, headers, correlation id and idempotency key, if it has them."""
    if type(body) is str:
        return body, msgspec.UNSET, msgspec.UNSET, msgspec.UNSET
    if isinstance(body, Envelope):
        return (
            text_of(body.payload),
            body.headers or msgspec.UNSET,
            body.correlation_id or msgspec.UNSET,
            body.idempotency_key or msgspec.UNSET,
        )
    return text_of(body or b""), msgspec.UNSET, msgspec.UNSET, msgspec.UNSET


def text_of(payload: str | bytes) -> str:
    """Return a payload as text; bytes can only have been published by an embedded program."""
    return payload if isinstance(payload, str) else payload.decode(errors="replace")
