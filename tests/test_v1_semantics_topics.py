"""The topics and subscribers of ``/v1``: their names, their options, and how they go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from .http_server import serving, until
from .v1_client import Client, Json, Topic, item, ms, v1_client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, not made yet."""
    return client.fresh_topic()


def is_there(topic: Topic) -> bool:
    return topic.send("GET", "/subscribers").status == 200


# Names.

_BAD_NAMES = ["", "a" * 151, "é" * 75 + "a", "a/b", "a\nb", "a\0", "\x7f", " a", "a ", " "]
_GOOD_NAMES = ["a", "a" * 150, "é" * 75, "a b", "a:b&c?d#e%41", "ключ", "..."]


@pytest.mark.parametrize("name", _BAD_NAMES)
def test_names_that_are_refused(client: Client, orders: Topic, name: str) -> None:
    """Of topics and of subscribers, in both places where those are made."""
    Topic(client, name).try_create().check_invalid()
    orders.try_create("fine", name).check_invalid()
    assert not is_there(orders)
    orders.create()
    orders.try_add("fine", name).check_invalid()
    assert len(client.all_of(f"{orders.path}/subscribers", "subscribers")) == 1


@pytest.mark.parametrize("name", _GOOD_NAMES)
def test_names_that_are_taken_and_decoded_once(client: Client, name: str) -> None:
    """In a path they are percent-encoded, reserved characters too."""
    named = Topic(client, name)
    assert named.create(name)["name"] == name
    message_id = named.publish()

    delivery = named.claim_one(name)

    assert delivery["id"] == message_id
    named.ack(delivery, name).ok()
    named.remove(name).check_empty()
    named.delete().check_empty()


def test_a_taken_name_is_a_conflict(orders: Topic) -> None:
    """A topic's, a subscriber's, and one that is given twice; nothing is made."""
    orders.try_create("twin", "twin").check_conflict()
    assert not is_there(orders)
    orders.create("a")

    orders.try_create("b").check_conflict()
    orders.try_add("b", "a").check_conflict()
    orders.try_add("b", "b").check_conflict()

    listed = orders.client.all_of(f"{orders.path}/subscribers", "subscribers")
    assert [each["name"] for each in listed] == ["a"]


# Options.


@pytest.mark.parametrize(
    "option",
    [
        *({"visibility_duration": value} for value in ("1ms", "12h", "1h30m", ".5s", "0", "")),
        *({"visibility_duration": value} for value in (None, "0s", "1500us", "1µs2ms")),
        *({"max_attempts": value} for value in (0, -5, 1, 1_000_000_000, None)),
        *({"dequeue_batch_size": value} for value in (0, -1, 1, 1000, None)),
        *({"retry_policy": {"initial_delay": value}} for value in ("0", "1ms", "1h", "", None)),
        *({"retry_policy": {"max_delay": value}} for value in ("0", "1s", "", "1000h")),
        {"retry_policy": {"initial_delay": "2s", "max_delay": "2s"}},
        *({"retry_policy": {"multiplier": value}} for value in (0, 1, 1.5, 10)),
        *({"retry_policy": {"jitter": value}} for value in (0, 1, 0.5)),
        {"retry_policy": {"disable_jitter": True}},
        {"retry_policy": None},
        {},
    ],
    ids=json.dumps,
)
def test_options_that_are_taken(orders: Topic, option: Json) -> None:
    """Nothing, an empty text and zero stand for the default."""
    orders.create(**option)
    orders.add("another", **option)
    message_id = orders.publish()
    assert orders.claim_one()["id"] == message_id


@pytest.mark.parametrize(
    "option",
    [
        *({"visibility_duration": value} for value in ("12h0m0.001s", "13h", "999us", "-1s")),
        *({"visibility_duration": value} for value in ("1d", "5", "soon", "1S", "1 s", 5, True)),
        *({"max_attempts": value} for value in ("3", 2.5, True)),
        *({"dequeue_batch_size": value} for value in (1001, "10")),
        *({"retry_policy": {"initial_delay": value}} for value in ("999us", "-1s", "x", 1)),
        *({"retry_policy": {"max_delay": value}} for value in ("999us", "-1s", "x", "999ms")),
        {"retry_policy": {"initial_delay": "2s", "max_delay": "1s"}},
        *({"retry_policy": {"multiplier": value}} for value in (0.9, -1, "2")),
        *({"retry_policy": {"jitter": value}} for value in (1.1, -0.1, "0.2")),
        *({"retry_policy": {"disable_jitter": value}} for value in (1, "true")),
        {"retry_policy": {"unknown": 1}},
        {"retry_policy": "slow"},
        {"unknown": 1},
    ],
    ids=json.dumps,
)
def test_options_that_are_refused(orders: Topic, option: Json) -> None:
    """And nothing is made, though another subscriber is fine."""
    orders.try_create(**option).check_invalid()
    assert not is_there(orders)
    orders.create()
    orders.try_add("fine", {"name": "odd", "option": option}).check_invalid()
    assert len(orders.client.all_of(f"{orders.path}/subscribers", "subscribers")) == 1


