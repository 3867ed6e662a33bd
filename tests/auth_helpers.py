"""What the tests of tokens share: requests with a token, to a server or to the application."""

from __future__ import annotations

import http.client
import json
import selectors
from pathlib import Path
from typing import Any

import falcon.testing

from blockqueue import BlockQueue, NewToken, TokenLimits
from blockqueue.storage import ACTIONS

from .http_server import PATIENCE_S, Answer, Server

EVERYTHING = tuple(f"{action}:*" for action in ACTIONS)


def make(db: Path, name: str, *scopes: str, **limits: Any) -> NewToken:
    """Make a token as the command does, in another process than the server's."""
    with BlockQueue(db) as queue:
        return queue.tokens.create(name, scopes or EVERYTHING, limits=TokenLimits(**limits))


def revoke(db: Path, name: str) -> None:
    with BlockQueue(db) as queue:
        queue.tokens.revoke(name)


def bearer(secret: str | None) -> dict[str, str]:
    return {} if secret is None else {"Authorization": f"Bearer {secret}"}


def encoded(body: Any) -> bytes | None:
    """Return a body as it is sent: anything but bytes as JSON."""
    return body if body is None or isinstance(body, bytes) else json.dumps(body).encode()


class Caller:
    """A keep-alive connection that shows a token with each request."""

    def __init__(self, server: Server, secret: str | None) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        self._secret = secret

    def begin(self, method: str, path: str, body: Any = None) -> None:
        self._http.request(method, path, encoded(body), bearer(self._secret))

    def is_answered(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._http.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def end(self) -> Answer:
        response = self._http.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def send(self, method: str, path: str, body: Any = None) -> Answer:
        self.begin(method, path, body)
        return self.end()

    def close(self) -> None:
        self._http.close()


def call(server: Server, secret: str | None, method: str, path: str, body: Any = None) -> Answer:
    """Send one request on a connection of its own."""
    caller = Caller(server, secret)
    try:
        return caller.send(method, path, body)
    finally:
        caller.close()


def ask(
    client: falcon.testing.TestClient,
    method: str,
    path: str,
    secret: str | None = None,
    body: Any = None,
    **query: str,
) -> falcon.testing.Result:
    """Ask an application, without a server."""
    return client.simulate_request(
        method, path, headers=bearer(secret), body=encoded(body), params=query
    )
