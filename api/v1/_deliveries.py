"""A delivery as claims and lists show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, UnsetType

from blockqueue import storage
from blockqueue.storage import DeliveryView

from ._objects import Id, Status, Timestamp, content
from ._times import timestamp


class Delivery(msgspec.Struct, gc=False):
    """A message for one subscriber. Members that would be empty or zero are left out."""

    id: Annotated[Id, Meta(description="The message's.")]
    message: str
    status: Status
    visible_at: Timestamp
    created_at: Timestamp
    headers: dict[str, str] | UnsetType = msgspec.UNSET
    correlation_id: str | UnsetType = msgspec.UNSET
    delivery_count: Annotated[int, Meta(description="How often it was claimed.")] | UnsetType = (
        msgspec.UNSET
    )
    failure_count: int | UnsetType = msgspec.UNSET
    priority: int | UnsetType = msgspec.UNSET
    receipt_token: (
        Annotated[Id, Meta(description="Proves the claim; of leased ones only.")] | UnsetType
    ) = msgspec.UNSET
    lease_expires_at: Timestamp | UnsetType = msgspec.UNSET


def claimed(deliveries: Sequence[storage.Delivery]) -> list[Delivery]:
    """Show what a claim has got."""
    listed: list[Delivery] = []
    for each in deliveries:
        text, headers, correlation_id, _ = content(each.body)
        listed.append(
            Delivery(
                each.message_id,
                text,
                "delivered",
                timestamp(each.visible_ms),
                timestamp(each.created_ms),
                headers,
                correlation_id,
                each.delivery_count,
                each.failure_count or msgspec.UNSET,
                each.priority or msgspec.UNSET,
                each.receipt_token,
                timestamp(each.lease_expires_ms),
            )
        )
    return listed


def viewed(found: DeliveryView) -> Delivery:
    """Show a delivery of a list."""
    text, headers, correlation_id, _ = content(found.body)
    due_ms = found.lease_expires_ms
    return Delivery(
        found.message_id,
        text,
        found.state.status,
        timestamp(found.visible_ms),
        timestamp(found.created_ms),
        headers,
        correlation_id,
        found.delivery_count or msgspec.UNSET,
        found.failure_count or msgspec.UNSET,
        found.priority or msgspec.UNSET,
        found.receipt_token or msgspec.UNSET,
        msgspec.UNSET if due_ms is None else timestamp(due_ms),
    )
