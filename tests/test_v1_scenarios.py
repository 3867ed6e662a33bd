"""What a drop-in for ``/v1`` must pass: topics, publishing, claiming and lists."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from .http_server import serving, until
from .v1_client import ROUNDING_S, Client, Json, Topic, check_202, ms, timestamp, v1_client

# Where a scenario says how long something may take, a busy machine may take that many times it.
_PATIENCE = 5


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, not made yet."""
    return client.fresh_topic()


def test_e01_create_publish_claim_ack(orders: Topic) -> None:
    """A message makes its whole way, and nothing is left of it."""
    topic = orders.create()
    assert (topic["name"], topic["paused"]) == (orders.name, False)
    assert abs(ms(topic["created_at"]) - time.time() * 1000) < 60_000
    receipt = orders.try_publish("hi").ok()
    assert (receipt["state"], receipt["duplicate"]) == ("persisted", False)

    delivery = orders.claim_one()

    assert (delivery["id"], delivery["message"]) == (receipt["message_id"], "hi")
    assert (delivery["status"], delivery["delivery_count"]) == ("delivered", 1)
    assert orders.ack(delivery).ok() == {"status": "processed"}
    assert orders.ack(delivery).ok() == {"status": "processed"}
    started = time.monotonic()
    assert orders.claim(timeout="1s") == []
    assert 1 - ROUNDING_S <= time.monotonic() - started < 1 * _PATIENCE
    assert orders.counters() == (0, 0)


def test_e02_every_subscriber_gets_it(orders: Topic) -> None:
    """One's ack leaves the other's, and the status shows both."""
    orders.create("a", "b")
    message_id = orders.publish()
    for_a, for_b = orders.claim_one("a"), orders.claim_one("b")
    assert for_a["id"] == for_b["id"] == message_id

    orders.ack(for_a, "a").ok()

    listed = orders.status(message_id)["deliveries"]
    assert [(each["subscriber"], each["status"]) for each in listed] == [
        ("a", "processed"),
        ("b", "delivered"),
    ]
    assert (orders.counters("a"), orders.counters("b")) == ((0, 0), (0, 1))
    orders.ack(for_b, "b").ok()


def test_e03_a_plain_publish_is_admitted(orders: Topic) -> None:
    """202 with a Location, which is there within a second."""
    orders.create()

    admitted = orders.try_publish("hi", wait_for=None)

    receipt = admitted.ok(202)
    check_202(receipt)
    location = admitted.headers["Location"]
    assert location == f"{orders.path}/messages/{receipt['message_id']}"

    def is_stored() -> bool:
        reply = orders.client.send("GET", location)
        assert reply.status in {200, 404}, reply
        return reply.status == 200

    until(is_stored, "the message is stored", 1.0 * _PATIENCE)


def test_e04_one_key_is_one_message(orders: Topic) -> None:
    """The same payload is a duplicate; another one is a conflict and stores nothing."""
    orders.create()
    first = orders.try_publish("hi", idempotency_key="k").ok()

    again = orders.try_publish("hi", idempotency_key="k").ok()

    assert again == {**first, "duplicate": True}
    delayed = orders.try_publish("later", idempotency_key="d", delay="5m").ok()
    same = orders.try_publish("later", idempotency_key="d", delay="300s").ok()
    assert same == {**delayed, "duplicate": True}
    orders.try_publish("later", idempotency_key="d", delay="10m").check_conflict()
    orders.try_publish("hi", idempotency_key="k", correlation_id="other").check_conflict()
    due = time.time() * 1000 + 3_600_000
    at = {"idempotency_key": "at", "schedule_at": timestamp(due)}
    orders.try_publish("at", **at).ok()
    orders.try_publish("at", **{**at, "schedule_at": timestamp(due + 1000)}).check_conflict()


def test_e04_a_batch_with_a_conflict_stores_nothing(orders: Topic) -> None:
    """And a key that is in it twice with the same payload is one message."""
    orders.create()
    orders.publish("hi", idempotency_key="k")
    conflict = {"message": "other", "idempotency_key": "k"}
    new = {"message": "new", "idempotency_key": "new"}

    orders.try_batch([conflict, new]).check_conflict()

    assert len(orders.active()) == 1
    orders.publish(**new)  # is no duplicate
    twice = [
        {"message": "twice", "idempotency_key": "t", "delay": delay} for delay in ("1m", "60s")
    ]
    first, second = orders.try_batch(twice).ok()
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert first["message_id"] == second["message_id"]


