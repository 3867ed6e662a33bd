"""Publishing, claiming and settling over ``/v1``: what is shown, and what is refused."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from .http_server import serving
from .v1_client import Topic, item, ms, v1_client
from .v1_fixtures import client, server, topic

__all__ = ["client", "server", "topic"]

BAD_MESSAGES: list[dict[str, Any]] = [
    {"message": "x" * 1_048_577},
    {"message": "ä" * 524_289},
    {"headers": {"a": "x" * 16_384}},
    {"headers": []},
    {"correlation_id": "x" * 256},
    {"correlation_id": "ä" * 128},
    {"idempotency_key": "x" * 129},
    {"idempotency_key": "ä" * 65},
    {"priority": -1001},
    {"delay": "-1s"},
    {"delay": "soon"},
    {"delay": 5},
    {"delay": "9" * 60 + "h"},
    {"delay": "1s", "schedule_at": "2030-01-01T00:00:00Z"},
    {"schedule_at": "2030-01-01T00:00:00"},
    {"schedule_at": "2030-01-01"},
    {"schedule_at": "tomorrow"},
    {"schedule_at": ""},
    {"schedule_at": 1},
]


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=lambda message: str(message)[:60])
def test_a_bad_message_is_refused(topic: Topic, message: dict[str, Any]) -> None:
    """Alone or in a batch, of which nothing is published then."""
    topic.send("POST", "/messages", message).check_invalid()
    topic.try_batch([{"message": "fine"}, message]).check_invalid()

    assert topic.counters() == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"message": "x" * 1_048_576},
        {"headers": {}, "correlation_id": "", "idempotency_key": "", "delay": ""},
        {"correlation_id": "x" * 255, "idempotency_key": "x" * 128, "priority": -1000},
        {"delay": "0"},
        {"delay": "1h30m.5s"},
        {"schedule_at": "9999-12-31T23:59:59.999-23:59"},
        {"schedule_at": "0001-01-01T00:00:00+23:59"},
        {"schedule_at": "2001-01-01T00:00:00.123456789+02:00"},
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_is_within_the_limits_is_published(topic: Topic, message: dict[str, Any]) -> None:
    receipt = topic.send("POST", "/messages", message).ok(202)

    assert topic.status(receipt["message_id"])["scheduled_at"] == receipt["scheduled_at"]
    topic.client.all_of(f"{topic.path}{topic.of()}/messages", "messages")


def test_a_plain_publish_is_on_the_disk_before_its_202(topic: Topic) -> None:
    """And says where it is."""
    published = topic.try_publish("hi", wait_for=None)

    receipt = published.ok(202)
    assert receipt.keys() == {"message_id", "state", "duplicate", "scheduled_at"}
    assert (receipt["state"], receipt["duplicate"]) == ("persisted", False)
    place = published.headers["Location"]
    assert place == f"{topic.path}/messages/{receipt['message_id']}"
    assert topic.client.send("GET", place).ok()["message"] == "hi"


def test_only_a_single_plain_publish_has_a_place(topic: Topic) -> None:
    for answer, status in (
        (topic.try_publish(), 200),
        (topic.try_batch([{}]), 200),
        (topic.try_batch([{}], wait_for=None), 202),
    ):
        answer.ok(status)
        assert "Location" not in answer.headers


@pytest.mark.parametrize("wait_for", ["", "Commit", "1", "flush"])
def test_one_can_only_wait_for_the_commit(topic: Topic, wait_for: str) -> None:
    topic.try_publish(wait_for=wait_for).check_invalid()
    topic.try_batch([{}], wait_for=wait_for).check_invalid()

    assert topic.counters() == (0, 0)


def test_a_batch_has_1_to_1000_messages(topic: Topic) -> None:
    topic.try_batch([]).check_invalid()
    topic.try_batch([{}] * 1001).check_invalid()
    assert len(topic.try_batch([{}] * 1000).ok()) == 1000


def test_the_whole_of_a_message_is_shown(topic: Topic) -> None:
    """To whoever claims it, in lists, and in its status."""
    members = {"headers": {"a": "ü"}, "correlation_id": "c", "priority": 3}
    identity = topic.publish("hällo", idempotency_key="k", **members)

    status = topic.status(identity)
    (listed,) = topic.active()
    claimed = topic.claim_one()

    shared = {"id": identity, "message": "hällo", **members}
    assert {**shared, "idempotency_key": "k"}.items() <= status.items()
    assert listed == {
        **shared,
        "status": "pending",
        "visible_at": status["scheduled_at"],
        "created_at": status["created_at"],
    }
    assert listed.items() <= (claimed | {"status": "pending"}).items()
    more = claimed.keys() - listed.keys()
    assert more == {"delivery_count", "receipt_token", "lease_expires_at"}
    assert (claimed["status"], claimed["delivery_count"]) == ("delivered", 1)
    (delivery,) = status["deliveries"]
    uuid.UUID(delivery.pop("subscriber_id"))
    counts = {"delivery_count": 0, "failure_count": 0}
    visible = {"visible_at": status["scheduled_at"]}
    assert delivery == {"subscriber": "worker", "status": "pending", **counts, **visible}


def test_a_bare_message_is_shown_without_what_it_has_not(topic: Topic) -> None:
    identity = topic.publish("hi")

    claimed = topic.claim_one()

    required = {"id", "message", "status", "visible_at", "created_at"}
    assert claimed.keys() == {*required, "delivery_count", "receipt_token", "lease_expires_at"}
    shown = topic.status(identity).keys()
    assert not shown & {"headers", "correlation_id", "idempotency_key"}
    assert "priority" in shown


def test_what_ends_a_delivery_is_dated(topic: Topic) -> None:
    """Cancelled ones have been processed at that time, too."""
    done, given_up = topic.publish(), topic.publish()
    topic.ack(topic.claim(limit=1)[0]).ok()
    topic.cancel(given_up, "no more").ok()

    processed, cancelled = topic.delivery(done), topic.delivery(given_up)

    assert "cancelled_at" not in processed
    assert ms(processed["processed_at"])
    assert cancelled["cancelled_at"] == cancelled["processed_at"]
    assert cancelled["cancel_reason"] == "no more"


def test_an_unknown_message_is_404(topic: Topic) -> None:
    """Whatever its id looks like."""
    other = topic.client.fresh_topic()
    other.create()
    for identity in (str(uuid.uuid4()), "x", "1", "%20", "ä", other.publish()):
        path = f"/messages/{identity.replace('ä', '%C3%A4')}"
        topic.send("GET", path).check_unknown()
        topic.send("POST", f"{path}/cancel").check_unknown()


def test_a_cancelled_message_is_listed_by_subscriber(topic: Topic) -> None:
    """Finished ones as they are, and again the same."""
    topic.add("another")
    identity = topic.publish()
    topic.ack(topic.claim_one()).ok()

    results = topic.cancel_message(identity, {"reason": "no"}).ok()

    assert [each.pop("subscriber_id") for each in results] == [
        each["subscriber_id"] for each in topic.status(identity)["deliveries"]
    ]
    assert [each["status"] for each in results] == ["cancelled", "processed"]
    assert {each["message_id"] for each in results} == {identity}
    assert len(topic.cancel_message(identity).ok()) == 2


# Claims.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", "x"),
        ("timeout", "0"),
        ("timeout", "-1s"),
        ("timeout", "61s"),
        ("timeout", "5"),
        ("lease", "0s"),
        ("lease", "-1m"),
        ("lease", "13h"),
        ("lease", "1"),
    ],
)
def test_a_bad_timeout_or_lease_is_refused(topic: Topic, name: str, value: str) -> None:
    """And nothing is handed out."""
    topic.publish()

    topic.send("POST", f"{topic.of()}/claim", **{name: value}).check_invalid()

    assert topic.counters() == (1, 0)


def test_a_claim_takes_ten_unless_it_says_otherwise(topic: Topic) -> None:
    """Never what the subscriber's option says: that is for embedded claims."""
    topic.add("few", dequeue_batch_size=2)
    topic.publish_many(12)

    assert len(topic.send("POST", f"{topic.of('few')}/claim").ok()) == 10
    assert len(topic.claim(limit=1, timeout="", lease="")) == 1


