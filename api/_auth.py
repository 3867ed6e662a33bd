"""The one place where a request is admitted: who asks, and may they?

It runs after Falcon has found the route and before the route's resource does anything.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Literal

import falcon

from blockqueue import storage
from blockqueue.api import _envelope
from blockqueue.api._answer import give
from blockqueue.api._audit import Audit
from blockqueue.api._foreign_pages import is_of_foreign_page
from blockqueue.api._keys import Key, KeyRing
from blockqueue.api._needs import CONSUME, OPEN, Need, need_of
from blockqueue.api._request_info import info_of
from blockqueue.api._visits import VISIT, Visit
from blockqueue.api.queue import BlockQueue
from blockqueue.api.v1 import _problem
from blockqueue.storage import Forbidden, Refused, TopicNotFound, Unauthorized

#: Whether tokens are needed: as soon as one was made; always; never.
Mode = Literal["auto", "required", "off"]

_FOREIGN = "a page of another site asks for this; without a token that is refused"
# The public part of a token, which says whose it is, or was.
_PUBLIC = re.compile(r"bq_(\d{1,18})_", re.ASCII)


class Auth:
    """A middleware of Falcon."""

    def __init__(self, queue: BlockQueue, mode: Mode, audit: Audit) -> None:
        self._mode = mode
        self._audit = audit
        self._ring = KeyRing(queue)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        """Admit a request, or answer it: then its resource never sees it."""
        need = need_of(resource, req.method)
        if need is OPEN:
            return
        key = None
        if self._mode == "required" or (self._mode == "auto" and not self._ring.is_empty):
            try:
                key = self._admit(req, need, params.get("topic"))
            except (Refused, TopicNotFound) as error:
                self._refuse(req, resp, error, params)
                return
        elif is_of_foreign_page(req.env, need):  # a token cannot be sent by such a page
            self._refuse(req, resp, Forbidden(_FOREIGN), params)
            return
        report = None
        if need is not None and need.action == storage.MANAGE:
            report = partial(self._report, req, params, key)
        # For what nothing hinges on the end of, none: a publish with a plain token.
        if report is not None or (key is not None and (key.quota.counts or need is CONSUME)):
            req.env[VISIT] = Visit(self._ring, key, report)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        """Note the end of a request; one that was parked does not come here."""
        visit: Visit | None = req.env.get(VISIT)
        if visit is not None:
            visit.ended(resp.status_code)

    def _admit(self, req: falcon.Request, need: Need | None, topic: str | None) -> Key:
        key = self._ring.find(_secret(req))
        if key is None:
            raise Unauthorized("the token is not known, has expired, or was revoked")
        token = key.token
        if need is None:
            raise Forbidden("no scope allows this")
        if need.in_body:
            allowed = any(each.action == need.action for each in token.scopes)
        else:
            allowed = key.may(need.action, storage.ALL if topic is None else topic)
        if not allowed:
            # Whoever has no business with a topic does not learn whether it exists.
            if topic is not None and not any(each.covers(topic) for each in token.scopes):
                raise TopicNotFound(f"there is no topic {topic!r}")
            raise Forbidden(f"the token has no scope {need.action}:{topic or storage.ALL}")
        key.quota.enter(int(req.env.get("CONTENT_LENGTH") or 0))
        return key

    def _refuse(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        error: Refused | TopicNotFound,
        params: dict[str, Any],
    ) -> None:
        v1 = _problem.is_v1(req.path)
        give(resp, _problem.refusal_at_once(req, error) if v1 else _envelope.refusal(error))
        resp.complete = True
        public = _PUBLIC.match(req.env.get("HTTP_AUTHORIZATION", "")[len("bearer ") :])
        said: dict[str, Any] = _what(req, params) | {
            "status": resp.status_code,
            "reason": str(error),
        }
        self._audit.note_refusal(**said, shown=None if public is None else int(public[1]))

    def _report(
        self,
        req: falcon.Request,
        params: dict[str, Any],
        key: Key | None,
        visit: Visit,
        status: int | None,
    ) -> None:
        said = _what(req, params)
        if visit.topic is not None:
            said["topic"] = visit.topic
        if key is not None:
            said |= {"token": key.token.id, "name": key.token.name}
        self._audit.note(**said, status=status)


def _secret(req: falcon.Request) -> str:
    """Return the token that a request shows. Raises Unauthorized."""
    given: str | None = req.env.get("HTTP_AUTHORIZATION")
    if given is None:
        raise Unauthorized("a token is needed: Authorization: Bearer bq_…")
    scheme, _, secret = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("the header must be Authorization: Bearer, and the token")
    return secret.strip()


def _what(req: falcon.Request, params: dict[str, Any]) -> dict[str, Any]:
    """Return what an audit log says of a request: nothing of its body, and of its headers
    only the id."""
    return {
        "what": f"{req.method} {req.uri_template}",
        "from": req.env.get("REMOTE_ADDR"),
        "request_id": info_of(req).id,
        **params,
    }
