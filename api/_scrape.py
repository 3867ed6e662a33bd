"""``/metrics``: the queue as Prometheus sees it."""

from __future__ import annotations

from typing import Any, ClassVar

import falcon

from ._exposition import render
from ._needs import OBSERVE, Needs
from ._samples import CONTENT_TYPE
from .queue import BlockQueue


class MetricsResource:
    """GET /metrics. Whichever process answers tells the same, for all of them."""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def __init__(self, queue: BlockQueue) -> None:
        self._queue = queue

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = CONTENT_TYPE
        resp.data = render(self._queue.metrics()).encode()


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve ``/metrics``, and the same under the name it had before."""
    for path in ("/metrics", "/prometheus/metrics"):
        app.add_route(path, MetricsResource(queue))