def test_the_shortest_lease_and_timeout_are_above_zero(topic: Topic) -> None:
    assert topic.claim(timeout="1ns") == []
    topic.publish()
    assert len(topic.claim(lease="1us")) == 1


def test_a_client_that_has_gone_gives_back_what_it_claimed(topic: Topic) -> None:
    """At once, and it does not count as a delivery."""
    for _ in range(5):
        topic.park().give_up()
    topic.publish_many(5)

    seen = [topic.claim_one(limit=1) for _ in range(5)]

    assert {each["delivery_count"] for each in seen} == {1}
    assert len({each["id"] for each in seen}) == 5


def test_an_end_of_the_server_is_the_end_of_a_claim(tmp_path: Path) -> None:
    """It answers with nothing, at once."""
    with serving(tmp_path / "queue.db") as running, v1_client(running) as connected:
        topic = connected.fresh_topic()
        topic.create()
        parked = topic.park(timeout="60s")

        assert running.stop() == 0

        assert parked.answer().ok() == []


# Settlements.


def test_settling_says_what_is_so_now(topic: Topic) -> None:
    topic.publish_many(4)
    first, second, third, fourth = topic.claim(lease="1m")

    assert topic.ack(first).ok() == {"status": "processed"}
    assert topic.nack(second).ok() == {"status": "pending"}
    snoozed = topic.snooze(third, "1h").ok()
    assert snoozed.keys() == {"status", "visible_at"}
    assert snoozed["status"] == "pending"
    extended = topic.lease(fourth, extension="1s").ok()
    gained = ms(extended.pop("lease_expires_at")) - ms(fourth["lease_expires_at"])
    assert (gained, extended) == (1000, {})
    assert topic.cancel(fourth["id"]).ok() == {"status": "cancelled"}


