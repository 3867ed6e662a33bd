"""A subscriber's actor: who waits for messages, who gets them, and when to look again."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from blockqueue.storage import (
    Ack,
    Delivery,
    NotFound,
    Paused,
    Settled,
    Settlement,
    Subscriber,
    Tx,
    Unavailable,
    ValidationError,
    claim_in,
    limits,
    look,
    meters,
    settle_in,
)

from . import _signals as signals
from ._engine import Engine
from ._gathering import Gathered, GatheringActor, GatheringInbox
from ._promise import Promise
from ._runtime import (
    LATER,
    Envelope,
    refuse,
    tell,
)
from ._signals import Ref, Waiter
from ._writer import Operation
from .messages import Claim, Settle


class _Due(NamedTuple):
    """The time has come for which the alarm was set."""

    due_ms: int


class _Claimed(NamedTuple):
    """A claim has ended; these got nothing and wait on."""

    unserved: Sequence[Waiter]


class _Inbox(GatheringInbox):
    gathers = Settle


class SubscriberActor(GatheringActor):
    """Owns one subscriber's waiting consumers, in the order they came.

    All that wait are served by one claim at a time, after a look by a reader that there is
    something. Every commit that could help is followed by a ``Wake``, and a wake that comes
    in while a claim runs leads to another look: none is lost.
    """

    def __init__(self, engine: Engine, supervisor: Ref, subscriber: Subscriber) -> None:
        super().__init__(engine.pool)
        self.subscriber = subscriber
        self.meters = engine.store.meters
        self._engine = engine
        self._supervisor = supervisor
        self._waiters: deque[Waiter] = deque()
        #: Those for whom a claim is on its way.
        self._claiming: Sequence[Waiter] = ()
        self._look_again = False
        self._alarm_ms: int | None = None
        #: Why it ends, while it still waits for a claim on its way.
        self._ending: BaseException | None = None

    def on_receive(self, message: Any) -> Any:
        match message:
            case Claim():
                return self._queue_claim(message)
            case signals.Wake() | signals.Flush():
                pass  # to look is enough: while the queue drains, nobody is left waiting
            case _Claimed(unserved):
                self._wait_on(unserved)
            case _Due(due_ms):
                if self._alarm_ms == due_ms:
                    self._alarm_ms = None
            case signals.Carried(waiters):
                self._waiters.extend(waiters)
            case signals.Supervisor(job):
                self._supervisor = job
            case signals.Gone(error):
                self._end(error)
            case signals.StopIfIdle():
                return self._stop_if_idle()
            case _:
                raise TypeError(f"a SubscriberActor cannot handle {message!r}")
        self._look_again = True
        return None

    def _queue_claim(self, message: Claim) -> Any:
        _check(message)
        if self._ending is not None:
            raise self._ending
        wait_ms = 0 if self._engine.draining else message.wait_ms
        deadline_ms = self._engine.clock.now_ms() + wait_ms
        promise = self.reply_to or Promise()
        self._waiters.append(
            Waiter(message.limit, message.lease_ms, deadline_ms, message.through_pause, promise)
        )
        self._look_again = True
        return LATER

    def on_drained(self) -> None:
        if self._look_again and self._waiters and not self._claiming:
            self._look_again = False
            self._engine.siblings.begin_waiting(self)  # first, or a commit could slip between
            try:
                self._serve()
            except NotFound as error:  # another process has deleted it
                self._end(error)
        if not self._waiters and not self._claiming:
            self._engine.siblings.end_waiting(self)

    # Claiming.

    def _serve(self) -> None:
        """Claim for those who wait if there is something, else see to it that we are woken."""
        with self._engine.store.reading() as snapshot:
            seen = look(snapshot, self.subscriber.id)
            now_ms = snapshot.now_ms
        if seen.paused:
            for waiter in self._waiters:
                if not waiter.through_pause:
                    waiter.promise.fail(Paused("the subscriber or its topic is paused"))
        elif seen.ready and self._claim():
            return
        for waiter in self._waiters:
            if waiter.deadline_ms <= now_ms or self._engine.draining:
                waiter.promise.complete([])
        self._waiters = deque(waiter for waiter in self._waiters if not waiter.promise.is_done)
        if self._waiters:
            due_ms = min(waiter.deadline_ms for waiter in self._waiters)
            if seen.due_ms is not None and not seen.paused:
                due_ms = min(due_ms, seen.due_ms)
            self._wake_at(due_ms)

    def _wake_at(self, due_ms: int) -> None:
        if self._alarm_ms is None or due_ms < self._alarm_ms:
            self._alarm_ms = due_ms
            self._engine.alarm.at(due_ms, partial(tell, self.actor_ref, _Due(due_ms)))

    def _claim(self) -> bool:
        waiters = tuple(waiter for waiter in self._waiters if not waiter.promise.is_done)
        self._waiters.clear()
        if not waiters:
            return False
        self._claiming = waiters
        run = partial(_claim_for, self.subscriber.id, waiters)
        finish = partial(_hand_out, self._engine, self.actor_ref, waiters, time.monotonic())
        self._engine.write(Operation(run, _always, finish, urgent=True))
        return True

    def _wait_on(self, unserved: Sequence[Waiter]) -> None:
        self._claiming = ()
        self._waiters.extendleft(reversed(unserved))
        if self._ending is not None:
            self._end(self._ending)

    # Settling.

    @staticmethod
    def _create_actor_inbox() -> _Inbox:
        return _Inbox()

    def write_gathered(self) -> None:
        settlements = _Settlements(self)
        self._engine.write(
            Operation(
                settlements.run,
                settlements.begin,
                settlements.finish,
                urgent=True,
                await_callers=self.actor_inbox.await_callers,
            )
        )

    def wake_waiters(self) -> None:
        """Let who waits look again, after something was given back. Runs on the writer."""
        if self._waiters:
            if not tell(self.actor_ref, signals.Wake()):
                self._engine.wake_all()
        elif self.actor_stopped.is_set():  # who waits does so with the actor that came after
            self._engine.wake_all()

    # Ending.

    def _end(self, error: BaseException) -> None:
        for waiter in self._waiters:
            waiter.promise.fail(error)
        self._waiters.clear()
        self._ending = error
        if self._claiming:
            return  # when the claim is back: only then is it known whom it did not serve
        self.close(error)

    def _stop_if_idle(self) -> None:
        busy = self._waiters or self._claiming
        idle = time.monotonic() - self.used_at >= self._engine.idle_s
        if not busy and idle:
            self.close_if_empty()

    def on_stop(self) -> None:
        self._engine.siblings.end_waiting(self)
        tell(self._supervisor, signals.SubscriberStopped(self.subscriber.name))

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        self._engine.siblings.end_waiting(self)
        # A claim on its way may still serve its waiters. If the next actor serves one
        # twice, the second claim finds it served and is undone.
        waiters = (*self._claiming, *self._waiters)
        failed = signals.SubscriberFailed(self.subscriber.name, error, waiters, rest)
        if not tell(self._supervisor, failed):
            gone = Unavailable(f"subscriber {self.subscriber.name!r} failed: {error!r}")
            for waiter in waiters:
                waiter.promise.fail(gone)
            refuse(failed.rest, gone)


def _claim_for(subscriber_id: int, waiters: Sequence[Waiter], tx: Tx) -> list[list[Delivery]]:
    """Claim for each waiter in turn until nothing is left. Runs on the writer."""
    claimed: list[list[Delivery]] = []
    for waiter in waiters:
        if waiter.promise.is_done:
            claimed.append([])
            continue
        found = claim_in(tx, subscriber_id, waiter.limit, waiter.lease_ms)
        claimed.append(found)
        if not found:
            break
    return claimed


def _hand_out(
    engine: Engine,
    ref: Ref,
    waiters: Sequence[Waiter],
    began: float,
    claimed: list[list[Delivery]] | None,
    error: BaseException | None,
) -> None:
    """Give each waiter what was claimed for it. Runs on the writer, after the commit."""
    took_s = time.monotonic() - began  # from when there was something, not from when it was asked
    engine.store.meters.time(meters.DELIVERY_SECONDS["claim"], (took_s,))
    unserved: list[Waiter] = []
    served = claimed or []
    for index, waiter in enumerate(waiters):
        deliveries = served[index] if index < len(served) else []
        if error is None or (isinstance(error, Paused) and waiter.through_pause):
            if not deliveries:
                unserved.append(waiter)
            elif not waiter.promise.complete(deliveries):
                engine.release(deliveries)  # the consumer has gone
        else:
            waiter.promise.fail(error)
    tell(ref, _Claimed(unserved))  # if it has died, the next actor has them already


def _check(claim: Claim) -> None:
    """Raise ValidationError here, where it concerns nobody else's claim."""
    limits.check_range("limit", 1 if claim.limit is None else claim.limit, 1, limits.BATCH_MAX)
    lease_ms = 1 if claim.lease_ms is None else claim.lease_ms
    limits.check_range("lease", lease_ms, 1, limits.LEASE_MS_MAX, " ms (12h)")
    if not isinstance(claim.wait_ms, int):
        raise ValidationError(f"wait must be whole milliseconds, not {claim.wait_ms!r}")


