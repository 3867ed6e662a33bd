"""Deliveries in ``/v1``: receipts, what they can do, and what a stale one cannot."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .http_server import serving
from .v1_client import Client, Json, Topic, item, ms, v1_client

_HOUR_MS = 3_600_000
# The verbs that need a receipt, with the least they ask for besides.
_VERBS: list[tuple[str, Json]] = [
    ("ack", {}),
    ("nack", {"error": "no"}),
    ("lease", {"extension": "1m"}),
    ("snooze", {"delay": "1m"}),
]
_VERB_NAMES = [verb for verb, _ in _VERBS]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, with a worker."""
    topic = client.fresh_topic()
    topic.create()
    return topic


def seen(orders: Topic, message_id: str) -> Any:
    """Return all that can be seen of a message's deliveries."""
    return orders.status(message_id), orders.errors(message_id), orders.active(), orders.dead()


# Claims.


@pytest.mark.parametrize(
    "query",
    [
        *({"timeout": value} for value in ("0", "0s", "-1s", "60s1ns", "61s", "x", "5", "1d")),
        *({"lease": value} for value in ("0s", "-1s", "12h1ms", "x", "5")),
    ],
    ids=str,
)
def test_claims_that_are_refused(orders: Topic, query: dict[str, str]) -> None:
    """And hand nothing out."""
    orders.publish()

    orders.try_claim(**query).check_invalid()

    assert orders.counters() == (1, 0)


@pytest.mark.parametrize(
    "query",
    [{"timeout": "60s"}, {"timeout": None}, {"timeout": "1ms"}, {"lease": "12h"}, {"lease": "1s"}],
    ids=str,
)
def test_claims_at_the_limits(orders: Topic, query: dict[str, str]) -> None:
    """They answer with what is there at once."""
    message_id = orders.publish()

    (delivery,) = orders.claim(**query)

    assert delivery["id"] == message_id


def test_retries_queue_by_when_they_are_visible(orders: Topic) -> None:
    """Behind what was there before."""
    orders.publish("first")
    first = orders.claim_one()
    orders.publish("second")
    orders.client.let_pass("5ms")
    orders.snooze(first, "").ok()
    orders.client.let_pass("5ms")
    orders.publish("third")

    assert [each["message"] for each in orders.claim()] == ["second", "first", "third"]


# Receipts.


@pytest.mark.parametrize(("verb", "members"), _VERBS, ids=_VERB_NAMES)
def test_a_receipt_must_be_the_live_one(orders: Topic, verb: str, members: Json) -> None:
    """A stale or a foreign one is a conflict and changes nothing at all."""
    orders.add("another")
    message_id, other_id = orders.publish("this"), orders.publish("other")
    old = {each["id"]: each for each in orders.claim()}
    for each in old.values():
        orders.snooze(each, "").ok()
    live = {each["id"]: each for each in orders.claim()}
    foreign = [each for each in orders.claim("another") if each["id"] == message_id]
    before = seen(orders, message_id)
    receipts = [
        old[message_id]["receipt_token"],
        live[other_id]["receipt_token"],
        foreign[0]["receipt_token"],
        "f81d4fae-7dec-4b2d-a765-00a0c91e6bf6",
        "not-a-uuid",
        live[message_id]["receipt_token"] + "0",
    ]

    for receipt in receipts:
        body = {"receipt_token": receipt, **members}
        orders.on(message_id, verb, body).check_conflict()

    assert seen(orders, message_id) == before
    orders.settle(verb, live[message_id], **members).ok()


@pytest.mark.parametrize(("verb", "members"), _VERBS, ids=_VERB_NAMES)
def test_a_receipt_is_required(orders: Topic, verb: str, members: Json) -> None:
    """An empty one is none."""
    message_id = orders.publish()
    live = orders.claim_one()
    before = seen(orders, message_id)

    for missing in ({}, {"receipt_token": ""}, {"receipt_token": None}, {"receipt_token": 5}):
        orders.on(message_id, verb, {**members, **missing}).check_invalid()

    assert seen(orders, message_id) == before
    orders.ack(live).ok()


@pytest.mark.parametrize("end", ["ack", "nack", "snooze", "cancel", "message cancel", "expiry"])
def test_a_receipt_dies_with_its_lease(orders: Topic, end: str) -> None:
    """However that ended; only an ack can be repeated."""
    message_id = orders.publish()
    delivery = orders.claim_one(lease="1ms" if end == "expiry" else "5m")
    if end == "cancel":
        orders.cancel(message_id).ok()
    elif end == "message cancel":
        orders.cancel_message(message_id).ok()
    elif end == "expiry":
        orders.client.let_pass("10ms")
    else:
        orders.settle(end, delivery, **({"delay": "1h"} if end == "snooze" else {})).ok()
    status = orders.delivery(message_id)["status"] if end != "expiry" else ""

    for verb, members in _VERBS:
        reply = orders.settle(verb, delivery, **members)
        if verb == end == "ack":
            assert reply.ok() == {"status": "processed"}
        else:
            reply.check_conflict()

    if end != "expiry":
        assert orders.delivery(message_id)["status"] == status


