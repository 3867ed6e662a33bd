"""The access log: a record for each answer, with neither tokens nor queries."""

from __future__ import annotations

import logging
import time
from typing import Any

from waitress.task import Task

from ._request_info import RequestInfo

logger = logging.getLogger("blockqueue.access")


class Noted(Task):
    """Sends an answer, and notes it if the server has an access log."""

    info: RequestInfo

    def service(self) -> None:
        super().service()
        channel: Any = self.channel
        if channel.has_access_log:
            self._note(channel)

    def _note(self, channel: Any) -> None:
        info = self.info
        request: Any = self.request
        took_s = time.monotonic() - request.complete_s
        said = {
            "method": info.method,
            "route": info.route,
            "status": int(self.status.split(" ", 1)[0]),
            "ms": round(took_s * 1000, 3),
            "bytes": self.content_bytes_written,
            "client": channel.addr[0],
        }
        logger.info("answered", extra=said | info.said())
