"""Publishing in ``/v1``: limits, due times, idempotency, and batches that are all or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .http_server import serving, until
from .v1_client import Client, Json, Topic, check_202, ms, timestamp, v1_client

_HOUR_MS = 3_600_000
_MESSAGE_BYTES_MAX = 1_048_576
_HEADERS_BYTES_MAX = 16_384


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


def headers_of(size: int) -> dict[str, str]:
    """Return headers that are that many bytes of JSON."""
    return {"k": "v" * (size - len('{"k":""}'))}


def ident(members: Any) -> str:
    """Name a case."""
    return str(members)[:60]


# Limits.

_TAKEN: list[Json] = [
    {"message": ""},
    {"message": "é" * (_MESSAGE_BYTES_MAX // 2)},
    {"message": '"quoted" \\ \n\t\x00\x7f Ünïcödé 🎉'},
    {"headers": {}},
    {"headers": {"a": "", "": "b", "ключ": "🎉"}},
    {"headers": headers_of(_HEADERS_BYTES_MAX)},
    *({"idempotency_key": key} for key in ("k", "k" * 128, "é" * 64)),
    *({"correlation_id": value} for value in ("c", "c" * 255, "é" * 127 + "c")),
    *({"priority": value} for value in (-1000, -1, 0, 1, 1000)),
    *({"delay": value} for value in ("0", "0s", "1ns", "100000h")),
    *({"schedule_at": value} for value in ("2001-02-03T04:05:06Z", "2099-01-01T00:00:00.5+02:00")),
]


@pytest.mark.parametrize("members", _TAKEN, ids=ident)
def test_messages_that_are_taken(orders: Topic, members: Json) -> None:
    """And come back as they were."""
    body = {"message": "hi", **members}

    receipt = orders.send("POST", "/messages", body, wait_for="commit").ok()

    shown = orders.status(receipt["message_id"])
    for name in ("message", "correlation_id", "idempotency_key", "priority"):
        if body.get(name):
            assert shown[name] == body[name]
    assert shown.get("headers", {}) == body.get("headers", {})
    assert shown["scheduled_at"] == receipt["scheduled_at"]


_REFUSED: list[Json] = [
    {"message": "é" * (_MESSAGE_BYTES_MAX // 2) + "x"},
    *({"message": value} for value in (5, ["hi"], {"a": 1}, True)),
    {"headers": headers_of(_HEADERS_BYTES_MAX + 1)},
    *({"headers": value} for value in ({"a": 1}, {"a": None}, ["a"], "a")),
    *({"idempotency_key": key} for key in ("k" * 129, "é" * 64 + "k", 5)),
    *({"correlation_id": value} for value in ("c" * 256, "é" * 128, 5)),
    *({"priority": value} for value in (-1001, 1001, 10**30, 1.5, "1", True)),
    *({"delay": value} for value in ("-1s", "1", "1d", "soon", 5, "1S")),
    *({"schedule_at": value} for value in ("2099-01-01T00:00:00", "2099-01-01", "soon", 5)),
    {"delay": "1s", "schedule_at": "2099-01-01T00:00:00Z"},
    {"unknown": 1},
]


@pytest.mark.parametrize("members", _REFUSED, ids=ident)
def test_messages_that_are_refused(orders: Topic, members: Json) -> None:
    """Alone and in a batch, of which nothing is stored then."""
    body = {"message": "hi", **members}
    for wait_for in ("commit", None):
        orders.send("POST", "/messages", body, wait_for=wait_for).check_invalid()
        orders.try_batch([{"message": "fine"}, body], wait_for).check_invalid()
    orders.client.let_pass("100ms")

    assert orders.active() == []


def test_headers_are_limited_as_json(orders: Topic) -> None:
    """What their text needs once written, not what the request spent on it."""
    body = {"message": "hi", "headers": headers_of(_HEADERS_BYTES_MAX)}
    spaced = json.dumps(body, indent=8).encode()

    orders.send("POST", "/messages", spaced, wait_for="commit").ok()


@pytest.mark.parametrize("wait_for", ["other", "COMMIT", "true"])
def test_only_a_commit_can_be_waited_for(orders: Topic, wait_for: str) -> None:
    """Anything else is refused."""
    orders.try_publish(wait_for=wait_for).check_invalid()
    orders.try_batch([{"message": "hi"}], wait_for=wait_for).check_invalid()

    assert orders.active() == []


def test_a_status_has_all_and_nothing_empty(orders: Topic) -> None:
    """Members that would be empty are left out."""
    orders.add("another")
    plain = orders.status(orders.publish())
    assert plain.keys() == {
        *("id", "topic_id", "message", "priority", "scheduled_at", "created_at", "deliveries"),
    }
    assert plain["priority"] == 0
    assert [each["subscriber"] for each in plain["deliveries"]] == ["another", "worker"]
    for delivery in plain["deliveries"]:
        assert delivery.keys() == {
            *("subscriber_id", "subscriber", "status", "delivery_count", "failure_count"),
            "visible_at",
        }
        assert (delivery["delivery_count"], delivery["failure_count"]) == (0, 0)
    orders.claim()
    orders.send("GET", "/messages/nonsense").check_unknown()
    orders.send("GET", "/messages/0199d5a4-0000-8000-8000-000000000000").check_unknown()


def test_a_claimed_delivery_has_all_and_nothing_empty(orders: Topic) -> None:
    """Zero counts and priorities are left out too."""
    always = {"id", "message", "status", "visible_at", "created_at", "delivery_count"}
    leased = {"receipt_token", "lease_expires_at"}
    orders.publish()
    plain = orders.claim_one()
    assert plain.keys() == always | leased
    orders.ack(plain).ok()
    members: Json = {"headers": {"a": "b"}, "correlation_id": "c", "priority": 3}
    orders.publish(**members)

    (waiting,) = orders.active()

    assert waiting.keys() == always - {"delivery_count"} | members.keys()
    full = orders.claim_one()
    assert full.keys() == always | leased | members.keys()
    assert {name: full[name] for name in members} == members
    (listed,) = orders.active()
    assert listed == full


# Due times.


def test_a_delay_counts_from_the_commit(orders: Topic) -> None:
    """The receipt says when."""
    for delay, delay_ms in [("1h", _HOUR_MS), ("1h30m", _HOUR_MS * 3 // 2), (".5h", 1_800_000)]:
        before = time.time() * 1000
        receipt = orders.try_publish(delay=delay).ok()
        after = time.time() * 1000

        due = ms(receipt["scheduled_at"])
        assert before - 1000 <= due - delay_ms <= after + 1000
        assert ms(orders.delivery(receipt["message_id"])["visible_at"]) == due
    assert orders.has_nothing_for()
    assert orders.counters() == (3, 0)


def test_past_times_are_due_at_once_and_in_their_order(orders: Topic) -> None:
    """Before what was published earlier."""
    now = time.time() * 1000
    orders.publish("now")
    orders.publish("an hour ago", schedule_at=timestamp(now - _HOUR_MS))
    orders.publish("two hours ago", schedule_at=timestamp(now - 2 * _HOUR_MS))

    claimed = [each["message"] for each in orders.claim()]

    assert claimed == ["two hours ago", "an hour ago", "now"]


def test_an_instant_keeps_its_milliseconds(orders: Topic) -> None:
    """In whatever zone it is written; zeros at the end of the fraction are trimmed."""
    for written, shown in [
        ("2099-01-01T02:00:00.120+02:00", "2099-01-01T00:00:00.12Z"),
        ("2098-12-31T20:00:00-04:00", "2099-01-01T00:00:00Z"),
        ("2099-01-01T00:00:00.007Z", "2099-01-01T00:00:00.007Z"),
    ]:
        assert orders.try_publish(schedule_at=written).ok()["scheduled_at"] == shown


def test_what_was_published_first_is_claimed_first(orders: Topic) -> None:
    """Within one priority."""
    for number in range(10):
        orders.publish(str(number))
        orders.client.let_pass("2ms")

    assert [each["message"] for each in orders.claim()] == [str(number) for number in range(10)]


# Idempotency.

_BASE: Json = {"message": "hi", "headers": {"a": "1", "b": "2"}, "correlation_id": "c"}
_AT: Json = {**_BASE, "schedule_at": "2099-01-01T00:00:00Z"}
_DELAYED: Json = {**_BASE, "delay": "5m"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_BASE, _BASE),
        (_BASE, {**_BASE, "headers": {"b": "2", "a": "1"}}),
        (_BASE, {**_BASE, "priority": 0}),
        ({"message": "hi"}, {"message": "hi", "headers": {}, "correlation_id": ""}),
        (_DELAYED, {**_BASE, "delay": "300s"}),
        (_DELAYED, {**_BASE, "delay": "4m60s"}),
        (_AT, {**_BASE, "schedule_at": "2099-01-01T02:00:00.000+02:00"}),
    ],
    ids=ident,
)
def test_the_same_again_is_a_duplicate(orders: Topic, first: Json, second: Json) -> None:
    """Also after it was processed; the key counts in its topic alone."""
    stored = orders.try_publish(**first, idempotency_key="k").ok()
    assert stored["duplicate"] is False

    again = orders.try_publish(**second, idempotency_key="k").ok()
    admitted = orders.try_publish(**second, idempotency_key="k", wait_for=None).ok(202)

    assert again == {**stored, "duplicate": True}
    assert admitted["message_id"] == stored["message_id"]
    check_202(admitted, duplicate=True)
    assert len(orders.active()) == 1
    other = orders.client.fresh_topic()
    other.create()
    other.publish(**first, idempotency_key="k")
    orders.publish(**first, idempotency_key="K")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_BASE, {**_BASE, "message": "hi "}),
        (_BASE, {**_BASE, "headers": {"a": "1"}}),
        (_BASE, {"message": "hi", "correlation_id": "c"}),
        (_BASE, {**_BASE, "correlation_id": "C"}),
        (_BASE, {**_BASE, "priority": 1}),
        (_BASE, {**_BASE, "delay": "0s"}),
        (_BASE, _DELAYED),
        (_DELAYED, {**_BASE, "delay": "5m1ms"}),
        (_DELAYED, _BASE),
        (_AT, _BASE),
        (_AT, {**_BASE, "schedule_at": "2099-01-01T00:00:00.001Z"}),
    ],
    ids=ident,
)
def test_something_else_under_the_same_key_is_a_conflict(
    orders: Topic, first: Json, second: Json
) -> None:
    """In a batch nothing of it is stored; twice in one batch it is a bad request."""
    stored = orders.publish(**first, idempotency_key="k")

    orders.try_publish(**second, idempotency_key="k").check_conflict()
    conflict = {**second, "idempotency_key": "k"}
    orders.try_batch([{"message": "fine"}, conflict]).check_conflict()
    pair = [{**first, "idempotency_key": "new"}, {**second, "idempotency_key": "new"}]
    orders.try_batch([{"message": "fine"}, *pair]).check_invalid()

    assert [each["id"] for each in orders.active()] == [stored]
    orders.publish("anything", idempotency_key="new")


def test_an_empty_key_is_none(orders: Topic) -> None:
    """Two messages with it are two."""
    first, second = orders.publish(idempotency_key=""), orders.publish(idempotency_key="")

    assert first != second
    assert "idempotency_key" not in orders.status(first)


def test_a_key_outlives_the_processing_of_its_message(orders: Topic) -> None:
    """The retry adds no delivery."""
    stored = orders.publish(idempotency_key="k")
    orders.ack(orders.claim_one()).ok()
    orders.add("late")

    again = orders.try_publish(idempotency_key="k").ok()

    assert (again["message_id"], again["duplicate"]) == (stored, True)
    assert orders.has_nothing_for()
    assert orders.has_nothing_for("late")
    assert [each["subscriber"] for each in orders.status(stored)["deliveries"]] == ["worker"]


# Batches.


def test_a_batch_has_a_receipt_for_each_in_order(orders: Topic) -> None:
    """With what the members of each ask for."""
    orders.publish("old", idempotency_key="old")
    batch: list[Json] = [
        {"message": "a", "priority": 5},
        {"message": "old", "idempotency_key": "old"},
        {"message": "c", "schedule_at": "2099-01-01T00:00:00Z"},
        {"message": "d", "headers": {"d": "d"}},
    ]

    receipts = orders.try_batch(batch).ok()

    assert [each["duplicate"] for each in receipts] == [False, True, False, False]
    shown = [orders.status(each["message_id"]) for each in receipts]
    assert [each["message"] for each in shown] == ["a", "old", "c", "d"]
    assert receipts[2]["scheduled_at"] == "2099-01-01T00:00:00Z"
    assert len(orders.active()) == 4


def test_a_batch_that_does_not_wait_is_admitted(orders: Topic) -> None:
    """With no location, for there is more than one."""
    reply = orders.try_batch([{"message": str(number)} for number in range(5)], wait_for=None)

    receipts = reply.ok(202)
    assert "Location" not in reply.headers
    for receipt in receipts:
        check_202(receipt)
    ids = {each["message_id"] for each in receipts}
    until(lambda: {each["id"] for each in orders.active()} == ids, "all are stored")
