"""The first HTTP contract, ``/topics``: a thin face of the queue."""

from __future__ import annotations

from typing import Any, ClassVar

import falcon
import msgspec

from blockqueue import storage
from blockqueue.actors import Claim
from blockqueue.storage import (
    Ack,
    Delivery,
    DeliveryNotFound,
    Envelope,
    Handle,
    Outcome,
    Settled,
    limits,
)

from ._answer import Answer, give
from ._durations import milliseconds
from ._envelope import SUCCESS, first_value, refusal, success
from ._message import Message
from ._needs import CONSUME, CREATE, MANAGE, OBSERVE, PUBLISH, Needs
from ._options import Subscriber
from ._parking import answer_later
from ._trace_context import received
from ._visits import check_creates
from .queue import BlockQueue

_READ_LIMIT = 10


class _Option(msgspec.Struct):
    max_attempts: int | None = None
    visibility_duration: str | None = None


class _Subscriber(msgspec.Struct):
    name: str
    option: _Option | None = None


class _Topic(msgspec.Struct):
    name: str
    subscribers: list[_Subscriber]


class _Message(msgspec.Struct):
    message: str


_topic = msgspec.json.Decoder(_Topic)
_subscribers = msgspec.json.Decoder(list[_Subscriber])
_message = msgspec.json.Decoder(_Message)


def _options(given: _Subscriber) -> Subscriber:
    """Translate: here max_attempts counts redeliveries, and a retry is due at once."""
    option = given.option or _Option()
    redeliveries = max(1, option.max_attempts or 0)
    limits.check_range("max_attempts", redeliveries, 1, limits.ATTEMPTS_MAX - 1)
    return Subscriber(
        given.name,
        max_attempts=redeliveries + 1,
        visibility=option.visibility_duration or "5m",
        retry_initial=0,
        retry_max=0,
        retry_jitter=0,
    )


class _Resource:
    def __init__(self, queue: BlockQueue) -> None:
        self._queue = queue


class TopicsResource(_Resource):
    """POST /topics"""

    needs: ClassVar[Needs] = {"POST": CREATE}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = first_value(_topic, req.bounded_stream.read())
        check_creates(req, body.name)
        self._queue.create_topic(body.name, [_options(each) for each in body.subscribers])
        resp.data = SUCCESS


class TopicResource(_Resource):
    """DELETE /topics/{topic}"""

    needs: ClassVar[Needs] = {"DELETE": MANAGE}

    def on_delete(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        self._queue.delete_topic(topic)
        resp.data = SUCCESS


class SubscribersResource(_Resource):
    """GET and POST /topics/{topic}/subscribers"""

    needs: ClassVar[Needs] = {"GET": OBSERVE, "POST": MANAGE}

    def on_get(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        resp.data = success(
            [
                {
                    "name": status.name,
                    "unpublished_message": status.waiting,
                    "unacked_message": status.leased,
                }
                for status in self._queue.subscribers(topic)
            ]
        )

    def on_post(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        body = first_value(_subscribers, req.bounded_stream.read())
        self._queue.add_subscribers(topic, [_options(each) for each in body])
        resp.data = SUCCESS


class MessagesResource(_Resource):
    """POST /topics/{topic}/messages"""

    needs: ClassVar[Needs] = {"POST": PUBLISH}

    def on_post(self, req: falcon.Request, resp: falcon.Response, topic: str) -> None:
        body = first_value(_message, req.bounded_stream.read())
        promise = self._queue.start_publish(topic, [Message(body.message)], received(req.env))
        give(resp, answer_later(req, promise, _done, refusal, timeout=self._queue.timeout))


class SubscriberResource(_Resource):
    """GET (read, by long poll) and DELETE /topics/{topic}/subscribers/{sub}"""

    needs: ClassVar[Needs] = {"GET": CONSUME, "DELETE": MANAGE}

    def on_get(
        self, req: falcon.Request, resp: falcon.Response, topic: str, subscriber: str
    ) -> None:
        wait_ms = _wait_ms(req)
        claim = Claim(subscriber, _READ_LIMIT, wait_ms=wait_ms, through_pause=True)
        promise = self._queue.system.ask(topic, claim)
        options: Any = {"timeout": self._queue.timeout, "give_back": self._give_back, "poll": True}
        give(resp, answer_later(req, promise, _deliveries, refusal, **options))

    def _give_back(self, deliveries: list[Delivery]) -> None:
        """Undo a claim whose client has gone."""
        self._queue.system.release(deliveries)

    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, topic: str, subscriber: str
    ) -> None:
        self._queue.delete_subscriber(topic, subscriber)
        resp.data = SUCCESS


class MessageResource(_Resource):
    """DELETE /topics/{topic}/subscribers/{sub}/messages/{id}: the acknowledgement"""

    needs: ClassVar[Needs] = {"DELETE": CONSUME}

    def on_delete(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        topic: str,
        subscriber: str,
        message_id: str,
    ) -> None:
        ref = storage.parse_id(message_id)
        known = ref is not None and ref.is_delivery
        handle = Handle(0, -1, 0)  # which no subscriber has: topic and subscriber are checked
        if ref is not None and known:
            handle = Handle(ref.priority, ref.seq, ref.tag, None, ref.owner)
        promise = self._queue.start_settle(topic, subscriber, Ack(), [handle])
        timeout = self._queue.timeout
        give(resp, answer_later(req, promise, _acknowledged, refusal, timeout=timeout))


def _done(_: object) -> Answer:
    return Answer(200, SUCCESS)


def _deliveries(deliveries: list[Delivery]) -> Answer:
    listed = [{"id": each.delivery_id, "message": _text(each)} for each in deliveries]
    return Answer(200, success(listed))


def _acknowledged(settled: list[Settled]) -> Answer:
    if settled[0].outcome is not Outcome.DONE:
        raise DeliveryNotFound("no delivery of that id is handed out to the subscriber")
    return Answer(200, SUCCESS)


def _wait_ms(req: falcon.Request) -> int:
    text = req.get_param("timeout")
    return 0 if text is None else max(0, milliseconds("timeout", text))


def _text(delivery: Delivery) -> Any:
    payload = delivery.body.payload if isinstance(delivery.body, Envelope) else delivery.body
    # Bytes can only have been published by an embedded program.
    return payload if isinstance(payload, str) else payload.decode(errors="replace")


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve the first contract on ``app``."""
    subscriber = "/topics/{topic}/subscribers/{subscriber}"
    app.add_route("/topics", TopicsResource(queue))
    app.add_route("/topics/{topic}", TopicResource(queue))
    app.add_route("/topics/{topic}/messages", MessagesResource(queue))
    app.add_route("/topics/{topic}/subscribers", SubscribersResource(queue))
    app.add_route(subscriber, SubscriberResource(queue))
    app.add_route(subscriber + "/messages/{message_id}", MessageResource(queue))
