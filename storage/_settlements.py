"""What a consumer or an operator may say about deliveries.

Each kind of settlement is a small class: which runs it accepts, and what becomes of them.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

import msgspec

from . import limits
from ._errors import CorruptBlock
from ._failures import fail_in
from ._runs import Run, move
from ._snapshot import Tx
from ._states import ACTIVE, Event, State
from ._subscriber import Subscriber


class Handle(msgspec.Struct, frozen=True):
    """A delivery as its holder names it.

    ``proof`` is the claim's generation (from a Delivery of this process), its receipt
    token, or None: whoever knows the id may. ``subscriber_id``, ``topic_id``: whose the id
    says it is, if it does. ``count``: so many neighbours (with a generation).
    """

    priority: int
    seq: int
    tag: int
    proof: int | str | None = None
    subscriber_id: int | None = None
    count: int = 1
    topic_id: int | None = None


class Outcome(Enum):
    """What became of one handle."""

    DONE = "done"
    LOST = "delivery lease lost"
    UNKNOWN = "delivery not found"
    #: It is processed or dead, which the settlement does not allow.
    FINISHED = "delivery operation failed"


class Settled(msgspec.Struct, frozen=True):
    """The outcome for one handle, and if done the delivery's new state and due time."""

    outcome: Outcome
    state: State | None = None
    due_ms: int | None = None


LOST, UNKNOWN = Settled(Outcome.LOST), Settled(Outcome.UNKNOWN)
_FINISHED = Settled(Outcome.FINISHED)


class Settlement(msgspec.Struct, frozen=True):
    """What is to happen. Base: it ends or changes a lease that has not run out."""

    #: What the meters call it.
    operation: ClassVar[str]

    def accepts(self, run: Run, now_ms: int) -> bool:
        return run.state == State.LEASED and run.due_ms is not None and run.due_ms > now_ms

    def accepts_pending(self) -> bool:
        """Say whether it may happen to what was never handed out."""
        return False

    def repeats(self, run: Run, handle: Handle) -> bool:
        """Say whether it was done before: no change, no error."""
        return False

    def refusal(self, handle: Handle) -> Settled:
        """Return what to answer if the delivery is there but the settlement is not accepted."""
        return UNKNOWN if handle.proof is None else LOST

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        raise NotImplementedError


class Ack(Settlement, frozen=True):
    """Done. The same receipt again is fine for as long as the delivery is kept."""

    operation: ClassVar[str] = "ack"

    def repeats(self, run: Run, handle: Handle) -> bool:
        return run.state == State.PROCESSED and handle.proof is not None

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.ACK, tx.now_ms)


class Nack(Settlement, frozen=True):
    """Failed: try again after ``delay_ms`` (None or 0: the subscriber's policy), or bury."""

    operation: ClassVar[str] = "nack"
    delay_ms: int | None = None
    error: str = ""

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        reason = limits.cut_reason(self.error)
        return fail_in(tx, run, Event.NACK, subscriber, priority, reason, self.delay_ms or None)


class Extend(Settlement, frozen=True):
    """Make the lease last ``ms`` longer, at most until 12 hours from now.

    None: for as long as the subscriber's leases last.
    """

    operation: ClassVar[str] = "lease"
    ms: int | None = None

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        assert run.due_ms is not None
        by_ms = subscriber.visibility_ms if self.ms is None else self.ms
        due_ms = min(run.due_ms + by_ms, tx.now_ms + limits.LEASE_MS_MAX)
        return move(run, Event.EXTEND, due_ms, reason=run.reason)


class Snooze(Settlement, frozen=True):
    """End the lease without a failure; visible again after ``delay_ms``."""

    operation: ClassVar[str] = "snooze"
    delay_ms: int

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.SNOOZE, tx.now_ms + self.delay_ms, reason=run.reason)


class Release(Settlement, frozen=True):
    """Undo the claim: nobody received it. It goes back to the front, nothing is counted."""

    operation: ClassVar[str] = "release"

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        visible_ms = run.since_ms
        if visible_ms is None:
            try:
                block = tx.block(subscriber.topic_id, priority, run.first_seq)
                visible_ms = block.segment(run.first_seq).created_ms
            except CorruptBlock:
                visible_ms = tx.now_ms
        count = run.delivery_count - 1
        return move(run, Event.RELEASE, visible_ms, delivery_count=count, reason=run.reason)


class Cancel(Settlement, frozen=True):
    """Give it up for ``reason``, whether it waits or is leased. Again: the first reason stays.

    ``leased``: only for who holds the lease; then the handle must prove that.
    """

    operation: ClassVar[str] = "cancel"
    reason: str = ""
    leased: bool = False

    def accepts(self, run: Run, now_ms: int) -> bool:
        if self.leased:
            return super().accepts(run, now_ms)
        return run.state in ACTIVE or run.state == State.PENDING

    def accepts_pending(self) -> bool:
        return not self.leased

    def repeats(self, run: Run, handle: Handle) -> bool:
        return run.state == State.CANCELLED

    def refusal(self, handle: Handle) -> Settled:
        return LOST if self.leased else _FINISHED

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.CANCEL, tx.now_ms, reason=limits.cut_reason(self.reason))


class Replay(Settlement, frozen=True):
    """An operator's word: try again now. A dead letter starts over with both counts 0.

    ``dead_only``: what waits for a retry is left alone.
    """

    operation: ClassVar[str] = "replay"
    dead_only: bool = False

    def accepts(self, run: Run, now_ms: int) -> bool:
        return run.state == State.DEAD or (run.state == State.WAITING and not self.dead_only)

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        if run.state == State.WAITING:
            return move(run, Event.REPLAY, tx.now_ms, reason=run.reason)
        return move(
            run, Event.REPLAY, tx.now_ms, delivery_count=0, failure_count=0, reason=run.reason
        )


class Drop(Replay, frozen=True):
    """An operator's word: give it up, whether dead or waiting."""

    operation: ClassVar[str] = "drop"

    def apply(self, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        return move(run, Event.DROP, tx.now_ms, reason="dropped by an operator")