def _always() -> bool:
    return True


class _Settlements(Gathered):
    """The settlements that one write serves, the acks of all callers as one."""

    def __init__(self, actor: SubscriberActor) -> None:
        super().__init__(actor.actor_inbox)
        self._actor = actor

    def run(self, tx: Tx) -> list[list[Settled]]:
        calls: list[Settle] = [envelope.message for envelope in self.begun]
        settle = partial(settle_in, tx, self._actor.subscriber.id)
        if len(calls) == 1:
            return [settle(calls[0].settlement, calls[0].handles)]
        acks = [call for call in calls if isinstance(call.settlement, Ack)]
        handles = [handle for call in acks for handle in call.handles]
        acked = iter(settle(Ack(), handles) if handles else ())
        return [
            list(itertools.islice(acked, sum(handle.count for handle in call.handles)))
            if isinstance(call.settlement, Ack)
            else settle(call.settlement, call.handles)
            for call in calls
        ]

    def finish(self, settled: list[list[Settled]], error: BaseException | None) -> None:
        """Give each caller its outcomes; a nack may be due at once for one who waits."""
        if error is not None:
            self.fail(error)
            return
        now = time.monotonic()
        took: dict[int, list[float]] = {}
        for envelope, outcomes in zip(self.begun, settled, strict=True):
            if envelope.reply_to is not None:
                timer = _timer(envelope.message.settlement, len(outcomes))
                took.setdefault(timer, []).append(now - envelope.reply_to.made)
                envelope.reply_to.complete(outcomes)
        for timer, seconds in took.items():
            self._actor.meters.time(timer, seconds)
        self._actor.wake_waiters()


def _timer(settlement: Settlement | Sequence[Settlement], count: int) -> int:
    """Return the histogram for a call that settles ``count`` messages."""
    if not isinstance(settlement, Settlement):
        return meters.DELIVERY_SECONDS["batch_nack"]
    operation = settlement.operation
    if count > 1 and operation in ("ack", "nack"):
        operation = f"batch_{operation}"
    return meters.DELIVERY_SECONDS.get(operation, meters.DELIVERY_SECONDS["other"])