@pytest.mark.parametrize("verb", ["ack", "nack", "lease", "snooze"])
def test_a_settlement_needs_its_receipt(topic: Topic, verb: str) -> None:
    """Without one it is invalid, with another it is a conflict, whatever that looks like."""
    topic.publish()
    delivery = topic.claim_one()

    for body in ({}, {"receipt_token": ""}, {"receipt_token": None}, None):
        topic.on(delivery["id"], verb, body).check_invalid()
    for receipt in ("x", str(uuid.uuid4()), "ä"):
        topic.on(delivery["id"], verb, {"receipt_token": receipt}).check_conflict()
    assert topic.counters() == (0, 1)


@pytest.mark.parametrize("verb", ["ack", "nack", "lease", "snooze", "cancel", "errors"])
def test_an_unknown_delivery_is_404(topic: Topic, verb: str) -> None:
    """But to extend its lease is a conflict."""
    body = None if verb in {"cancel", "errors"} else {"receipt_token": "x"}

    for identity in ("x", str(uuid.uuid4()), "batch" if verb == "errors" else "y"):
        answer = topic.on(identity, verb, body)
        if verb == "lease":
            answer.check_conflict()
        else:
            answer.check_unknown()


@pytest.mark.parametrize(
    ("verb", "members"),
    [
        ("nack", {"retry_delay": "-1s"}),
        ("nack", {"retry_delay": "x"}),
        ("nack", {"error": 1}),
        ("lease", {"extension": "0s"}),
        ("lease", {"extension": "13h"}),
        ("snooze", {"delay": "-1s"}),
        ("snooze", {"delay": 1}),
    ],
    ids=str,
)
def test_a_bad_settlement_is_refused(topic: Topic, verb: str, members: dict[str, Any]) -> None:
    """In a batch it is all of it that is refused."""
    topic.publish_many(2)
    one, other = topic.claim()

    topic.settle(verb, one, **members).check_invalid()
    if verb == "nack":
        topic.batch("nack", [item(other), item(one, **members)]).check_invalid()
    assert topic.counters() == (0, 2)