@pytest.mark.parametrize("message_id", ["f81d4fae-7dec-4b2d-a765-00a0c91e6bf6", "nonsense", "0"])
def test_an_unknown_delivery_is_not_found(orders: Topic, message_id: str) -> None:
    """Except by an extension, for which it is one that is not leased."""
    receipt = {"receipt_token": str(uuid.uuid4())}
    for verb, body in [("ack", receipt), ("nack", receipt), ("snooze", {**receipt, "delay": "1s"})]:
        orders.on(message_id, verb, body).check_unknown()
    orders.cancel(message_id).check_unknown()
    orders.on(message_id, "errors").check_unknown()
    orders.cancel_message(message_id).check_unknown()
    orders.send("GET", f"/messages/{message_id}").check_unknown()
    if message_id.count("-") == 4:
        orders.on(message_id, "lease", receipt).check_conflict()


@pytest.mark.parametrize(
    ("verb", "members"),
    [
        *(("nack", {"retry_delay": value}) for value in ("-1s", "x", "5", 5)),
        *(("lease", {"extension": value}) for value in ("0s", "-1s", "12h1ms", "13h", "x", 5)),
        *(("snooze", {"delay": value}) for value in ("-1s", "x", "5", 5)),
        *(("nack", {"error": value}) for value in (5, ["no"])),
    ],
)
def test_what_a_receipt_cannot_ask_for(orders: Topic, verb: str, members: Json) -> None:
    """Refused, and the lease goes on."""
    message_id = orders.publish()
    delivery = orders.claim_one()
    before = seen(orders, message_id)

    orders.settle(verb, delivery, **members).check_invalid()

    assert seen(orders, message_id) == before
    orders.ack(delivery).ok()


def test_an_extension_is_the_visibility_unless_told_otherwise(orders: Topic) -> None:
    """Added to what is left."""
    orders.add("brief", visibility_duration="2m")
    orders.publish()
    delivery = orders.claim_one("brief", lease="1m")

    extended = orders.settle("lease", delivery, "brief").ok()

    extra_ms = ms(extended["lease_expires_at"]) - ms(delivery["lease_expires_at"])
    assert extra_ms == 120_000


def test_delays_have_no_maximum(orders: Topic) -> None:
    """Of nacks and snoozes."""
    orders.publish_many(2)
    nacked, snoozed = orders.claim()

    orders.nack(nacked, retry_delay="1000h").ok()
    due = ms(orders.snooze(snoozed, "1000h").ok()["visible_at"])

    for visible in (due, ms(orders.delivery(nacked["id"])["visible_at"])):
        assert abs(visible - 1000 * _HOUR_MS - time.time() * 1000) < 60_000


# Batches.


def test_a_batch_ack_tells_what_is_wrong_with_each(orders: Topic) -> None:
    """The good ones are acked, and so they are when they are repeated."""
    orders.publish_many(2)
    good, wrong = orders.claim()
    unknown = str(uuid.uuid4())
    items = [
        item(good),
        {"message_id": wrong["id"], "receipt_token": str(uuid.uuid4())},
        {"message_id": wrong["id"], "receipt_token": ""},
        {"message_id": unknown, "receipt_token": str(uuid.uuid4())},
        item(good),
    ]

    for _ in range(2):
        assert orders.batch("ack", items).ok() == [
            {"message_id": good["id"], "status": "processed"},
            {"message_id": wrong["id"], "status": "failed", "error": "delivery lease lost"},
            {"message_id": wrong["id"], "status": "failed", "error": "receipt_token is required"},
            {"message_id": unknown, "status": "failed", "error": "delivery not found"},
            {"message_id": good["id"], "status": "processed"},
        ]
    orders.ack(wrong).ok()


def test_a_batch_nack_tells_what_became_of_each(orders: Topic) -> None:
    """A second item for a message fails, and one bad delay is bad for all."""
    orders.add("once", max_attempts=1)
    orders.publish_many(2)
    first, second = orders.claim()
    bad = item(second, retry_delay="x")
    orders.batch("nack", [item(first), bad]).check_invalid()
    assert orders.counters() == (0, 2)

    results = orders.batch("nack", [item(first, retry_delay="1h", error="a"), item(first)]).ok()

    assert results == [
        {"message_id": first["id"], "status": "pending"},
        {"message_id": first["id"], "status": "failed", "error": "delivery lease lost"},
    ]
    (error,) = orders.errors(first["id"])
    assert (error["error"], error["failure_count"]) == ("a", 1)
    assert error.keys() == {
        *("id", "message_id", "subscriber_id", "failure_count", "error", "failed_at"),
    }
    waits = ms(orders.delivery(first["id"])["visible_at"]) - ms(error["failed_at"])
    assert waits == _HOUR_MS
    dying = orders.claim("once")
    results = orders.batch("nack", [item(each) for each in dying], "once").ok()
    assert [each["status"] for each in results] == ["dead_letter", "dead_letter"]
    assert len(orders.dead("once")) == 2


def test_a_single_nack_says_pending_even_of_the_dead(orders: Topic) -> None:
    """As the clients expect."""
    orders.add("once", max_attempts=1)
    message_id = orders.publish()

    assert orders.nack(orders.claim_one("once"), "once").ok() == {"status": "pending"}

    assert orders.delivery(message_id, "once")["status"] == "dead_letter"
    assert orders.delivery(message_id, "once")["processed_at"]
