"""All operations of ``/v1``, and how Falcon comes to serve them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import falcon

from blockqueue.api._answer import Answer, give
from blockqueue.api._needs import Need
from blockqueue.api.queue import BlockQueue
from blockqueue.storage import TopicNotFound

from . import _problem, bulk, deliveries, messages, schedules, subscribers, topics
from ._call import Call
from ._table import PREFIX, Operation

TABLE = (
    topics.routes,
    subscribers.routes,
    messages.routes,
    deliveries.routes,
    bulk.routes,
    schedules.routes,
)
OPERATIONS = [operation for routes in TABLE for operation in routes.operations]

# The one path that may end in a slash: clients of the contract delete topics so.
_SLASHED = PREFIX + "/topics/{topic}"


def _by_path(operation: Operation) -> str:
    return PREFIX + operation.path


_METHODS = {
    path: ", ".join(sorted(operation.method for operation in group))
    for path, group in itertools.groupby(sorted(OPERATIONS, key=_by_path), _by_path)
}


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve the second contract on ``app``."""
    resources: dict[str, _Resource] = {}
    for operation in OPERATIONS:
        resource = resources.setdefault(_by_path(operation), _Resource())
        resource.needs[operation.method] = operation.need
        setattr(resource, f"on_{operation.method.lower()}", _responder(queue, operation))
    for path, resource in resources.items():
        app.add_route(path, resource)


class _Resource:
    """A path; its responders and needs are set as it is registered."""

    def __init__(self) -> None:
        self.needs: dict[str, Need] = {}

    def on_options(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """Refuse what Falcon would answer by itself."""
        raise falcon.HTTPMethodNotAllowed([])


def _responder(queue: BlockQueue, operation: Operation) -> Callable[..., None]:
    def respond(req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        if not _is_plain(req):
            raise falcon.HTTPRouteNotFound
        give(resp, _answer(Call(queue, operation, req, path), operation, req))

    return respond


def _answer(call: Call, operation: Operation, req: falcon.Request) -> Answer:
    try:
        try:
            call.check_topic()
        except TopicNotFound as error:
            return _problem.refusal_at_once(req, error)
        call.read()
        return operation.handle(call)
    except Exception as error:
        return call.refuse(error)


def _is_plain(req: falcon.Request) -> bool:
    """Say whether a path means what it matched: a slash, at the end or encoded, may not."""
    if req.env["PATH_INFO"].endswith("/") and req.uri_template != _SLASHED:
        return False
    return "%2f" not in req.env.get("REQUEST_URI", "").partition("?")[0].lower()


def http_refusal(req: falcon.Request, error: falcon.HTTPError) -> Answer:
    """Return the answer for what Falcon refuses under ``/v1``."""
    allowed = _METHODS.get(req.uri_template or "")
    if allowed is None:
        return _problem.http_refusal(req, error)
    if not _is_plain(req):
        return _problem.http_refusal(req, falcon.HTTPRouteNotFound())
    if req.method not in allowed.split(", "):  # one that Falcon does not know is a 400 there
        error = falcon.HTTPMethodNotAllowed(allowed.split(", "))
    return _problem.http_refusal(req, error)
