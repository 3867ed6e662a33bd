"""Pages of other sites: they reach no server on the loopback address through their readers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import falcon.testing
import pytest

from blockqueue import BlockQueue
from blockqueue.api import _auth
from blockqueue.api.app import create_app

from .auth_helpers import EVERYTHING, bearer

OWN = {"Host": "localhost:8080", "Origin": "http://localhost:8080"}
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
]
PUBLISH = ("POST", "/topics/cart/messages", '{"message": "hi"}')
CLAIM = ("GET", "/topics/cart/subscribers/counter", None)
CALLS = [PUBLISH, ("POST", "/v1/topics/cart/messages", '{"message": "hi"}'), CLAIM]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["counter"])
        yield queue


def ask(
    queue: BlockQueue, call: tuple[str, str, str | None], headers: dict[str, str], **options: str
) -> int:
    method, path, body = call
    client = falcon.testing.TestClient(create_app(queue, **options))  # type: ignore[arg-type]
    headers = {"Host": "localhost:8080", **headers}
    return client.simulate_request(method, path, body=body, headers=headers).status_code


@pytest.mark.parametrize("call", CALLS, ids=["topics", "v1", "claim"])
@pytest.mark.parametrize("headers", FOREIGN, ids=lambda each: " ".join(each.values()))
def test_what_a_foreign_page_asks_for_is_refused(
    queue: BlockQueue, call: tuple[str, str, str | None], headers: dict[str, str]
) -> None:
    """Also if tokens are switched off. Nothing is written, nothing is taken."""
    queue.publish("cart", "mine")
    assert ask(queue, call, headers) == 403
    assert ask(queue, call, headers, auth="off") == 403
    (counter,) = queue.subscribers("cart")
    assert (counter.waiting, counter.leased) == (1, 0)


@pytest.mark.parametrize("call", CALLS, ids=["topics", "v1", "claim"])
@pytest.mark.parametrize(
    "headers", [{}, OWN, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_programs_and_pages_of_its_own_are_served(
    queue: BlockQueue, call: tuple[str, str, str | None], headers: dict[str, str]
) -> None:
    queue.publish("cart", "mine")
    assert ask(queue, call, headers) < 300
    (counter,) = queue.subscribers("cart")
    assert (counter.waiting, counter.leased) != (1, 0)


def test_links_may_be_followed_to_what_only_shows_something(queue: BlockQueue) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(queue, ("GET", "/docs", None), link) == 200
    assert ask(queue, CLAIM, link) == 403


def test_a_page_that_has_a_token_may_come_from_anywhere(queue: BlockQueue) -> None:
    """No page can send one that it was not given."""
    secret = queue.tokens.create("page", EVERYTHING).secret
    for headers in FOREIGN:
        assert ask(queue, PUBLISH, headers) == 401
        assert ask(queue, PUBLISH, headers | bearer(secret)) == 200


def test_control_a_server_that_does_not_look_is_noticed(
    queue: BlockQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_auth, "is_of_foreign_page", lambda env, need: False)
    assert ask(queue, PUBLISH, FOREIGN[0]) == 200
