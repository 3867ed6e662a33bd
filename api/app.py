"""The WSGI application over a queue. Any WSGI server runs it; ours parks the long polls."""

from __future__ import annotations

from typing import Any

import falcon

from . import _envelope, _health, _topics
from .queue import BlockQueue


def create_app(queue: BlockQueue) -> falcon.App[Any, Any]:
    """Return the application that serves ``queue`` by the HTTP contracts."""
    app: falcon.App[Any, Any] = falcon.App()
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.keep_blank_qs_values = True
    _envelope.install(app)
    _health.add_routes(app, queue)
    _topics.add_routes(app, queue)
    return app
