"""A message in the hands of a consumer with an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockqueue.api._durations import Duration

from ._held import Leased
from ._values import Claimed

if TYPE_CHECKING:
    from ._async_client import AsyncClient


class AsyncDelivery(Leased):
    """One message, leased to whoever holds this until ``lease_expires_at``.

    Settle it with ``ack``, ``nack``, ``extend``, ``snooze`` or ``cancel``. Each raises
    LeaseLost once the lease ran out or another consumer has the message: then nothing has
    changed.
    """

    __slots__ = ("_client",)

    def __init__(self, client: AsyncClient, topic: str, subscriber: str, claimed: Claimed) -> None:
        super().__init__(topic, subscriber, claimed)
        self._client = client

    async def ack(self) -> None:
        """See ``Delivery.ack``."""
        await self._client.ack(self._topic, self._subscriber, [self])

    async def nack(self, *, delay: Duration | None = None, error: str = "") -> None:
        """See ``Delivery.nack``."""
        await self._client.nack(self._topic, self._subscriber, [self], delay=delay, error=error)

    async def extend(self, by: Duration) -> None:
        """See ``Delivery.extend``."""
        await self._client.extend(self._topic, self._subscriber, [self], by=by)

    async def snooze(self, delay: Duration) -> None:
        """See ``Delivery.snooze``."""
        await self._client.snooze(self._topic, self._subscriber, [self], delay=delay)

    async def cancel(self, reason: str = "") -> None:
        """See ``Delivery.cancel``."""
        await self._client.cancel(self._topic, self._subscriber, [self], reason=reason)
