"""A server for each module that tests the client, and a topic for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from blockqueue.client import Client

from .client_faces import FACES, Open
from .client_proxy import Proxy, proxied
from .http_server import Server, serving

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("client") / "queue.db") as running:
        yield running


@pytest.fixture(params=list(FACES))
def opening(request: pytest.FixtureRequest) -> Open:
    """Opens a client of either kind."""
    return FACES[request.param]


@pytest.fixture
def client(server: Server, opening: Open) -> Iterator[Client]:
    with opening(f"http://127.0.0.1:{server.port}") as connected:
        yield connected


@pytest.fixture
def topic(client: Client) -> str:
    """A topic with one worker."""
    name = f"topic-{next(_numbers)}"
    client.create_topic(name, ["worker"])
    return name


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.port) as running:
        yield running


@pytest.fixture
def through(proxy: Proxy, opening: Open) -> Iterator[Client]:
    """A client that talks to the server through the proxy. Its tries take 2 s at most."""
    with opening(proxy.url, timeout=6) as connected:
        yield connected
