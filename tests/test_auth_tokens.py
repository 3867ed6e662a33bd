"""Tokens as they are kept: made, hashed, expired, revoked, and what their scopes cover."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from blockqueue import (
    AlreadyExists,
    BlockQueue,
    ManualClock,
    TokenLimits,
    TokenNotFound,
    ValidationError,
)
from blockqueue.api._keys import KeyRing
from blockqueue.api.app import create_app
from blockqueue.storage import digest_of, parse_scope

from .auth_helpers import EVERYTHING, ask
from .embedded_helpers import eventually

NAMES = ["orders", "orders.eu", "orders.", "order", "xorders.eu", "orders/eu", "Orders.eu", "*"]


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("publish:orders", ["orders"]),
        ("publish:orders.*", ["orders.eu", "orders."]),
        ("publish:orders.eu", ["orders.eu"]),
        ("publish:*", NAMES),
    ],
)
def test_a_scope_covers_a_name_a_prefix_or_all(scope: str, covered: list[str]) -> None:
    """From its first character to the dot: nothing in a name is a pattern."""
    assert [name for name in NAMES if parse_scope(scope).covers(name)] == covered
    assert str(parse_scope(scope)) == scope


@pytest.mark.parametrize(
    "text",
    [
        *("", "publish", "publish:", ":orders", "Publish:orders", "admin:orders", " publish:a"),
        *("publish:orders*", "publish:*orders", "publish:o*.*", "publish:.*", "publish:**"),
        *("publish:a/b", "publish: a", "publish:a\n", "publish:" + "a" * 151),
    ],
)
def test_what_is_not_a_scope_is_refused(queue: BlockQueue, text: str) -> None:
    with pytest.raises(ValidationError):
        queue.tokens.create("shop", [text])
    assert queue.tokens.list() == []


def test_only_the_hash_of_a_token_is_kept(queue: BlockQueue) -> None:
    """Not a trace of the secret is in any file, and no two are alike."""
    path = Path(queue.system.store.path)
    made = queue.tokens.create("shop", ["publish:orders"])
    other = queue.tokens.create("other", ["publish:orders"])

    prefix, number, random = made.secret.split("_", 2)
    assert (prefix, number) == ("bq", str(made.id))
    assert len(random) == 43  # 32 bytes
    assert random != other.secret.split("_", 2)[2]
    (kept, _) = queue.tokens.list()
    assert kept.digest == hashlib.sha256(made.secret.encode()).digest()
    files = {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    assert any(kept.digest in data for data in files.values())  # it is looked for rightly
    assert not any(random.encode() in data for data in files.values())


def test_a_token_says_what_it_was_made_with(queue: BlockQueue, clock: ManualClock) -> None:
    limits = TokenLimits(requests_per_s=2.5, bytes_per_s=1e6, polls=3, in_flight=4)
    scopes = ["consume:a.*", "publish:*", "consume:a.*"]
    queue.tokens.create("shop", scopes, expires="12h", limits=limits)

    (kept,) = queue.tokens.list()
    assert kept.name == "shop"
    assert [str(each) for each in kept.scopes] == ["consume:a.*", "publish:*"]
    assert kept.limits == limits
    assert kept.created_ms == clock.now_ms()
    assert kept.expires_ms == clock.now_ms() + 12 * 3_600_000
    assert (kept.revoked_ms, kept.used_ms, kept.from_file) == (None, None, False)


@pytest.mark.parametrize(
    "options",
    [
        *({"expires": 0}, {"expires": -1}, {"expires": "soon"}),
        {"limits": TokenLimits(requests_per_s=0)},
        {"limits": TokenLimits(bytes_per_s=-1)},
        {"limits": TokenLimits(requests_per_s=float("nan"))},
        {"limits": TokenLimits(polls=0)},
    ],
)
def test_what_a_token_cannot_be_is_refused(queue: BlockQueue, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        queue.tokens.create("shop", ["publish:*"], **options)
    for name, scopes in (("", EVERYTHING), ("a/b", EVERYTHING), ("shop", ())):
        with pytest.raises(ValidationError):
            queue.tokens.create(name, scopes)


def test_a_name_is_free_again_after_a_revocation(queue: BlockQueue) -> None:
    """Its number is not."""
    first = queue.tokens.create("shop", ["publish:*"])
    with pytest.raises(AlreadyExists):
        queue.tokens.create("shop", ["publish:*"])
    assert queue.tokens.revoke("shop") == first.id
    with pytest.raises(TokenNotFound):
        queue.tokens.revoke("shop")
    second = queue.tokens.create("shop", ["publish:*"])
    assert second.id > first.id


# The key ring: what a process that serves knows.


class Watch:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def counting_looks(queue: BlockQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    looks: list[None] = []
    reading = queue.system.reading

    def counted() -> Any:
        looks.append(None)
        return reading()

    with monkeypatch.context() as patch:
        patch.setattr(queue.system, "reading", counted)
        yield looks


def test_a_request_costs_no_query(queue: BlockQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in half a second, however many requests and commits there are in it."""
    watch = Watch()
    ring = KeyRing(queue, watch)
    secret = queue.tokens.create("shop", ["publish:*"]).secret
    assert ring.find(secret) is not None
    with counting_looks(queue, monkeypatch) as looks:
        for number in range(100):
            queue.publish("cart", str(number))
            assert ring.find(secret) is not None
        assert len(looks) == 0
        watch.now_s += 0.6
        for _ in range(100):
            assert ring.find(secret) is not None
        assert len(looks) == 1


