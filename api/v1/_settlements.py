"""The bodies and answers of settlements: one delivery, or many at once."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from blockqueue.storage import Nack, limits

from ._objects import Status, Timestamp
from ._parameters import Duration, Reason
from ._times import delay_ms
from .messages import Cancel

_RECEIPT = "The `receipt_token` of the claimed delivery."
_RECEIPT_EXAMPLE = "6f1e0a52-6a5b-47a6-8d0e-2f1c33b0a7c4"
_Receipt = Annotated[str, Meta(min_length=1, description=_RECEIPT, examples=[_RECEIPT_EXAMPLE])]
# Of an item: without one only that item fails.
_ItemReceipt = Annotated[str, Meta(description=_RECEIPT, examples=[_RECEIPT_EXAMPLE])]
_ItemId = Annotated[
    str,
    Meta(
        description="The `id` of the delivery.",
        examples=["0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61"],
    ),
]
_RetryDelay = Annotated[
    Duration, Meta(description="When to try again. Absent or zero: as the policy says.")
]


class Ack(msgspec.Struct, forbid_unknown_fields=True):
    """The receipt of a lease that has ended well."""

    receipt_token: _Receipt


class Failed(msgspec.Struct, forbid_unknown_fields=True):
    """Why a delivery has failed, and when to try again."""

    retry_delay: _RetryDelay | None = None
    error: Reason | None = None

    def settlement(self) -> Nack:
        """Return it as the queue wants it. Raises ValidationError."""
        return Nack(delay_ms("retry_delay", self.retry_delay) or None, self.error or "")


class NackOne(Failed, forbid_unknown_fields=True, kw_only=True):
    """The receipt of a lease that has ended badly."""

    receipt_token: _Receipt


class Lease(msgspec.Struct, forbid_unknown_fields=True):
    """The receipt of a lease that is to last longer."""

    receipt_token: _Receipt
    extension: (
        Annotated[
            Duration,
            Meta(
                description="How much longer: more than zero, at most 12h. Absent: the "
                "subscriber's visibility."
            ),
        ]
        | None
    ) = None


class Snooze(msgspec.Struct, forbid_unknown_fields=True):
    """The receipt of a lease that ends, and for how long the message is then hidden."""

    receipt_token: _Receipt
    delay: Annotated[Duration, Meta(description="Absent: visible at once.")] | None = None


class CancelOne(Cancel, forbid_unknown_fields=True):
    """Why a delivery is cancelled, and by whom if it is not an operator."""

    receipt_token: (
        Annotated[
            str,
            Meta(
                description="Given, the delivery is cancelled only by who holds its lease.",
                examples=[_RECEIPT_EXAMPLE],
            ),
        ]
        | None
    ) = None


class AckItem(msgspec.Struct, forbid_unknown_fields=True):
    """A delivery that is done, and the receipt of its lease."""

    message_id: _ItemId | None = None
    receipt_token: _ItemReceipt | None = None


class NackItem(Failed, forbid_unknown_fields=True):
    """A delivery that has failed, and the receipt of its lease."""

    message_id: _ItemId | None = None
    receipt_token: _ItemReceipt | None = None


AckItems = Annotated[list[AckItem], Meta(min_length=1, max_length=limits.BATCH_MAX)]
NackItems = Annotated[list[NackItem], Meta(min_length=1, max_length=limits.BATCH_MAX)]


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters to replay."""

    message_ids: Annotated[list[_ItemId], Meta(min_length=1, max_length=limits.BATCH_MAX)]


class Settled(msgspec.Struct):
    """What the delivery is now."""

    status: Status


class Extended(msgspec.Struct):
    """When the lease ends now."""

    lease_expires_at: Timestamp


class Snoozed(msgspec.Struct):
    """When the message is visible again."""

    status: Status
    visible_at: Timestamp