def test_e05_a_client_that_timed_out_retries_with_its_key(orders: Topic) -> None:
    """One message and one delivery per subscriber, whether or not the first try arrived."""
    orders.create("a", "b")
    keys = [f"key-{number}" for number in range(10)]
    for key in keys:
        body = {"message": key, "idempotency_key": key}
        orders.start("/messages", body, wait_for="commit").give_up()

    ids = {orders.try_publish(key, idempotency_key=key).ok()["message_id"] for key in keys}

    assert len(ids) == len(keys)
    for subscriber in ("a", "b"):
        claimed = orders.claim(subscriber, limit=100)
        assert sorted(each["message"] for each in claimed) == sorted(keys)
        assert {each["id"] for each in claimed} == ids
        assert orders.has_nothing_for(subscriber)


def test_e06_a_later_subscriber_gets_nothing_old(orders: Topic) -> None:
    """Nor the retry of an old key."""
    orders.create()
    old = orders.publish("old", idempotency_key="k")
    orders.add("late")

    retried = orders.try_publish("old", idempotency_key="k").ok()

    assert (retried["message_id"], retried["duplicate"]) == (old, True)
    assert orders.has_nothing_for("late")
    new = orders.publish("new")
    assert orders.claim_one("late")["id"] == new
    assert [each["subscriber"] for each in orders.status(old)["deliveries"]] == ["worker"]


def test_e07_higher_priorities_come_first_once_they_are_due(orders: Topic) -> None:
    """What is not due yet holds nothing back."""
    orders.create()
    orders.publish("-10", priority=-10)
    orders.publish("20", priority=20)
    started = time.monotonic()
    orders.publish("100", priority=100, delay="1s")

    assert [each["message"] for each in orders.claim(limit=2)] == ["20", "-10"]

    assert orders.claim_one()["message"] == "100"
    assert time.monotonic() - started >= 1 - ROUNDING_S


def test_e08_a_parked_claim_waits_for_what_is_due_or_published(orders: Topic) -> None:
    """It answers as soon as a delay is over or a message comes."""
    orders.create()
    started = time.monotonic()
    delayed = orders.publish(delay="80ms")

    assert orders.claim_one(timeout="10s")["id"] == delayed

    assert 0.05 < time.monotonic() - started < 0.3 * _PATIENCE
    parked = orders.park()
    published = orders.publish()
    started = time.monotonic()
    assert [each["id"] for each in parked.answer().ok()] == [published]
    assert time.monotonic() - started < 0.3 * _PATIENCE


def test_e18_parallel_claims_never_get_the_same_message(orders: Topic) -> None:
    """However many ask for one, or for many."""
    orders.create()
    orders.publish()

    def claim_at_once(count: int, limit: int) -> list[list[Json]]:
        path = f"{orders.of()}/claim"
        claims = [orders.start(path, timeout="500ms", limit=limit) for _ in range(count)]
        return [claim.answer().ok() for claim in claims]

    assert sorted(map(len, claim_at_once(8, 10))) == [*[0] * 7, 1]

    published = set(orders.publish_many(500))
    claimed = [each["id"] for found in claim_at_once(25, 20) for each in found]
    assert max(Counter(claimed).values()) == 1
    assert set(claimed) <= published
    rest = orders.claim(limit=500) if len(claimed) < 500 else []
    assert published == {*claimed, *(each["id"] for each in rest)}


def test_e18_one_claim_takes_a_thousand(orders: Topic) -> None:
    """All that a batch can publish."""
    orders.create()
    published = orders.publish_many(1000)

    claimed = orders.claim(limit=1000)

    assert sorted(each["id"] for each in claimed) == sorted(published)


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_e20_what_is_paused_hands_nothing_out(orders: Topic, what: str) -> None:
    """All else goes on, and after the resume it is claimable."""
    orders.create()
    orders.publish("held")
    held = orders.claim_one()
    path = "" if what == "topic" else orders.of()
    parked = orders.park()

    assert orders.send("POST", f"{path}/pause").ok() == {"paused": True}

    started = time.monotonic()
    parked.answer().check_conflict()
    published = orders.publish("meanwhile")
    orders.try_claim(timeout="30s").check_conflict()
    assert time.monotonic() - started < 1 * _PATIENCE
    orders.ack(held).ok()
    assert orders.send("POST", f"{path}/resume").ok() == {"paused": False}
    assert orders.claim_one()["id"] == published


def test_e21_a_deleted_subscriber_ends_its_parked_claims(orders: Topic) -> None:
    """Within 500 ms."""
    orders.create()
    parked = orders.park()

    orders.remove().check_empty()

    started = time.monotonic()
    parked.answer().check_unknown()
    assert time.monotonic() - started < 0.5 * _PATIENCE


