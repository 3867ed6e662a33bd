"""Subscribers: list, add, delete, pause."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from blockqueue.api._answer import Answer
from blockqueue.api._needs import MANAGE, OBSERVE
from blockqueue.storage import limits

from . import _problem
from ._call import Call
from ._objects import Id, NextCursor, Paused
from ._options import NewSubscriber, ShownSubscriber, shown
from ._pages import Cursors
from ._parameters import page
from ._table import Routes

routes = Routes("Subscribers", "Each subscriber of a topic gets every message once.")
_cursors = Cursors("s", str, int)

NewSubscribers = Annotated[list[NewSubscriber], Meta(min_length=1, max_length=limits.BATCH_MAX)]


class SubscriberStatus(msgspec.Struct):
    """A subscriber and its counters."""

    topic_id: Id
    name: str
    unpublished_message: Annotated[
        int, Meta(description="Waiting: ready, delayed, snoozed, or to be tried again.")
    ]
    unacked_message: Annotated[int, Meta(description="Handed out and not settled yet.")]


class SubscriberPage(msgspec.Struct):
    """Some of a topic's subscribers, by name."""

    subscribers: list[SubscriberStatus]
    next_cursor: NextCursor = msgspec.UNSET


@routes.get(
    "/topics/{topic}/subscribers", OBSERVE, query=page(_cursors), answers={200: SubscriberPage}
)
def list_subscribers(call: Call) -> Answer:
    """List a topic's subscribers with their counters."""
    found = call.queue.subscriber_page(call.topic, call.query["limit"], call.query["cursor"])
    listed = [
        SubscriberStatus(
            call.public_id("topic", each.topic_id), each.name, each.waiting, each.leased
        )
        for each in found.items
    ]
    return call.reply(SubscriberPage(listed, _cursors.write(found.after)))


@routes.post(
    "/topics/{topic}/subscribers",
    MANAGE,
    body=NewSubscribers,
    answers={201: list[ShownSubscriber]},
    problems=[_problem.CONFLICT],
)
def add_subscribers(call: Call) -> Answer:
    """Add subscribers to a topic.

    All or nothing. They get only what is published from now on. It is a conflict if a name
    is taken or given twice.
    """
    body: list[NewSubscriber] = call.body
    call.queue.add_subscribers(call.topic, [each.checked() for each in body])
    return call.reply([shown(each) for each in body])


@routes.delete("/topics/{topic}/subscribers/{sub}", MANAGE, answers={204: None})
def delete_subscriber(call: Call) -> Answer:
    """Delete a subscriber with its deliveries."""
    call.queue.delete_subscriber(call.topic, call.subscriber)
    return call.reply()


@routes.post("/topics/{topic}/subscribers/{sub}/pause", MANAGE, answers={200: Paused})
def pause_subscriber(call: Call) -> Answer:
    """Let a subscriber claim nothing."""
    call.queue.pause(call.topic, call.subscriber)
    return call.reply(Paused(True))


@routes.post("/topics/{topic}/subscribers/{sub}/resume", MANAGE, answers={200: Paused})
def resume_subscriber(call: Call) -> Answer:
    """End a subscriber's pause: what waits can be claimed at once."""
    call.queue.resume(call.topic, call.subscriber)
    return call.reply(Paused(False))
