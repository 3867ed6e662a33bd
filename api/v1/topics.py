"""Topics: list, make, delete, pause."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from blockqueue import storage
from blockqueue.api._answer import Answer
from blockqueue.api._needs import CREATE, MANAGE, OBSERVE
from blockqueue.storage import limits

from . import _problem
from ._call import Call
from ._objects import Id, NextCursor, Paused, Timestamp
from ._options import NewSubscriber
from ._pages import Cursors
from ._parameters import TopicName, page
from ._table import Routes
from ._times import whole_second

routes = Routes("Topics", "A topic is what messages are published to.")
_cursors = Cursors("t", str, int)


class Topic(msgspec.Struct):
    """A topic."""

    id: Id
    name: str
    paused: bool
    created_at: Timestamp


class TopicPage(msgspec.Struct):
    """Some of the topics, by name."""

    topics: list[Topic]
    next_cursor: NextCursor = msgspec.UNSET


class NewTopic(msgspec.Struct, forbid_unknown_fields=True):
    """A topic to be made, with its first subscribers."""

    name: TopicName
    subscribers: Annotated[list[NewSubscriber], Meta(min_length=1, max_length=limits.BATCH_MAX)]


def _topic(call: Call, topic: storage.Topic) -> Topic:
    public_id = call.public_id("topic", topic.id)
    return Topic(public_id, topic.name, bool(topic.paused), whole_second(topic.created_ms))


@routes.get("/topics", OBSERVE, query=page(_cursors), answers={200: TopicPage})
def list_topics(call: Call) -> Answer:
    """List the topics."""
    found = call.queue.topic_page(call.query["limit"], call.query["cursor"])
    listed = [_topic(call, each) for each in found.items]
    return call.reply(TopicPage(listed, _cursors.write(found.after)))


@routes.post("/topics", CREATE, body=NewTopic, answers={201: Topic}, problems=[_problem.CONFLICT])
def create_topic(call: Call) -> Answer:
    """Make a topic with its first subscribers.

    All or nothing. It is a conflict if the name is taken, or one subscriber is given twice.
    """
    body: NewTopic = call.body
    call.check_creates(body.name)
    subscribers = [each.checked() for each in body.subscribers]
    return call.reply(_topic(call, call.queue.create_topic(body.name, subscribers)))


@routes.delete("/topics/{topic}", MANAGE, answers={204: None})
def delete_topic(call: Call) -> Answer:
    """Delete a topic and all that is in it.

    At once nothing can be published to it or claimed from it, and its name is free.
    """
    call.queue.delete_topic(call.topic)
    return call.reply()


@routes.post("/topics/{topic}/pause", MANAGE, answers={200: Paused})
def pause_topic(call: Call) -> Answer:
    """Let nothing of a topic be claimed.

    Everything else goes on: messages are taken in, leases end, retries are counted.
    """
    call.queue.pause(call.topic)
    return call.reply(Paused(True))


@routes.post("/topics/{topic}/resume", MANAGE, answers={200: Paused})
def resume_topic(call: Call) -> Answer:
    """End a topic's pause: what waits can be claimed at once."""
    call.queue.resume(call.topic)
    return call.reply(Paused(False))