def test_added_subscribers_are_answered_as_sent(orders: Topic) -> None:
    """Zero values are filled in, defaults are not."""
    orders.create()

    plain, full = orders.try_add("plain", {"name": "full", "option": {"max_attempts": 7}}).ok(201)

    assert (plain["name"], plain["option"]["max_attempts"]) == ("plain", 0)
    assert (full["name"], full["option"]["max_attempts"]) == ("full", 7)


# Options at work.


def test_claims_ignore_the_batch_size_of_the_subscriber(orders: Topic) -> None:
    """Ten are claimed unless told otherwise, and a thousand at most."""
    orders.create(dequeue_batch_size=1)
    orders.publish_many(1000)
    orders.publish_many(20)

    assert len(orders.claim()) == 10
    for limit in ("0", "-1", "x", ""):
        claimed = orders.claim(limit=limit)
        assert len(claimed) == 10
        assert orders.batch("nack", [item(each) for each in claimed]).ok()
    orders.publish_many(40)
    assert len(orders.claim(limit=5000)) == 1000


def test_the_default_visibility_is_five_minutes(orders: Topic) -> None:
    """A claim may ask for another lease."""
    orders.create("default")
    orders.add("short", visibility_duration="2m")
    orders.publish_many(2)
    leases = {"default": 300, "short": 120}
    for subscriber, seconds in leases.items():
        for lease, expected in [(None, seconds), ("7s", 7)]:
            before = time.time()
            delivery = orders.claim_one(subscriber, lease=lease, limit=1)
            after = time.time()
            expires = ms(delivery["lease_expires_at"]) / 1000
            assert before - 1 <= expires - expected <= after + 1


@pytest.mark.parametrize("zero", ["0s", "", None])
def test_no_initial_delay_means_the_default_of_a_second(orders: Topic, zero: str | None) -> None:
    """With jitter, and doubling, for three failures."""
    orders.create(retry_policy={"initial_delay": zero, "jitter": 0, "multiplier": 0})
    message_id = orders.publish()
    for failures, base_ms in [(1, 1000), (2, 2000)]:
        orders.nack(orders.claim_one()).ok()
        (error,) = [each for each in orders.errors(message_id) if each["failure_count"] == failures]
        waits = ms(orders.delivery(message_id)["visible_at"]) - ms(error["failed_at"])
        assert 0.8 * base_ms - 1 <= waits <= 1.2 * base_ms + 1
    orders.nack(orders.claim_one()).ok()
    assert orders.delivery(message_id)["status"] == "dead_letter"


def test_retries_grow_by_the_multiplier_up_to_the_maximum(orders: Topic) -> None:
    """Each failure waits longer."""
    policy = {"initial_delay": "10ms", "max_delay": "70ms", "multiplier": 3, "disable_jitter": True}
    orders.create(retry_policy=policy, max_attempts=10)
    message_id = orders.publish()
    for failures, expected_ms in [(1, 10), (2, 30), (3, 70), (4, 70)]:
        orders.nack(orders.claim_one()).ok()
        (error,) = [each for each in orders.errors(message_id) if each["failure_count"] == failures]
        visible = ms(orders.delivery(message_id)["visible_at"])
        assert abs(visible - ms(error["failed_at"]) - expected_ms) <= 1


# Pauses.


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_a_pause_only_stops_claims(orders: Topic, what: str) -> None:
    """Leases, lists and all that ends a delivery go on."""
    orders.create(max_attempts=1)
    ids = [orders.publish() for _ in range(6)]
    acked, nacked, snoozed, extended, expiring = [orders.claim_one(limit=1) for _ in range(5)]
    path = "" if what == "topic" else orders.of()
    for _ in range(2):
        assert orders.send("POST", f"{path}/pause").ok() == {"paused": True}

    orders.ack(acked).ok()
    orders.nack(nacked).ok()
    orders.snooze(snoozed, "").ok()
    orders.lease(extended, extension="1s").ok()
    orders.cancel(extended["id"]).ok()
    assert len(orders.active()) == 3
    assert [each["id"] for each in orders.dead()] == [nacked["id"]]
    assert orders.replay(nacked["id"]).ok()[0]["status"] == "pending"
    orders.cancel_message(ids[-1]).ok()
    schedule = orders.schedule()
    assert orders.run_now(schedule).ok(202)["status"] == "running"
    assert orders.counters() == (3, 1)
    orders.try_claim().check_conflict()
    for _ in range(2):
        assert orders.send("POST", f"{path}/resume").ok() == {"paused": False}
    assert len(orders.claim()) == 3
    orders.ack(expiring).ok()


