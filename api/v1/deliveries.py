"""One delivery: claim it, settle it, see why it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from blockqueue import storage
from blockqueue.actors import Claim
from blockqueue.api._answer import Answer
from blockqueue.api._delivery import handle_of
from blockqueue.api._needs import CONSUME, OBSERVE
from blockqueue.storage import (
    DeliveryNotFound,
    Finished,
    LeaseLost,
    Outcome,
    Settlement,
)

from . import _problem
from . import _settlements as bodies
from ._call import Call
from ._deliveries import Delivery, claimed
from ._objects import Id, NextCursor, Timestamp
from ._pages import Cursors
from ._parameters import CLAIM_LIMIT, LEASE, TIMEOUT, page
from ._table import Routes
from ._times import delay_ms, lease_ms, timestamp

routes = Routes("Deliveries", "Claim messages for a subscriber, and settle them one by one.")

_SUB = "/topics/{topic}/subscribers/{sub}"
_ONE = _SUB + "/messages/{message_id}"
_CONFLICT = [_problem.CONFLICT]
_cursors = Cursors("e", int, int)


class DeliveryError(msgspec.Struct):
    """One failure of a delivery: a nack, or a lease that ran out."""

    id: Id
    message_id: Id
    subscriber_id: Id
    failure_count: int
    error: str
    failed_at: Timestamp


class ErrorPage(msgspec.Struct):
    """Some of a delivery's failures, the latest first."""

    errors: list[DeliveryError]
    next_cursor: NextCursor = msgspec.UNSET


@routes.post(
    _SUB + "/claim",
    CONSUME,
    query=[TIMEOUT, CLAIM_LIMIT, LEASE],
    answers={200: list[Delivery]},
    problems=[*_CONFLICT, _problem.BUFFER_PRESSURE],
    hot=True,
)
def claim_messages(call: Call) -> Answer:
    """Lease messages.

    Answers as soon as there is one, with what there is; with an empty list at the timeout.
    Higher priorities come first, then what has been visible for longer. It is a conflict
    while the subscriber or its topic is paused.
    """
    query = call.query
    claim = Claim(call.subscriber, query["limit"], query["lease"], query["timeout"])
    system = call.queue.system

    def render(deliveries: Sequence[storage.Delivery]) -> Answer:
        return call.reply(claimed(deliveries))

    promise = system.ask(call.topic, claim)
    return call.later(promise, render, give_back=system.release, poll=True)


@routes.post(
    _ONE + "/ack",
    CONSUME,
    body=bodies.Ack,
    answers={200: bodies.Settled},
    problems=_CONFLICT,
    hot=True,
)
def ack_message(call: Call) -> Answer:
    """Settle a delivery as done.

    The same receipt again is fine. It is a conflict once the lease has ended.
    """
    done = bodies.Settled("processed")
    return _settle(call, storage.Ack(), call.body.receipt_token, lambda _: done)


@routes.post(
    _ONE + "/nack",
    CONSUME,
    body=bodies.NackOne,
    answers={200: bodies.Settled},
    problems=_CONFLICT,
    hot=True,
)
def nack_message(call: Call) -> Answer:
    """Settle a delivery as failed.

    It is tried again after a delay, or is dead after its subscriber's last attempt; the
    answer is `pending` either way.
    """
    body: bodies.NackOne = call.body
    done = bodies.Settled("pending")
    return _settle(call, body.settlement(), body.receipt_token, lambda _: done)


@routes.post(
    _ONE + "/lease",
    CONSUME,
    body=bodies.Lease,
    answers={200: bodies.Extended},
    problems=_CONFLICT,
    hot=True,
)
def extend_lease(call: Call) -> Answer:
    """Make a lease last longer.

    The extension counts from the lease's present end, which can be at most 12 hours from
    now. A delivery that does not exist is a conflict, too.
    """
    body: bodies.Lease = call.body
    extend = storage.Extend(lease_ms("extension", body.extension))

    def render(settled: storage.Settled) -> bodies.Extended:
        return bodies.Extended(_due(settled))

    return _settle(call, extend, body.receipt_token, render, unknown=LeaseLost)


@routes.post(
    _ONE + "/snooze",
    CONSUME,
    body=bodies.Snooze,
    answers={200: bodies.Snoozed},
    problems=_CONFLICT,
    hot=True,
)
def snooze_message(call: Call) -> Answer:
    """Give a delivery back without a failure, to be visible again later."""
    body: bodies.Snooze = call.body
    snooze = storage.Snooze(delay_ms("delay", body.delay))

    def render(settled: storage.Settled) -> bodies.Snoozed:
        return bodies.Snoozed("pending", _due(settled))

    return _settle(call, snooze, body.receipt_token, render)


@routes.post(
    _ONE + "/cancel",
    CONSUME,
    body=bodies.CancelOne,
    body_may_be_empty=True,
    answers={200: bodies.Settled},
    problems=_CONFLICT,
    hot=True,
)
def cancel_delivery(call: Call) -> Answer:
    """Cancel a delivery, whoever holds it; with a receipt, only if that holds it.

    A live receipt stops working. Repeatable, and the first reason stays. It is a conflict if
    the delivery is acknowledged or dead, or the lease of the receipt has ended.
    """
    body: bodies.CancelOne = call.body
    done = bodies.Settled("cancelled")
    receipt = body.receipt_token or None
    cancel = storage.Cancel(body.reason or "", leased=receipt is not None)
    return _settle(call, cancel, receipt, lambda _: done)


@routes.get(_ONE + "/errors", OBSERVE, query=page(_cursors), answers={200: ErrorPage})
def list_errors(call: Call) -> Answer:
    """List a delivery's failures."""
    limit, after = call.query["limit"], call.query["cursor"]
    message_id = call.path["message_id"]
    found = call.queue.failure_page(call.topic, call.subscriber, message_id, limit, after)
    listed = [
        DeliveryError(
            each.id,
            each.message_id,
            call.public_id("subscriber", each.subscriber_id),
            each.failure_count,
            each.error,
            timestamp(each.failed_ms),
        )
        for each in found.items
    ]
    return call.reply(ErrorPage(listed, _cursors.write(found.after)))


def _due(settled: storage.Settled) -> str:
    assert settled.due_ms is not None
    return timestamp(settled.due_ms)


def _settle(
    call: Call,
    settlement: Settlement,
    receipt: str | None,
    render: Callable[[storage.Settled], Any],
    unknown: type[DeliveryNotFound | LeaseLost] = DeliveryNotFound,
) -> Answer:
    """Settle the delivery of the path; ``unknown`` is what it is if there is none."""
    handle = handle_of(call.path["message_id"], receipt)
    promise = call.queue.start_settle(call.topic, call.subscriber, settlement, [handle])

    def answer(all_settled: Sequence[storage.Settled]) -> Answer:
        (settled,) = all_settled
        match settled.outcome:
            case Outcome.DONE:
                return call.reply(render(settled))
            case Outcome.UNKNOWN:
                raise unknown("the subscriber has no such delivery")
            case Outcome.LOST:
                raise LeaseLost("the lease has ended, or the receipt is another claim's")
            case Outcome.FINISHED:
                raise Finished("the delivery is acknowledged or dead")

    return call.later(promise, answer)
