"""The WSGI application over a queue. Any WSGI server runs it; ours parks the long polls."""

from __future__ import annotations

from typing import Any

import falcon

from blockqueue.api import _envelope, _health, _scrape, _topics
from blockqueue.api._answer import give
from blockqueue.api._audit import Audit
from blockqueue.api._auth import Auth, Mode
from blockqueue.api._request_info import Requests, info_of
from blockqueue.api.queue import BlockQueue
from blockqueue.api.ui import routes as ui
from blockqueue.api.v1 import _problem, docs, openapi, routes


def create_app(
    queue: BlockQueue, *, auth: Mode = "auto", audit_log: str | None = None
) -> falcon.App[Any, Any]:
    """Return the application that serves ``queue`` by the HTTP contracts.

    Args:
        auth: whether who asks needs a token: ``"auto"``, as soon as ``queue.tokens`` has had
            one; ``"required"``, always; ``"off"``, never.
        audit_log: a file for the audit log; by default it goes to the logger
            ``blockqueue.audit``, whose records have it as ``audit``.

    Raises:
        OSError: the audit log cannot be opened.
    """
    app: falcon.App[Any, Any] = falcon.App(
        middleware=[Requests(), Auth(queue, auth, Audit(audit_log))]
    )
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.keep_blank_qs_values = True
    app.add_error_handler(Exception, _on_error)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    _health.add_routes(app, queue)
    _scrape.add_routes(app, queue)
    _topics.add_routes(app, queue)
    routes.add_routes(app, queue)
    openapi.add_routes(app)
    docs.add_routes(app)
    ui.add_routes(app, queue)
    return app


# Every error is answered in the words of its path's contract, never with a traceback.


def _on_error(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    if _problem.is_v1(req.path):
        give(resp, _problem.refusal(error, info_of(req).id))
    else:
        give(resp, _envelope.refusal(error))


def _on_http_error(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    assert isinstance(error, falcon.HTTPError)
    if _problem.is_v1(req.path):
        give(resp, routes.http_refusal(req, error))
    else:
        give(resp, _envelope.http_refusal(error))
