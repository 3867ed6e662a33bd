"""A server for each module that tests ``/v1``, and a topic for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .http_server import Server, serving
from .v1_client import Client, Topic, v1_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("v1") / "queue.db") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with v1_client(server) as connected:
        yield connected


@pytest.fixture
def topic(client: Client) -> Topic:
    """A topic with one worker."""
    made = client.fresh_topic()
    made.create()
    return made
