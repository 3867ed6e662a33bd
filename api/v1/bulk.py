"""Many deliveries at once: settle them, list them, replay the dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from blockqueue import storage
from blockqueue.api._answer import Answer
from blockqueue.api._delivery import handle_of
from blockqueue.api._needs import CONSUME, MANAGE, OBSERVE
from blockqueue.storage import Outcome

from . import _settlements as bodies
from ._call import Call
from ._deliveries import Delivery, viewed
from ._objects import NextCursor, Result
from ._pages import Cursors
from ._parameters import page
from ._table import Routes

routes = Routes("Bulk", "A subscriber's deliveries, many at once.")

_SUB = "/topics/{topic}/subscribers/{sub}"
_active = Cursors("a", int, int, int)
_dead = Cursors("d", int, int, int)

_NO_RECEIPT = "receipt_token is required"


class DeliveryPage(msgspec.Struct):
    """Some of a subscriber's deliveries, the newest messages first."""

    messages: list[Delivery]
    next_cursor: NextCursor = msgspec.UNSET


@routes.get(_SUB + "/messages", OBSERVE, query=page(_active), answers={200: DeliveryPage})
def list_messages(call: Call) -> Answer:
    """List the deliveries that wait or are leased."""
    return _list(call, call.queue.active_page, _active)


@routes.get(_SUB + "/dlq", OBSERVE, query=page(_dead), answers={200: DeliveryPage})
def list_dead_letters(call: Call) -> Answer:
    """List the dead letters."""
    return _list(call, call.queue.dead_page, _dead)


def _list(call: Call, read: Any, cursors: Cursors) -> Answer:
    found = read(call.topic, call.subscriber, call.query["limit"], call.query["cursor"])
    listed = [viewed(each) for each in found.items]
    return call.reply(DeliveryPage(listed, cursors.write(found.after)))


@routes.post(
    _SUB + "/messages/batch/ack",
    CONSUME,
    body=bodies.AckItems,
    answers={200: list[Result]},
    hot=True,
)
def ack_batch(call: Call) -> Answer:
    """Settle deliveries as done, each for itself."""
    items: list[bodies.AckItem] = call.body
    return _settle(call, storage.Ack(), items)


@routes.post(
    _SUB + "/messages/batch/nack",
    CONSUME,
    body=bodies.NackItems,
    answers={200: list[Result]},
    hot=True,
)
def nack_batch(call: Call) -> Answer:
    """Settle deliveries as failed, each for itself.

    A second item for the same delivery fails.
    """
    items: list[bodies.NackItem] = call.body
    return _settle(call, [each.settlement() for each in items], items)


@routes.post(
    _SUB + "/dlq/replay", MANAGE, body=bodies.Replay, answers={200: list[Result]}, hot=True
)
def replay_dead_letters(call: Call) -> Answer:
    """Make dead letters visible again, with their counters at zero.

    What is not dead fails. The history of failures is kept.
    """
    body: bodies.Replay = call.body
    replay = storage.Replay(dead_only=True)
    handles = [handle_of(each, None) for each in body.message_ids]

    def render(settled: Sequence[storage.Settled]) -> Answer:
        unknown = Outcome.UNKNOWN.value
        return call.reply(
            [
                Result(message_id, "pending")
                if each.outcome is Outcome.DONE
                else Result(message_id, "failed", unknown)
                for message_id, each in zip(body.message_ids, settled, strict=True)
            ]
        )

    promise = call.queue.start_settle(call.topic, call.subscriber, replay, handles)
    return call.later(promise, render)


def _settle(
    call: Call,
    settlement: storage.Settlement | Sequence[storage.Settlement],
    items: Sequence[bodies.AckItem | bodies.NackItem],
) -> Answer:
    # Never None for the receipt: that would be an operator's word, which needs none.
    handles = [handle_of(each.message_id or "", each.receipt_token or "") for each in items]

    def render(settled: Sequence[storage.Settled]) -> Answer:
        pairs = zip(items, settled, strict=True)
        return call.reply([_result(item, outcome) for item, outcome in pairs])

    promise = call.queue.start_settle(call.topic, call.subscriber, settlement, handles)
    return call.later(promise, render)


def _result(item: bodies.AckItem | bodies.NackItem, settled: storage.Settled) -> Result:
    message_id = item.message_id or ""
    if settled.outcome is Outcome.DONE:
        assert settled.state is not None
        return Result(message_id, settled.state.status)
    error = settled.outcome.value if item.receipt_token else _NO_RECEIPT
    return Result(message_id, "failed", error)