def test_e21_a_deleted_topic_is_gone_and_its_name_is_free(orders: Topic) -> None:
    """All that was below it is not found; the next of that name is empty."""
    old = orders.create()
    message_id = orders.publish()
    schedule = orders.schedule()
    orders.claim_one()
    delivery = {"id": message_id, "receipt_token": str(uuid.uuid4())}
    parked = orders.park()

    orders.delete().check_empty()

    parked.answer().check_unknown()
    replies = [
        orders.delete(),
        orders.send("POST", "/pause"),
        orders.send("GET", "/subscribers"),
        orders.try_add("b"),
        orders.remove(),
        orders.try_publish(),
        orders.send("GET", f"/messages/{message_id}"),
        orders.cancel_message(message_id),
        orders.try_claim(),
        orders.ack(delivery),
        orders.send("GET", f"{orders.of()}/dlq"),
        orders.replay(message_id),
        orders.try_schedule(),
        orders.run_now(schedule),
    ]
    for reply in replies:
        reply.check_problem(404, "topic_not_found")
    new = orders.create()
    assert new["id"] != old["id"]
    assert orders.counters() == (0, 0)
    assert orders.has_nothing_for()
    assert orders.client.all_of(f"{orders.path}/schedules", "schedules") == []
    orders.send("GET", f"/messages/{message_id}").check_unknown()


def test_e22_what_is_malformed_is_refused_and_makes_nothing(client: Client, orders: Topic) -> None:
    """As a problem with the code ``validation_error``."""
    name = orders.name
    slow = {"name": "worker", "option": {"visibility_duration": "13h"}}
    body = b'{"name":"%s","subscribers":[{"name":"worker"}]}' % name.encode()

    client.send("POST", "/v1/topics", body[:-1] + b',"unknown":1}').check_invalid()
    client.send("POST", "/v1/topics", body + body).check_invalid()
    client.send("POST", "/v1/topics", {"name": name, "subscribers": [slow]}).check_invalid()

    assert name not in {each["name"] for each in client.all_of("/v1/topics", "topics")}
    orders.create("other")
    orders.try_claim("other", timeout="x").check_invalid()
    orders.send("GET", "/subscribers", cursor="!bad!").check_invalid()
    orders.try_add(slow).check_invalid()
    orders.try_publish(unknown=1).check_invalid()
    listed = client.all_of(f"{orders.path}/subscribers", "subscribers")
    assert [each["name"] for each in listed] == ["other"]
    assert orders.active("other") == []
    assert client.send("GET", "/v2/topics").status == 404


def check_pages(client: Client, path: str, array: str, least: int = 3) -> list[Json]:
    """Assert that small pages show what one large one does, in its order; return it."""
    whole = client.all_of(path, array)
    assert len(whole) >= least
    for limit in (1, 2):
        assert [each for page in client.pages(path, array, limit) for each in page] == whole
    return whole


def test_e23_every_list_can_be_paged(client: Client, orders: Topic) -> None:
    """Each item comes once, and no cursor follows the last."""
    orders.create("a", "b", "worker", max_attempts=4)
    for _ in range(2):
        client.fresh_topic().create()
    dead = [orders.publish(str(number)) for number in range(3)]
    for retry in range(4):
        for delivery in [orders.claim_one(limit=1) for _ in dead]:
            orders.nack(delivery, retry_delay="1ms", error=str(retry)).ok()
    active = [orders.publish(str(number)) for number in range(3)]
    schedules = [orders.schedule(f"s{number}") for number in range(3)]
    runs = [orders.run_now(schedules[0], force="true").ok(202)["id"] for _ in range(3)]

    topics = check_pages(client, "/v1/topics", "topics")
    subscribers = check_pages(client, f"{orders.path}/subscribers", "subscribers")
    listed = check_pages(client, f"{orders.path}/schedules", "schedules")
    messages = check_pages(client, f"{orders.path}{orders.of()}/messages", "messages")
    letters = check_pages(client, f"{orders.path}{orders.of()}/dlq", "messages")
    errors = f"{orders.path}{orders.of()}/messages/{dead[0]}/errors"
    history = check_pages(client, errors, "errors", 4)
    occurrences = check_pages(client, f"{orders.path}/schedules/{schedules[0]['id']}/runs", "runs")

    for named in (topics, subscribers, listed):
        assert [each["name"] for each in named] == sorted(each["name"] for each in named)
    assert [each["name"] for each in subscribers] == ["a", "b", "worker"]
    assert [each["id"] for each in listed] == [each["id"] for each in schedules]
    assert {each["id"] for each in messages} > set(active)
    assert len(messages) == 3 + len(runs)
    assert {each["id"] for each in letters} == set(dead)
    for newest_first in (messages, letters):
        keys = [(ms(each["created_at"]), each["id"]) for each in newest_first]
        assert keys == sorted(keys, reverse=True)
    assert sorted(each["failure_count"] for each in history) == [1, 2, 3, 4]
    assert sorted(each["id"] for each in occurrences) == sorted(runs)
