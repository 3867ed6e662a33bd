"""How much one token may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue import RateLimited, TokenLimits
from blockqueue.api._quota import Bucket, Quota

from .auth_helpers import Caller, call, make
from .http_server import Answer, Server, serving, until

CART = {"name": "cart", "subscribers": [{"name": "worker"}]}
PUBLISH = "/v1/topics/cart/messages"
CLAIM = "/v1/topics/cart/subscribers/worker/claim?timeout=60s"


class Watch:
    """A monotonic clock that is moved by hand."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_bucket_gives_its_rate_and_a_second_in_advance() -> None:
    watch = Watch()
    bucket = Bucket(10, watch)
    assert [bucket.take(1) for _ in range(10)] == [0.0] * 10
    assert bucket.take(1) == pytest.approx(0.1)
    given = 0
    for _ in range(1000):
        watch.now_s += 0.01
        given += bucket.take(1) == 0.0
    assert 99 <= given <= 101
    watch.now_s += 3600  # what was not asked for is not saved up
    assert sum(bucket.take(1) == 0.0 for _ in range(100)) == 10


def test_a_large_thing_passes_and_is_paid_for_afterwards() -> None:
    watch = Watch()
    bucket = Bucket(1000, watch)
    assert bucket.take(5000) == 0.0
    assert bucket.take(1) == pytest.approx(4.001)
    watch.now_s += 3.9
    assert bucket.take(1) == pytest.approx(0.101)
    assert bucket.take(0) > 0
    watch.now_s += 0.2
    assert bucket.take(1) == 0.0


def test_a_rate_below_one_a_second_still_lets_one_through() -> None:
    watch = Watch()
    bucket = Bucket(0.1, watch)
    assert bucket.take(1) == 0.0
    watch.now_s += 10.1
    assert bucket.take(1) == 0.0
    assert bucket.take(1) > 0


def test_a_refused_request_is_not_in_flight() -> None:
    quota = Quota(TokenLimits(requests_per_s=1, in_flight=5), Watch())
    quota.enter(0)
    for _ in range(10):
        with pytest.raises(RateLimited, match="requests a second"):
            quota.enter(0)
    quota.leave()
    assert quota._in_flight == 0


def test_a_refusal_says_when_to_come_again() -> None:
    quota = Quota(TokenLimits(bytes_per_s=100), Watch())
    quota.enter(1000)
    with pytest.raises(RateLimited, match="bytes a second") as caught:
        quota.enter(0)
    assert caught.value.retry_after == 9


# Over HTTP.


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def admin(db: Path) -> str:
    return make(db, "admin").secret


@pytest.fixture
def server(db: Path, admin: str) -> Iterator[Server]:
    with serving(db) as running:
        assert call(running, admin, "POST", "/topics", CART).status == 200
        yield running
        # Whoever was refused has done no harm.
        assert call(running, admin, "POST", PUBLISH, {"message": "hi"}).status == 202


def check_limited(answer: Answer, what: str) -> int:
    """Assert that this is a refusal for that reason; return when to come again."""
    assert answer.status == 429, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "rate_limited"
    assert what in answer.json["detail"]
    return int(answer.headers["Retry-After"])


def test_requests_a_second(db: Path, server: Server) -> None:
    secret = make(db, "slow", "observe:*", requests_per_s=0.01).secret
    assert call(server, secret, "GET", "/v1/topics").status == 200
    assert 90 <= check_limited(call(server, secret, "GET", "/v1/topics"), "requests") <= 100
    refused = call(server, secret, "GET", "/topics/cart/subscribers")
    refused.check_failure(429)
    assert int(refused.headers["Retry-After"]) > 1


def test_bytes_a_second(db: Path, server: Server) -> None:
    """The body that is too much passes; then its token has to wait."""
    secret = make(db, "thin", "publish:*", bytes_per_s=1000).secret
    body = {"message": "x" * 50_000}
    assert call(server, secret, "POST", PUBLISH, body).status == 202
    wait_s = check_limited(call(server, secret, "POST", PUBLISH, {"message": ""}), "bytes")
    assert 40 <= wait_s <= 50


def test_polls_that_wait(db: Path, server: Server) -> None:
    """One too many is refused at once; a place is free when a poll ends or its client goes."""
    secret = make(db, "reader", "consume:*", polls=2).secret
    polls = [Caller(server, secret) for _ in range(3)]
    for each in polls:
        each.begin("POST", CLAIM)
    until(lambda: any(each.is_answered() for each in polls), "one is refused")
    (over,) = (each for each in polls if each.is_answered())
    check_limited(over.end(), "polls that wait")
    waiting = [each for each in polls if each is not over]

    waiting[0].close()
    until(lambda: is_parked(server, secret), "the place of who went is free")
    waiting[1].close()
    over.close()


def is_parked(server: Server, secret: str) -> bool:
    """Say whether a poll may wait; if so it ends soon."""
    status = call(server, secret, "POST", CLAIM.replace("60s", "50ms")).status
    assert status in {200, 429}
    return status == 200


def test_a_poll_that_need_not_wait_is_no_poll_that_waits(
    db: Path, server: Server, admin: str
) -> None:
    secret = make(db, "reader", "consume:*", "publish:*", polls=1).secret
    poll = Caller(server, secret)
    poll.begin("POST", CLAIM)
    for _ in range(3):  # then it has been read, and most likely waits
        call(server, admin, "GET", "/v1/topics")
    assert not is_parked(server, secret)
    for _ in range(3):
        call(server, secret, "POST", PUBLISH, {"message": "hi"})
    assert len(poll.end().json["data"]) >= 1
    assert call(server, secret, "POST", CLAIM).status == 200
    poll.close()


def test_requests_in_flight(db: Path, server: Server) -> None:
    """A poll that waits is in flight, until its client has gone."""
    secret = make(db, "one", "consume:*", "observe:*", in_flight=1).secret
    poll = Caller(server, secret)
    poll.begin("POST", CLAIM)

    def waits() -> bool:
        if poll.is_answered():  # it was refused: another look was in flight as it came
            assert poll.end().status == 429
            poll.begin("POST", CLAIM)
        return call(server, secret, "GET", "/v1/topics").status == 429

    until(waits, "the poll waits")
    check_limited(call(server, secret, "GET", "/v1/topics"), "in flight")
    poll.close()
    until(lambda: call(server, secret, "GET", "/v1/topics").status == 200, "the poll has gone")
    for _ in range(5):  # none of these was counted twice, or not counted out
        assert call(server, secret, "GET", "/v1/topics").status == 200


def test_tokens_do_not_share_their_limits(db: Path, server: Server) -> None:
    for name in ("first", "second"):
        secret = make(db, name, "observe:*", requests_per_s=0.01).secret
        statuses = [call(server, secret, "GET", "/v1/topics").status for _ in range(2)]
        assert statuses == [200, 429]
