"""A proxy before a server, which does to requests what networks and other proxies do."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from .http_server import PATIENCE_S, until

# Does something to a request, once what the server answers can be had by calling.
Action = Callable[["Handler", Callable[[], bytes]], None]

NO_HEADERS: Mapping[str, str] = {}
PROBLEM = {"Content-Type": "application/problem+json"}
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}


class Seen(NamedTuple):
    """A request that came by."""

    request: str
    at_s: float


class Rule:
    """What happens to the next so many requests whose line holds ``part``."""

    def __init__(self, part: str, action: Action, times: int) -> None:
        self.part, self.action, self.left = part, action, times


class Proxy:
    """Passes requests on, unless a rule says something else."""

    def __init__(self, port_behind: int) -> None:
        self.port_behind = port_behind
        self.seen: list[Seen] = []
        self.authorizations: list[str] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)

    def count(self, part: str) -> int:
        """Say how many requests came by whose line holds ``part``."""
        return len(self.times(part))

    def times(self, part: str) -> list[float]:
        return [each.at_s for each in list(self.seen) if part in each.request]

    def wait_for(self, part: str, count: int) -> None:
        until(lambda: self.count(part) >= count, f"{count} requests with {part!r} came")

    def lose_answers(self, part: str, times: int = 1) -> None:
        """Let the server do what is asked, and break the connection instead of answering."""

        def lose(handler: Handler, pass_on: Callable[[], bytes]) -> None:
            pass_on()
            handler.close_connection = True

        self._rule(part, lose, times)

    def lose_requests(self, part: str, times: int = 1) -> None:
        """Break the connection before the server has heard of the request."""

        def lose(handler: Handler, pass_on: Callable[[], bytes]) -> None:
            handler.close_connection = True

        self._rule(part, lose, times)

    def answer(
        self,
        part: str,
        status: int,
        body: str,
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        times: int = 1,
    ) -> None:
        """Answer instead of the server."""
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        raw = body.encode()
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(raw)}\r\n{''.join(lines)}\r\n"

        def say(handler: Handler, pass_on: Callable[[], bytes]) -> None:
            handler.wfile.write(head.encode() + raw)

        self._rule(part, say, times)

    def dribble(self, part: str, times: int = 1) -> None:
        """Let the server do what is asked, and answer so slowly that it never ends."""

        def say(handler: Handler, pass_on: Callable[[], bytes]) -> None:
            pass_on()
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
            )
            handler.wfile.write(head.encode())
            pause = threading.Event()
            for _ in range(9999):
                handler.wfile.write(b" ")
                pause.wait(0.02)

        self._rule(part, say, times)

    def hold(self, part: str) -> threading.Event:
        """Hold a request back until the event that this returns is set; then pass it on."""
        released = threading.Event()

        def wait(handler: Handler, pass_on: Callable[[], bytes]) -> None:
            released.wait(PATIENCE_S)
            pass_on()
            handler.close_connection = True

        self._rule(part, wait, 1)
        return released

    def _rule(self, part: str, action: Action, times: int) -> None:
        with self._lock:
            self._rules.append(Rule(part, action, times))

    def action(self, request: str) -> Action:
        """Note a request; return what happens to it."""
        with self._lock:
            self.seen.append(Seen(request, time.monotonic()))
            for rule in self._rules:
                if rule.left and rule.part in request:
                    rule.left -= 1
                    return rule.action
        return lambda handler, pass_on: handler.relay(pass_on())


class Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def _do(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def pass_on() -> bytes:
            return self._pass_on(proxy.port_behind, body)

        if authorization := self.headers.get("Authorization"):
            proxy.authorizations.append(authorization)
        proxy.action(f"{self.command} {self.path}")(self, pass_on)

    do_GET = do_POST = do_PUT = do_DELETE = _do

    def _pass_on(self, port: int, body: bytes) -> bytes:
        """Let the server answer; return its answer as it goes over the wire."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            lines = [f"{name}: {value}\r\n" for name, value in response.getheaders()]
            head = f"HTTP/1.1 {response.status} {response.reason}\r\n{''.join(lines)}\r\n"
            return head.encode("latin-1") + response.read()
        finally:
            connection.close()

    def relay(self, answer: bytes) -> None:
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """Run a proxy for the length of a block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
