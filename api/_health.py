"""Whether the server lives, and whether it can work."""

from __future__ import annotations

from typing import Any, ClassVar

import falcon

from blockqueue.storage import BlockQueueError

from ._needs import OBSERVE, OPEN, Needs
from .queue import BlockQueue

_BACKLOG_MAX = 0.9


class LivezResource:
    """GET /livez: 200 while the process serves, while it stops too."""

    needs: ClassVar[Needs] = {"GET": OPEN}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.data = b""


class ReadyzResource:
    """GET /readyz: 200, or 503 and why not."""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def __init__(self, queue: BlockQueue) -> None:
        self._queue = queue

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reason = self._why_not()
        if reason is not None:
            resp.status = falcon.HTTP_503
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = (reason or "").encode()

    def _why_not(self) -> str | None:
        try:
            system = self._queue.system
            with system.reading() as snapshot:
                snapshot.row("SELECT count(*) FROM sqlite_schema")
        except BlockQueueError as error:
            return str(error)
        messages, nbytes = system.admission.waiting()
        admission = system.admission
        if messages > _BACKLOG_MAX * admission.messages_max:
            return f"{messages} messages wait to be written"
        if nbytes > _BACKLOG_MAX * admission.bytes_max:
            return f"{nbytes} bytes wait to be written"
        return "stopping" if system.draining else system.store.space.trouble()


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve ``/livez`` and ``/readyz`` on ``app``."""
    app.add_route("/livez", LivezResource())
    app.add_route("/readyz", ReadyzResource(queue))
