"""A request's id, and what logs say of a request."""

from __future__ import annotations

import os
import re
from typing import Any

import falcon

from ._log_context import busy_with
from ._trace_context import trace_id

_INFO = "blockqueue.request"
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,128}")


class RequestInfo:
    """One request until it is answered.

    Its id is its client's own (``X-Request-Id``) if that can stand in a header, else a new one.
    """

    __slots__ = ("_given", "_id", "_parent", "message_id", "method", "params", "route")

    def __init__(self, method: str | None, given: str | None, parent: str | None = None) -> None:
        self.method = method
        #: As it was declared, with the names of its parameters. None: there is no such route.
        self.route: str | None = None
        self.params: dict[str, Any] = {}
        #: Of the one message that it has published.
        self.message_id: str | None = None
        self._given = given
        self._parent = parent
        self._id: str | None = None

    @property
    def id(self) -> str:
        """Always the same; made when it is first asked for."""
        if self._id is None:
            given = self._given
            if given is None or _PRINTABLE.fullmatch(given) is None:
                given = os.urandom(16).hex()
            self._id = given
        return self._id

    def said(self) -> dict[str, object]:
        params = self.params
        said = {
            "request_id": self.id,
            "trace_id": trace_id(self._parent),
            "topic": params.get("topic"),
            "subscriber": params.get("sub") or params.get("subscriber"),
            "message_id": params.get("message_id") or self._message_of_path() or self.message_id,
        }
        return {name: value for name, value in said.items() if value is not None}

    def _message_of_path(self) -> object:
        return self.params.get("id") if "/messages/" in (self.route or "") else None


class Requests:
    """A middleware of Falcon: notes which request a thread is busy with."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        busy_with(info_of(req))

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        info = info_of(req)
        info.route, info.params = req.uri_template, params


def info_of(req: falcon.Request) -> RequestInfo:
    """Return what is known of a request, always the same."""
    found = info_in(req.env)
    if found is None:
        env = req.env
        given, parent = env.get("HTTP_X_REQUEST_ID"), env.get("HTTP_TRACEPARENT")
        found = env[_INFO] = RequestInfo(req.method, given, parent)
    return found


def info_in(environ: dict[str, Any]) -> RequestInfo | None:
    """Return what the application knows of a request, if it has seen it."""
    found: RequestInfo | None = environ.get(_INFO)
    return found