def test_leases_expire_and_count_in_a_pause(orders: Topic) -> None:
    """Without any claim."""
    orders.create(max_attempts=1, visibility_duration="20ms")
    message_id = orders.publish()
    orders.claim_one()
    orders.send("POST", "/pause").ok()

    until(lambda: orders.delivery(message_id)["status"] == "dead_letter", "it is dead")

    assert orders.delivery(message_id)["failure_count"] == 1


def test_a_paused_topic_says_so(client: Client, orders: Topic) -> None:
    """A subscriber's pause is shown nowhere."""
    orders.create()

    def shown() -> bool:
        listed = client.all_of("/v1/topics", "topics")
        (found,) = [each["paused"] for each in listed if each["name"] == orders.name]
        return bool(found)

    assert not shown()
    orders.send("POST", "/pause").ok()
    assert shown()
    orders.send("POST", f"{orders.of()}/pause").ok()
    orders.send("POST", "/resume").ok()
    assert not shown()
    orders.publish()
    orders.try_claim().check_conflict()
    orders.send("POST", f"{orders.of('nobody')}/pause").check_unknown()
    orders.send("POST", f"{orders.of('nobody')}/resume").check_unknown()


# Deletes.


def test_a_deleted_topic_ends_what_is_held(orders: Topic) -> None:
    """Old ids and receipts mean nothing to the next topic of its name."""
    orders.create()
    orders.publish("old")
    old = orders.claim_one()
    orders.delete().check_empty()
    orders.ack(old).check_problem(404, "topic_not_found")
    orders.create()
    orders.publish("new")

    orders.ack(old).check_unknown()
    orders.cancel(old["id"]).check_unknown()
    orders.cancel_message(old["id"]).check_unknown()

    assert orders.claim_one()["message"] == "new"


def test_a_deleted_subscriber_takes_its_deliveries_along(orders: Topic) -> None:
    """One of that name starts empty, and the others are not touched."""
    orders.create("a", "b")
    message_id = orders.publish()
    held = orders.claim_one("a")

    orders.remove("a").check_empty()

    orders.remove("a").check_unknown()
    orders.ack(held, "a").check_unknown()
    assert [each["subscriber"] for each in orders.status(message_id)["deliveries"]] == ["b"]
    orders.add("a")
    assert orders.has_nothing_for("a")
    orders.ack(held, "a").check_unknown()
    assert orders.claim_one("b")["id"] == message_id


def test_without_a_subscriber_nothing_can_be_published(orders: Topic) -> None:
    """The last one may be deleted; one at a time or many, the publish is a conflict."""
    orders.create()
    orders.remove().check_empty()

    orders.try_publish().check_conflict()
    orders.try_batch([{"message": "hi"}]).check_conflict()

    orders.add("worker")
    orders.publish()
    assert len(orders.claim()) == 1


def test_every_route_of_an_unknown_subscriber_is_not_found(orders: Topic) -> None:
    """Batches and replays too."""
    orders.create()
    message_id = orders.publish()
    delivery = orders.claim_one()
    settled = [
        orders.settle(verb, delivery, "nobody", **members)
        for verb, members in [("ack", {}), ("nack", {}), ("snooze", {"delay": "1s"})]
    ]
    replies = [
        *settled,
        orders.remove("nobody"),
        orders.try_claim("nobody"),
        orders.on(message_id, "cancel", subscriber="nobody"),
        orders.on(message_id, "errors", subscriber="nobody"),
        orders.batch("ack", [item(delivery)], "nobody"),
        orders.batch("nack", [item(delivery)], "nobody"),
        orders.send("GET", f"{orders.of('nobody')}/messages"),
        orders.send("GET", f"{orders.of('nobody')}/dlq"),
        orders.replay(message_id, subscriber="nobody"),
    ]
    for reply in replies:
        reply.check_unknown()
    orders.ack(delivery).ok()
