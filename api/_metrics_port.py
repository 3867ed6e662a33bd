"""Metrics on a port of their own, for programs that serve nothing else."""

from __future__ import annotations

import logging
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from ._samples import CONTENT_TYPE

logger = logging.getLogger("blockqueue.worker")

_HOST = "127.0.0.1"
# One is answered after the other, so none may keep silent for long.
_SILENT_S = 2.0


class _Server(socketserver.TCPServer):
    allow_reuse_address = True

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        self.text = text
        super().__init__((_HOST, port), _Answer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a bug. A scraper that has gone is none."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logger.error("metrics could not be told", exc_info=error)


class _Answer(BaseHTTPRequestHandler):
    timeout = _SILENT_S
    # Not the versions of this program and of Python.
    server_version = "blockqueue"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self.send_error(404, "only /metrics is here")
            return
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape is no news."""


@contextmanager
def metrics_port(port: int, text: Callable[[], str]) -> Iterator[None]:
    """Serve a text at ``/metrics`` of the loopback address for the length of a block.

    Raises OSError if the port cannot be had.
    """
    with _Server(port, text) as server:
        serve = server.serve_forever
        threading.Thread(target=serve, args=(0.1,), name="blockqueue-metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
