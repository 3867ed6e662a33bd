"""What can be said to a topic's actor (``queue.job("cart")``), and by whom it is answered.

Send them with ``ref.ask(message, timeout=…)``. All durations are milliseconds of the queue's
clock. Each may raise the errors of ``blockqueue.storage``, and ActorDeadError when the
actor has stopped meanwhile: ask the queue for the topic's actor again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blockqueue.storage import Batch, Handle, Settlement


class Publish(NamedTuple):
    """Append batches to the topic. Answer: list of Published, after the commit."""

    batches: Sequence[Batch]


class Claim(NamedTuple):
    """Lease messages of one subscriber. Answer: list of Delivery, empty after ``wait_ms``."""

    subscriber: str
    #: None: the subscriber's claim limit.
    limit: int | None = None
    #: None: the subscriber's visibility timeout.
    lease_ms: int | None = None
    #: 0 or less: do not wait.
    wait_ms: int = 0
    #: Wait until a paused subscriber is resumed, instead of raising Paused.
    through_pause: bool = False


class Settle(NamedTuple):
    """Ack, nack, extend, … deliveries of one subscriber. Answer: list of Settled, in order."""

    subscriber: str
    #: One for all, or one for each of ``handles``.
    settlement: Settlement | Sequence[Settlement]
    handles: Sequence[Handle]
