"""The embedded face: claiming, and settling what was claimed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from blockqueue.actors import Claim, Promise, Settle
from blockqueue.storage import (
    Ack,
    Cancel,
    DeliveryNotFound,
    Extend,
    Finished,
    Handle,
    LeaseLost,
    Nack,
    Outcome,
    Settled,
    Settlement,
    Snooze,
    Tx,
    ValidationError,
    limits,
    settle_in,
    subscriber_named,
)
from blockqueue.storage import Delivery as Stored

from ._delivery import Delivery, Held, handle_of, handles_of
from ._durations import Duration, milliseconds
from ._face import Face
from ._transaction import Transaction


class Consuming(Face):
    """Claiming messages, and saying what became of them."""

    def claim(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int | None = None,
        wait: Duration = 0,
        lease: Duration | None = None,
    ) -> list[Delivery]:
        """Lease messages: what is due, higher priorities first, then the oldest.

        Args:
            limit: at most so many, 1 to 1000; default: the subscriber's claim limit.
            wait: how long to wait for the first one; never to fill up.
            lease: how long they are yours, 1ms to 12h; default: the subscriber's visibility.

        Returns:
            The deliveries, or [] when nothing came in time.

        Raises:
            TopicNotFound, SubscriberNotFound, Paused, ValidationError.
        """
        claim = _claim(subscriber, limit, wait, lease)
        span = None if self.tracing is None else self.tracing.claiming(topic, subscriber)
        found = self.system.call(topic, claim, self.timeout + claim.wait_ms / 1000)
        deliveries = self.delivered(topic, subscriber, found)
        if span is not None:
            span.end(deliveries)
        return deliveries

    def start_claim(
        self,
        topic: str,
        subscriber: str,
        *,
        limit: int | None = None,
        wait: Duration = 0,
        lease: Duration | None = None,
    ) -> Promise[list[Stored]]:
        """Begin to claim, and return the promise of what ``delivered`` makes deliveries of.

        To fail the promise calls the claim off: what it took meanwhile is given back.
        """
        return self.system.ask(topic, _claim(subscriber, limit, wait, lease))

    def delivered(self, topic: str, subscriber: str, found: Sequence[Stored]) -> list[Delivery]:
        """Return what was claimed as deliveries of this queue."""
        return [Delivery(self, topic, subscriber, stored) for stored in found]

    def ack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        tx: Transaction | None = None,
    ) -> None:
        """Settle deliveries as done, in a transaction if one is given. Repeating it is fine.

        Raises:
            LeaseLost: for some the lease had ended; ``lost`` names them, the others are done.
        """
        self._settle(topic, subscriber, Ack(), deliveries, tx)

    def nack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        delay: Duration | None = None,
        error: str = "",
        tx: Transaction | None = None,
    ) -> None:
        """Settle deliveries as failed, with the reason; see ``Delivery.nack``, ``ack``."""
        delay_ms = None if delay is None else milliseconds("delay", delay)
        limits.check_range("delay", delay_ms or 0, 0, limits.DELAY_MS_MAX, " ms")
        if not isinstance(error, str):
            raise ValidationError(f"error must be text, not {type(error).__name__}")
        self._settle(topic, subscriber, Nack(delay_ms, error), deliveries, tx)

    def extend(
        self, topic: str, subscriber: str, deliveries: Sequence[Held], *, by: Duration
    ) -> None:
        """Make leases last longer by ``by``, at most until 12 hours from now; see ``ack``."""
        by_ms = _lease_ms("by", by)
        self._settle(topic, subscriber, Extend(by_ms), deliveries)

    def snooze(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held],
        *,
        delay: Duration,
        tx: Transaction | None = None,
    ) -> None:
        """Give deliveries back without a failure, visible again after ``delay``; see ``ack``."""
        delay_ms = milliseconds("delay", delay)
        limits.check_range("delay", delay_ms, 0, limits.DELAY_MS_MAX, " ms")
        self._settle(topic, subscriber, Snooze(delay_ms), deliveries, tx)

    def cancel(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Held | str],
        *,
        reason: str = "",
        tx: Transaction | None = None,
    ) -> None:
        """Give deliveries up: they are neither handed out again nor dead. Repeatable.

        A delivery, or an (id, receipt), is cancelled by who holds its lease; by a message's id
        alone whatever is pending or leased is cancelled, and the lease is lost.

        Raises:
            LeaseLost: for some the lease had ended; the others are cancelled.
            DeliveryNotFound: an id is none of the subscriber's; the others are cancelled.
            Finished: one is acknowledged or dead; the others are cancelled.
        """
        if not isinstance(reason, str):
            raise ValidationError(f"reason must be text, not {type(reason).__name__}")
        held = [each for each in deliveries if not isinstance(each, str)]
        named = [each for each in deliveries if isinstance(each, str)]
        if named:
            handles = [handle_of(each, None) for each in named]
            settled = self.settle(topic, subscriber, Cancel(reason), handles, tx)
            for message_id, outcome in zip(named, settled, strict=True):
                check_cancelled(message_id, outcome)
        self._settle(topic, subscriber, Cancel(reason, leased=True), held, tx)

    def settle(
        self,
        topic: str,
        subscriber: str,
        settlement: Settlement | Sequence[Settlement],
        handles: Sequence[Handle],
        tx: Transaction | None = None,
    ) -> list[Settled]:
        """Settle by handle, each for itself: all alike, or each by a settlement of its own.

        Returns an outcome per message, in order.
        """
        count = sum(handle.count for handle in handles)
        limits.check_range("number of deliveries", count, 1, limits.BATCH_MAX)
        if tx is not None:
            run = partial(_settle_named, subscriber, settlement, handles)
            return tx.run(self, topic, run)
        settle = Settle(subscriber, settlement, handles)
        settled: list[Settled] = self.system.call(topic, settle, self.timeout)
        return settled

    def start_settle(
        self,
        topic: str,
        subscriber: str,
        settlement: Settlement | Sequence[Settlement],
        handles: Sequence[Handle],
    ) -> Promise[list[Settled]]:
        """Begin to settle, and return the promise of what ``settle`` returns."""
        return self.system.ask(topic, Settle(subscriber, settlement, handles))

    def _settle(
        self,
        topic: str,
        subscriber: str,
        settlement: Settlement,
        deliveries: Sequence[Held],
        tx: Transaction | None = None,
    ) -> None:
        if not deliveries:
            return
        settled = self.settle(topic, subscriber, settlement, handles_of(self, deliveries), tx)
        lost: list[str] = []
        for held, outcome in zip(deliveries, settled, strict=True):
            if outcome.outcome is not Outcome.DONE:
                lost.append(held.id if isinstance(held, Delivery) else held[0])
            elif isinstance(settlement, Extend) and isinstance(held, Delivery):
                assert outcome.due_ms is not None
                held.extended(outcome.due_ms)
        if lost:
            raise LeaseLost(
                f"{len(lost)} of {len(deliveries)} leases had ended: {', '.join(lost[:5])}", lost
            )


def check_cancelled(message_id: str, settled: Settled) -> None:
    """Raise unless a delivery is cancelled now."""
    if settled.outcome is Outcome.FINISHED:
        raise Finished(f"message {message_id!r} is acknowledged or dead for the subscriber")
    if settled.outcome is not Outcome.DONE:
        raise DeliveryNotFound(f"the subscriber has no delivery of message {message_id!r}")


def _settle_named(
    subscriber: str,
    settlement: Settlement | Sequence[Settlement],
    handles: Sequence[Handle],
    tx: Tx,
    topic_id: int,
) -> list[Settled]:
    found = subscriber_named(tx, topic_id, subscriber)
    return settle_in(tx, found.id, settlement, handles)


def _claim(subscriber: str, limit: int | None, wait: Duration, lease: Duration | None) -> Claim:
    """Raise ValidationError unless it can be asked for."""
    if limit is not None:
        limits.check_range("limit", limit, 1, limits.BATCH_MAX)
    wait_ms = max(0, milliseconds("wait", wait))
    lease_ms = None if lease is None else _lease_ms("lease", lease)
    return Claim(subscriber, limit, lease_ms, wait_ms)


def _lease_ms(what: str, value: Duration) -> int:
    return limits.check_range(what, milliseconds(what, value), 1, limits.LEASE_MS_MAX, " ms (12h)")
