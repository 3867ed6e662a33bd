"""A message in the hands of a consumer, without the ways to settle it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ._values import Claimed


class Leased:
    """One message, leased to whoever holds this until ``lease_expires_at``."""

    __slots__ = ("_claimed", "_subscriber", "_topic")

    def __init__(self, topic: str, subscriber: str, claimed: Claimed) -> None:
        self._topic = topic
        self._subscriber = subscriber
        self._claimed = claimed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self._topic!r} to {self._subscriber!r}>"

    @property
    def id(self) -> str:
        """The message's id, the same for every subscriber."""
        return self._claimed.id

    @property
    def message(self) -> str:
        """The payload as it was published. Bytes of an embedded program come as text."""
        return self._claimed.message

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; empty if it was published without."""
        return self._claimed.headers

    @property
    def correlation_id(self) -> str | None:
        return self._claimed.correlation_id

    @property
    def priority(self) -> int:
        """From −1000 to 1000; higher ones are handed out first."""
        return self._claimed.priority

    @property
    def receipt_token(self) -> str:
        """Proves this claim to any process: ``client.ack(…, [(id, receipt_token)])``."""
        return self._claimed.receipt_token

    @property
    def delivery_count(self) -> int:
        """How often it was handed out, this time included."""
        return self._claimed.delivery_count

    @property
    def failure_count(self) -> int:
        """How often it was nacked or its lease ran out."""
        return self._claimed.failure_count

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends, by the queue's clock; ``extend`` moves it."""
        return self._claimed.lease_expires_at

    @property
    def created_at(self) -> datetime:
        """When it was published, by the queue's clock."""
        return self._claimed.created_at

    def extended(self, lease_expires_at: datetime) -> None:
        """Note the lease's new end."""
        self._claimed.lease_expires_at = lease_expires_at


#: A delivery, or its (id, receipt_token) from another process.
Held = Leased | tuple[str, str]
