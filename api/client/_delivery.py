"""A message in the hands of a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockqueue.api._durations import Duration

from ._held import Leased
from ._values import Claimed

if TYPE_CHECKING:
    from ._client import Client


class Delivery(Leased):
    """One message, leased to whoever holds this until ``lease_expires_at``.

    Settle it with ``ack``, ``nack``, ``extend``, ``snooze`` or ``cancel``. Each raises
    LeaseLost once the lease ran out or another consumer has the message: then nothing has
    changed.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client, topic: str, subscriber: str, claimed: Claimed) -> None:
        super().__init__(topic, subscriber, claimed)
        self._client = client

    def ack(self) -> None:
        """Done: it is never handed out to this subscriber again. Repeating it is fine."""
        self._client.ack(self._topic, self._subscriber, [self])

    def nack(self, *, delay: Duration | None = None, error: str = "") -> None:
        """Failed: again after ``delay`` (None: the subscriber's retry policy), or dead."""
        self._client.nack(self._topic, self._subscriber, [self], delay=delay, error=error)

    def extend(self, by: Duration) -> None:
        """Make the lease last longer by ``by``, at most until 12 hours from now."""
        self._client.extend(self._topic, self._subscriber, [self], by=by)

    def snooze(self, delay: Duration) -> None:
        """Give it back without a failure, visible again after ``delay``."""
        self._client.snooze(self._topic, self._subscriber, [self], delay=delay)

    def cancel(self, reason: str = "") -> None:
        """Give it up: it is neither handed out again nor dead. Repeating it is fine."""
        self._client.cancel(self._topic, self._subscriber, [self], reason=reason)
