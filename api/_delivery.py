"""A message in the hands of a consumer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from blockqueue.storage import Delivery as Stored
from blockqueue.storage import Envelope, Handle, ValidationError, parse_id

from ._durations import Duration
from ._receipts import from_ms

if TYPE_CHECKING:
    from ._consuming import Consuming
    from ._transaction import Transaction


class Delivery:
    """One message, leased to whoever holds this until ``lease_expires_at``.

    Settle it with ``ack``, ``nack``, ``extend`` or ``snooze``. Each raises LeaseLost once the
    lease ran out or another consumer has the message: then nothing has changed.
    """

    __slots__ = ("_queue", "_stored", "_subscriber", "_topic")

    def __init__(self, queue: Consuming, topic: str, subscriber: str, stored: Stored) -> None:
        self._queue = queue
        self._topic = topic
        self._subscriber = subscriber
        self._stored = stored

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self._topic!r} to {self._subscriber!r}>"

    @property
    def id(self) -> str:
        """The message's id, the same for every subscriber."""
        return self._stored.message_id

    @property
    def message(self) -> str | bytes:
        """The payload as it was published, text or bytes."""
        body = self._stored.body
        return body.payload if isinstance(body, Envelope) else body

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; empty if it was published without."""
        body = self._stored.body
        return (body.headers or {}) if isinstance(body, Envelope) else {}

    @property
    def correlation_id(self) -> str | None:
        body = self._stored.body
        return body.correlation_id if isinstance(body, Envelope) else None

    @property
    def priority(self) -> int:
        """From −1000 to 1000; higher ones are handed out first."""
        return self._stored.priority

    @property
    def receipt_token(self) -> str:
        """Proves this claim to any process: ``queue.ack(…, [(id, receipt_token)])``."""
        return self._stored.receipt_token

    @property
    def delivery_count(self) -> int:
        """How often it was handed out, this time included."""
        return self._stored.delivery_count

    @property
    def failure_count(self) -> int:
        """How often it was nacked or its lease ran out."""
        return self._stored.failure_count

    @property
    def lease_expires_at(self) -> datetime:
        """When the lease ends, by the queue's clock; ``extend`` moves it."""
        return from_ms(self._stored.lease_expires_ms)

    @property
    def created_at(self) -> datetime:
        """When it was published, by the queue's clock."""
        return from_ms(self._stored.created_ms)

    def ack(self, *, tx: Transaction | None = None) -> None:
        """Done: it is never handed out to this subscriber again. Repeating it is fine.

        With ``tx`` this, and the same of the others below, becomes true if that commits.
        """
        self._queue.ack(self._topic, self._subscriber, [self], tx=tx)

    def complete(self, *, tx: Transaction) -> None:
        """Ack it together with what else the transaction does: all of it happens, or nothing."""
        self.ack(tx=tx)

    def nack(
        self, *, delay: Duration | None = None, error: str = "", tx: Transaction | None = None
    ) -> None:
        """Failed: again after ``delay`` (None: the subscriber's retry policy), or dead."""
        self._queue.nack(self._topic, self._subscriber, [self], delay=delay, error=error, tx=tx)

    def extend(self, by: Duration) -> None:
        """Make the lease last longer by ``by``, at most until 12 hours from now."""
        self._queue.extend(self._topic, self._subscriber, [self], by=by)

    def snooze(self, delay: Duration, *, tx: Transaction | None = None) -> None:
        """Give it back without a failure, visible again after ``delay``."""
        self._queue.snooze(self._topic, self._subscriber, [self], delay=delay, tx=tx)

    def cancel(self, reason: str = "", *, tx: Transaction | None = None) -> None:
        """Give it up: it is neither handed out again nor dead. Repeating it is fine."""
        self._queue.cancel(self._topic, self._subscriber, [self], reason=reason, tx=tx)

    def stored(self, queue: Consuming) -> Stored | None:
        """Return what the storage knows it by, if it was ``queue`` that handed it out."""
        return self._stored if self._queue is queue else None

    def extended(self, due_ms: int) -> None:
        """Note the lease's new end."""
        self._stored.lease_expires_ms = due_ms


#: A delivery, or its (id, receipt_token) from another process.
Held = Delivery | tuple[str, str]


def handles_of(queue: Consuming, deliveries: Iterable[Held]) -> list[Handle]:
    """Name deliveries as the storage does, neighbours of one claim by a single handle."""
    handles: list[Handle] = []
    first: Stored | None = None
    count = 0
    for held in deliveries:
        stored = held.stored(queue) if isinstance(held, Delivery) else None
        if (
            first is not None
            and stored is not None
            and stored.seq == first.seq + count
            and stored.priority == first.priority
            and stored.generation == first.generation
            and stored.lease.subscriber_id == first.lease.subscriber_id
        ):
            count += 1
            continue
        if first is not None:
            handles.append(_handle(first, count))
        first, count = stored, 1
        if stored is None:
            handles.append(_foreign_handle(held))
    if first is not None:
        handles.append(_handle(first, count))
    return handles


def _handle(first: Stored, count: int) -> Handle:
    proof, owner = first.generation, first.lease.subscriber_id
    return Handle(first.priority, first.seq, first.tag, proof, owner, count)


# Which no subscriber has.
_NOBODYS = Handle(0, -1, 0, "")


def handle_of(message_id: str, receipt: str | None) -> Handle:
    """Name a delivery by its message's id and a receipt, None to do without.

    What is no id at all names a delivery that nobody has.
    """
    ref = parse_id(message_id)
    if ref is None or ref.is_delivery:
        return _NOBODYS
    return Handle(ref.priority, ref.seq, ref.tag, receipt, topic_id=ref.owner)


def _foreign_handle(held: Held) -> Handle:
    message_id, token = (held.id, held.receipt_token) if isinstance(held, Delivery) else held
    ref = parse_id(message_id)
    if ref is None:
        raise ValidationError(f"{message_id!r} is not a message id")
    if not isinstance(token, str):
        raise ValidationError(f"a receipt token is text, not {token!r}")
    return Handle(ref.priority, ref.seq, ref.tag, token)