def test_guessing_costs_no_query_while_nothing_changes(
    queue: BlockQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(queue, Watch())
    queue.tokens.create("shop", ["publish:*"])
    assert ring.find("bq_1_guess") is None
    with counting_looks(queue, monkeypatch) as looks:
        for number in range(100):
            assert ring.find(f"bq_1_{number}") is None
        assert len(looks) == 0


def test_a_new_token_is_good_at_once(queue: BlockQueue) -> None:
    ring = KeyRing(queue, Watch())
    assert ring.is_empty
    assert ring.find("bq_1_guess") is None

    assert ring.find(queue.tokens.create("shop", ["publish:*"]).secret) is not None
    assert not ring.is_empty


def test_a_revoked_token_is_believed_for_half_a_second(queue: BlockQueue) -> None:
    """And no longer. Having none left does not open the server again."""
    watch = Watch()
    ring = KeyRing(queue, watch)
    secret = queue.tokens.create("shop", ["publish:*"]).secret
    key = ring.find(secret)
    assert key is not None
    queue.tokens.revoke("shop")

    watch.now_s += 0.6
    assert not ring.still_has(key)
    assert ring.find(secret) is None
    assert not ring.is_empty


def test_a_token_expires_to_the_millisecond(queue: BlockQueue, clock: ManualClock) -> None:
    """By the queue's own clock: setting the one on the wall moves nothing."""
    ring = KeyRing(queue, Watch())
    secret = queue.tokens.create("shop", ["publish:*"], expires=60).secret
    clock.set_wall(clock.now_ms() + 10**9)
    clock.advance(59_999)
    key = ring.find(secret)
    assert key is not None
    clock.advance(1)

    assert ring.find(secret) is None
    assert not ring.still_has(key)
    assert KeyRing(queue, Watch()).find(secret) is None


def test_a_token_keeps_its_count_when_others_are_made(queue: BlockQueue) -> None:
    """Its limits would be forgotten otherwise, whenever a token is made."""
    watch = Watch()
    ring = KeyRing(queue, watch)
    secret = queue.tokens.create("shop", ["publish:*"]).secret
    before = ring.find(secret)
    queue.tokens.create("other", ["publish:*"])
    watch.now_s += 0.6

    assert ring.find(secret) is before


def test_the_hash_is_compared_in_constant_time(
    queue: BlockQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret itself is never compared, and the last word is not the dictionary's."""
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def spy(first: Any, second: Any) -> bool:
        compared.append((first, second))
        return real(first, second) and answer

    monkeypatch.setattr("blockqueue.api._keys.hmac.compare_digest", spy)
    ring = KeyRing(queue, Watch())
    secret = queue.tokens.create("shop", ["publish:*"]).secret
    for answer in (True, False):
        assert (ring.find(secret) is not None) is answer
    assert compared == [(digest_of(secret), digest_of(secret))] * 2


def test_the_last_use_is_noted_now_and_then(queue: BlockQueue, clock: ManualClock) -> None:
    """Not with each request: it is a write."""
    watch = Watch()
    ring = KeyRing(queue, watch)
    secret = queue.tokens.create("shop", ["publish:*"]).secret

    def used() -> int | None:
        return queue.tokens.list()[0].used_ms

    first_ms = clock.now_ms()
    ring.find(secret)
    eventually(lambda: used() == first_ms)
    for _ in range(4):
        clock.advance(60_000)
        watch.now_s += 60
        ring.find(secret)
    queue.publish("cart", "a write that comes after")
    assert used() == first_ms
    clock.advance(60_000)
    watch.now_s += 60
    ring.find(secret)
    eventually(lambda: used() == clock.now_ms())


# The administrator's own secret.


def test_a_secret_of_ones_own_may_do_everything(queue: BlockQueue) -> None:
    secret = "s3cret-" * 6
    assert queue.tokens.adopt(secret)
    assert not queue.tokens.adopt(secret)

    key = KeyRing(queue, Watch()).find(secret)
    assert key is not None
    assert {str(each) for each in key.token.scopes} == set(EVERYTHING)
    assert key.token.from_file


def test_a_new_secret_takes_the_place_of_the_one_before(queue: BlockQueue) -> None:
    """So a file that is changed revokes what was in it; what was revoked does not come back."""
    old, new = "old-" * 8, "new-" * 8
    queue.tokens.adopt(old)
    other = queue.tokens.create("shop", ["publish:*"]).secret
    queue.tokens.adopt(new)

    ring = KeyRing(queue, Watch())
    assert [ring.find(each) is not None for each in (old, new, other)] == [False, True, True]
    with pytest.raises(ValidationError, match="was revoked"):
        queue.tokens.adopt(old)


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "x" * 257, "x y" * 20, "ü" * 40])
def test_a_weak_secret_is_refused(queue: BlockQueue, secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        queue.tokens.adopt(secret)
    assert not secret or secret not in str(caught.value)


# The application, under any server.


@pytest.mark.parametrize(
    ("mode", "before", "after"), [("auto", 200, 401), ("required", 401, 401), ("off", 200, 200)]
)
def test_when_a_token_is_needed(queue: BlockQueue, mode: Any, before: int, after: int) -> None:
    """By itself as soon as one was made: an embedding program has the same check."""
    client = falcon.testing.TestClient(create_app(queue, auth=mode))
    assert ask(client, "GET", "/v1/topics").status_code == before
    secret = queue.tokens.create("all", EVERYTHING).secret
    client = falcon.testing.TestClient(create_app(queue, auth=mode))
    assert ask(client, "GET", "/v1/topics").status_code == after
    assert ask(client, "GET", "/v1/topics", secret).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER   {} ", 200),
        ("{}", 401),
        ("Basic {}", 401),
        ("Bearer", 401),
        ("Bearer {}x", 401),
        ("Bearer {}, Bearer {}", 401),
        ("Bearer \u00fc", 401),
    ],
)
def test_a_token_is_read_from_its_header(queue: BlockQueue, header: str, status: int) -> None:
    secret = queue.tokens.create("all", EVERYTHING).secret
    client = falcon.testing.TestClient(create_app(queue))
    given = header.replace("{}", secret)
    answer = client.simulate_get("/v1/topics", headers={"Authorization": given})
    assert answer.status_code == status
    assert secret not in answer.text


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "authorization"])
def test_a_token_is_not_read_from_anywhere_else(queue: BlockQueue, name: str) -> None:
    secret = queue.tokens.create("all", EVERYTHING).secret
    client = falcon.testing.TestClient(create_app(queue))
    answer = client.simulate_get("/v1/topics", params={name: secret}, cookies={name: secret})
    assert answer.status_code == 401