def test_an_empty_delay_is_none(topic: Topic) -> None:
    topic.publish_many(3)
    one, two, three = topic.claim()

    topic.snooze(one, "").ok()
    topic.lease(two, extension="").ok()
    topic.nack(three, retry_delay="", error="").ok()


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_the_items_of_a_batch_say_why_they_failed(topic: Topic, verb: str) -> None:
    topic.publish_many(3)
    first, second, third = topic.claim()
    items = [
        item(first),
        {"message_id": second["id"]},
        {"message_id": second["id"], "receipt_token": ""},
        {"message_id": second["id"], "receipt_token": "x"},
        {"message_id": "x", "receipt_token": second["receipt_token"]},
        {"receipt_token": second["receipt_token"]},
        {},
        item(third),
    ]

    results = topic.batch(verb, items).ok()

    done = {"status": "processed" if verb == "ack" else "pending"}
    missing = {"status": "failed", "error": "receipt_token is required"}
    lost = {"status": "failed", "error": "delivery lease lost"}
    unknown = {"status": "failed", "error": "delivery not found"}
    outcomes = [done, missing, missing, lost, unknown, unknown, missing, done]
    identities = [each.get("message_id", "") for each in items]
    expected = [
        {"message_id": identity, **outcome}
        for identity, outcome in zip(identities, outcomes, strict=True)
    ]
    assert results == expected
    topic.ack(second).ok()


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_batch_has_1_to_1000_items(topic: Topic, verb: str) -> None:
    topic.batch(verb, []).check_invalid()
    topic.batch(verb, [{}] * 1001).check_invalid()
    assert len(topic.batch(verb, [{}] * 1000).ok()) == 1000


def test_a_repeated_item_is_done_again_or_fails(topic: Topic) -> None:
    """An acknowledgement may be repeated, a failure may not."""
    topic.publish_many(2)
    one, two = topic.claim()

    acked = topic.batch("ack", [item(one), item(one)]).ok()
    nacked = topic.batch("nack", [item(two), item(two)]).ok()

    assert [each["status"] for each in acked] == ["processed", "processed"]
    assert [each["status"] for each in nacked] == ["pending", "failed"]


def test_a_batch_of_failures_says_what_died(topic: Topic) -> None:
    topic.add("once", max_attempts=1)
    topic.publish()

    (result,) = topic.batch("nack", [item(topic.claim_one("once"))], "once").ok()

    assert result["status"] == "dead_letter"


def test_only_dead_letters_are_replayed(topic: Topic) -> None:
    """Each once; which ones must be said."""
    topic.add("once", max_attempts=1)
    dead, alive = topic.publish(), topic.publish()
    (first, _) = topic.claim("once")
    topic.nack(first, "once").ok()

    results = topic.replay(dead, dead, alive, "x", subscriber="once").ok()

    failed = {"status": "failed", "error": "delivery not found"}
    assert results == [
        {"message_id": dead, "status": "pending"},
        {"message_id": dead, **failed},
        {"message_id": alive, **failed},
        {"message_id": "x", **failed},
    ]
    bodies: list[Any] = [None, {}, {"message_ids": []}, {"message_ids": ["x"] * 1001}, [dead]]
    for body in bodies:
        topic.send("POST", f"{topic.of('once')}/dlq/replay", body).check_invalid()


def test_a_failure_is_shown_in_the_history(topic: Topic) -> None:
    identity = topic.publish()
    topic.nack(topic.claim_one(), error="too hot").ok()

    (shown,) = topic.errors(identity)

    uuid.UUID(shown.pop("id"))
    assert ms(shown.pop("failed_at"))
    assert shown == {
        "message_id": identity,
        "subscriber_id": topic.delivery(identity)["subscriber_id"],
        "failure_count": 1,
        "error": "too hot",
    }
