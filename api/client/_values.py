"""What a server answers, under the names that the embedded face has for it.

Times that end in ``_ms`` are milliseconds since 1970 by the queue's clock. Ids of topics and
subscribers are text here: their numbers do not leave the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Generic, Self, TypeVar

import msgspec
from msgspec import field

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ms(int):
    """A time in milliseconds since 1970, which answers write as RFC 3339."""

    @classmethod
    def read(cls, text: object) -> Self:
        """Return what a timestamp says. Raises ValueError, TypeError."""
        if not isinstance(text, str):
            raise TypeError("a time is text")
        return cls((datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1))


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of a list. ``after``: what to give for the next page; None: this is the last."""

    items: list[T]
    after: str | None = None


class Topic(msgspec.Struct, frozen=True):
    """A topic. ``created_ms`` is right to the second."""

    id: str
    name: str
    paused: bool
    created_ms: Ms = field(name="created_at")


class SubscriberStatus(msgspec.Struct, frozen=True):
    """A subscriber with its counters.

    ``waiting``: to be handed out, retries and delayed ones included. ``leased``: handed
    out, not settled (or run out and not yet swept).
    """

    name: str
    topic_id: str
    waiting: int = field(name="unpublished_message")
    leased: int = field(name="unacked_message")


class Receipt(msgspec.Struct, frozen=True):
    """What a publish returns: the message is on the disk.

    ``scheduled_at``: when it becomes visible, by the queue's clock. ``duplicate``: an earlier
    publish with the same idempotency key has written it.
    """

    id: str = field(name="message_id")
    scheduled_at: datetime
    duplicate: bool | None = False


class DeliveryStatus(msgspec.Struct, frozen=True):
    """What a message is to one subscriber.

    ``status``: pending, delivered, processed, dead_letter or cancelled. ``ended_ms``: when it
    was acknowledged, cancelled or dead, right to the minute. ``reason``: why it was cancelled.
    """

    subscriber_id: str
    subscriber: str
    status: str
    delivery_count: int
    failure_count: int
    visible_ms: Ms = field(name="visible_at")
    ended_ms: Ms | None = field(name="processed_at", default=None)
    reason: str | None = field(name="cancel_reason", default=None)


class MessageStatus(msgspec.Struct, frozen=True):
    """A message with a delivery for each subscriber that it was published to, by name."""

    id: str
    topic_id: str
    message: str
    priority: int
    deliveries: list[DeliveryStatus]
    scheduled_ms: Ms = field(name="scheduled_at")
    created_ms: Ms = field(name="created_at")
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    correlation_id: str | None = None
    idempotency_key: str | None = None


class DeliveryView(msgspec.Struct, frozen=True):
    """A delivery as lists show it. Leased ones have a receipt and a lease's end.

    ``visible_ms``: when it can be claimed, or since when it could have been.
    """

    message_id: str = field(name="id")
    message: str
    status: str
    visible_ms: Ms = field(name="visible_at")
    created_ms: Ms = field(name="created_at")
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    correlation_id: str | None = None
    delivery_count: int = 0
    failure_count: int = 0
    priority: int = 0
    receipt_token: str | None = None
    lease_expires_ms: Ms | None = field(name="lease_expires_at", default=None)


class Failure(msgspec.Struct, frozen=True):
    """One nack or expired lease of one delivery. ``failure_count`` is what it reached then."""

    id: str
    message_id: str
    subscriber_id: str
    failure_count: int
    error: str
    failed_ms: Ms = field(name="failed_at")


class Schedule(msgspec.Struct, frozen=True):
    """A schedule. ``next_run_ms`` is the wall's time, the others are the queue's.

    ``version`` rises with every change by a caller, not when it fires.
    """

    uid: str = field(name="id")
    topic_id: str
    name: str
    cron: str
    timezone: str
    message: str
    headers: Mapping[str, str]
    priority: int
    paused: bool
    version: int
    next_run_ms: Ms = field(name="next_run_at")
    created_ms: Ms = field(name="created_at")
    updated_ms: Ms = field(name="updated_at")
    correlation_id: str | None = None


class ScheduleRun(msgspec.Struct, frozen=True):
    """An occurrence of a schedule. ``scheduled_ms`` is the wall's time, the others the queue's.

    ``status``: running, completed, skipped or failed; ``error`` says why.
    """

    id: str
    schedule_uid: str = field(name="schedule_id")
    status: str
    scheduled_ms: Ms = field(name="scheduled_for")
    started_ms: Ms = field(name="started_at")
    created_ms: Ms = field(name="created_at")
    message_id: str | None = None
    finished_ms: Ms | None = field(name="finished_at", default=None)
    error: str | None = None


class Claimed(msgspec.Struct):
    """A message as a claim answers it; a delivery shows it."""

    id: str
    message: str
    receipt_token: str
    lease_expires_at: datetime
    created_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    correlation_id: str | None = None
    delivery_count: int = 0
    failure_count: int = 0
    priority: int = 0


class Result(msgspec.Struct, frozen=True):
    """What became of one item of many."""

    message_id: str
    status: str
    error: str = ""


class LeaseEnd(msgspec.Struct, frozen=True):
    """When a lease ends now."""

    lease_expires_at: datetime
