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
    """GET /readyz: 200, or 503 and why not: a line for each reason."""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def __init__(self, queue: BlockQueue) -> None:
        self._queue = queue

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        reasons = self._why_not()
        if reasons:
            resp.status = falcon.HTTP_503
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = "\n".join(reasons).encode()

    def _why_not(self) -> list[str]:
        """Return all reasons; none: it can work."""
        try:
            system = self._queue.system
            with system.reading() as snapshot:
                snapshot.row("SELECT count(*) FROM sqlite_schema")
        except BlockQueueError as error:
            return [str(error)]
        reasons = ["stopping"] if system.draining else []
        messages, nbytes = system.admission.waiting()
        admission = system.admission
        if messages > _BACKLOG_MAX * admission.messages_max:
            reasons.append(f"{messages} messages wait to be written")
        if nbytes > _BACKLOG_MAX * admission.bytes_max:
            reasons.append(f"{nbytes} bytes wait to be written")
        trouble = system.store.space.trouble()
        return reasons if trouble is None else [*reasons, trouble]


def add_routes(app: falcon.App[Any, Any], queue: BlockQueue) -> None:
    """Serve ``/livez`` and ``/readyz`` on ``app``."""
    app.add_route("/livez", LivezResource())
    app.add_route("/readyz", ReadyzResource(queue))