def claimed(client: falcon.testing.TestClient, topic: str, secret: str) -> dict[str, Any]:
    answer = ask(client, "POST", f"/v1/topics/{topic}/subscribers/worker/claim", secret)
    (delivery,) = answer.json["data"]
    found: dict[str, Any] = delivery
    return found


def test_a_receipt_works_only_with_its_topics_token(queue: BlockQueue) -> None:
    """Neither on its own topic's path nor on another's can a foreign token use it."""
    queue.create_topic("other", ["worker"])
    own = queue.tokens.create("own", ["consume:cart"]).secret
    foreign = queue.tokens.create("foreign", ["consume:other"]).secret
    client = falcon.testing.TestClient(create_app(queue))
    queue.publish("cart", "hi")
    delivery = claimed(client, "cart", own)
    body = {"receipt_token": delivery["receipt_token"]}

    def ack(topic: str, secret: str) -> int:
        path = f"/v1/topics/{topic}/subscribers/worker/messages/{delivery['id']}/ack"
        return ask(client, "POST", path, secret, body).status_code

    assert ack("cart", foreign) == 404
    assert ack("other", foreign) in (404, 409)
    assert queue.subscribers("cart")[0].leased == 1
    assert ack("cart", own) == 200


def test_the_first_contract_says_it_in_its_envelope(queue: BlockQueue) -> None:
    secret = queue.tokens.create("reader", ["consume:cart"]).secret
    client = falcon.testing.TestClient(create_app(queue))
    publish: Callable[..., Any] = lambda *args: ask(  # noqa: E731
        client, "POST", "/topics/cart/messages", *args
    )

    unknown, forbidden = publish(), publish(secret, {"message": "hi"})
    hidden = ask(client, "POST", "/topics/other/messages", secret, {"message": "hi"})
    assert [each.status_code for each in (unknown, forbidden, hidden)] == [401, 403, 404]
    assert unknown.headers["WWW-Authenticate"] == "Bearer"
    assert [each.json["message"] for each in (unknown, forbidden, hidden)] == [
        *("failure", "failure", "not found")
    ]
    assert "publish:cart" in forbidden.json["error"]
