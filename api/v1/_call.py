"""One request in the hands of its operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import falcon
import msgspec

from blockqueue.actors import Promise
from blockqueue.api._answer import Answer, Headers
from blockqueue.api._parking import answer_later
from blockqueue.api._request_info import info_of
from blockqueue.api._trace_context import Trace, received
from blockqueue.api._visits import check_creates
from blockqueue.api.queue import BlockQueue
from blockqueue.storage import public_id

from . import _problem

if TYPE_CHECKING:
    from ._table import Operation

_encode = msgspec.json.Encoder().encode


class Call:
    """A request to a topic that exists, with its input read, and the ways to answer it."""

    __slots__ = ("_operation", "_req", "body", "info", "path", "query", "queue")

    def __init__(
        self, queue: BlockQueue, operation: Operation, req: falcon.Request, path: dict[str, str]
    ) -> None:
        self.queue = queue
        self.path = path
        self.info = info_of(req)
        self.query: dict[str, Any] = {}
        self.body: Any = None
        self._operation = operation
        self._req = req

    @property
    def topic(self) -> str:
        return self.path["topic"]

    @property
    def subscriber(self) -> str:
        return self.path["sub"]

    @property
    def secret(self) -> bytes:
        """What the public ids of topics, subscribers and runs are made with."""
        return self.queue.system.store.secret

    @property
    def trace(self) -> Trace | None:
        """The trace that the request says it belongs to."""
        return received(self._req.env)

    def public_id(self, kind: str, number: int) -> str:
        return public_id(self.secret, kind, number)

    def check_topic(self) -> None:
        """Raise TopicNotFound unless the topic of the path exists."""
        topic = self.path.get("topic")
        if topic is None:
            return
        if self._operation.hot:
            self.queue.job(topic)
        else:
            self.queue.topic(topic)

    def check_creates(self, topic: str) -> None:
        """Raise Forbidden unless who asks may make a topic of that name."""
        check_creates(self._req, topic)

    def read(self) -> None:
        """Read the parameters and the body. Raises ValidationError."""
        for parameter in self._operation.query:
            text = self._req.get_param(parameter.name)
            self.query[parameter.name] = parameter.read(text)
        if self._operation.body is not None:
            self.body = self._operation.body.read(self._req.bounded_stream.read())

    def reply(
        self, data: Any = None, *, status: int | None = None, headers: Headers = ()
    ) -> Answer:
        """Return the answer of success; ``status`` if it is not the operation's usual one."""
        status = status or self._operation.status
        body = b"" if status == 204 else b'{"data":' + _encode(data) + b"}"
        return Answer(status, body, _problem.id_header(self.info.id) + headers)

    def later(
        self, promise: Promise[Any], render: Callable[[Any], Answer], **options: Any
    ) -> Answer:
        """Answer when the promise is done; options are those of ``Parked``."""
        timeout = self.queue.timeout
        return answer_later(self._req, promise, render, self.refuse, timeout=timeout, **options)

    def refuse(self, error: BaseException) -> Answer:
        return _problem.refusal(error, self.info.id)
