"""How deliveries end in ``/v1``: cancels, the texts they leave, dead letters and replays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from .http_server import serving
from .v1_client import Client, Topic, v1_client

_MARK = "…[truncated]"


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


# Cancels.


def test_a_message_is_cancelled_for_all_that_have_not_ended_it(orders: Topic) -> None:
    """What is finished is listed as it is; the first reason stays."""
    orders.add("done")
    orders.add("dead", max_attempts=1)
    orders.add("waiting")
    message_id = orders.publish()
    held = orders.claim_one()
    orders.ack(orders.claim_one("done"), "done").ok()
    orders.nack(orders.claim_one("dead"), "dead").ok()
    expected = {
        "worker": "cancelled",
        "done": "processed",
        "dead": "dead_letter",
        "waiting": "cancelled",
    }

    for reason in ("first", "second"):
        results = orders.cancel_message(message_id, {"reason": reason}).ok()
        shown = orders.status(message_id)["deliveries"]
        names = {each["subscriber_id"]: each["subscriber"] for each in shown}
        assert {names[each["subscriber_id"]]: each["status"] for each in results} == expected
        assert {each["message_id"] for each in results} == {message_id}

    reasons = {each["subscriber"]: each.get("cancel_reason") for each in shown}
    assert reasons == {"worker": "first", "waiting": "first", "done": None, "dead": None}
    orders.ack(held).check_conflict()
    assert orders.has_nothing_for("waiting")
    assert [each["id"] for each in orders.dead("dead")] == [message_id]


def test_what_is_dead_cannot_be_cancelled(orders: Topic) -> None:
    """It stays a dead letter."""
    orders.add("once", max_attempts=1)
    message_id = orders.publish()
    orders.nack(orders.claim_one("once"), "once").ok()

    orders.on(message_id, "cancel", subscriber="once").check_conflict()

    assert len(orders.dead("once")) == 1


@pytest.mark.parametrize("body", [None, b"{}", b'{"reason":""}', b'{"reason":null}'])
def test_a_cancel_needs_no_reason(orders: Topic, body: bytes | None) -> None:
    """Then none is shown."""
    message_id = orders.publish()

    assert orders.on(message_id, "cancel", body).ok() == {"status": "cancelled"}

    shown = orders.delivery(message_id)
    assert "cancel_reason" not in shown
    assert shown["status"] == "cancelled"
    assert orders.cancel_message(message_id, body).ok()[0]["status"] == "cancelled"


@pytest.mark.parametrize("character", ["x", "é", "€", "🎉"])
def test_texts_are_kept_up_to_the_limit_and_cut_above(orders: Topic, character: str) -> None:
    """16,384 bytes are whole; one more character is cut, never in the middle of one."""
    longest = character * (16_384 // len(character.encode()))
    for text in (longest, longest + character):
        message_id = orders.publish()
        orders.nack(orders.claim_one(), error=text).ok()
        orders.cancel(message_id, text).ok()
        (error,) = orders.errors(message_id)
        for stored in (error["error"], orders.delivery(message_id)["cancel_reason"]):
            assert len(stored.encode()) <= 16_384
            if text == longest:
                assert stored == text
            else:
                assert stored.endswith(_MARK)
                assert text.startswith(stored.removesuffix(_MARK))


# Counters and replays.


def test_counters_tell_pending_and_delivered(orders: Topic) -> None:
    """Delayed, retried and snoozed ones are pending; what has ended is in neither."""
    orders.publish(delay="1h")
    assert orders.counters() == (1, 0)
    for _ in range(6):
        orders.publish()
    held, acked, nacked, snoozed, cancelled = orders.claim(limit=5)
    assert orders.counters() == (2, 5)
    orders.ack(acked).ok()
    orders.nack(nacked, retry_delay="1h").ok()
    orders.snooze(snoozed, "1h").ok()
    orders.cancel(cancelled["id"]).ok()
    assert orders.counters() == (4, 1)
    assert len(orders.active()) == 5
    orders.ack(held).ok()
    assert orders.counters() == (4, 0)


def test_a_replay_answers_for_each_id(orders: Topic) -> None:
    """What is repeated, alive, unknown or no id at all fails by itself."""
    orders.add("once", max_attempts=1)
    dead_id, live_id = orders.publish("dead"), orders.publish("live")
    dying = {each["id"]: each for each in orders.claim("once")}
    orders.nack(dying[dead_id], "once", error="gone").ok()
    unknown = str(uuid.uuid4())

    results = orders.replay(dead_id, live_id, unknown, dead_id, subscriber="once").ok()

    failed = {"status": "failed", "error": "delivery not found"}
    assert results == [
        {"message_id": dead_id, "status": "pending"},
        *({"message_id": each, **failed} for each in (live_id, unknown, dead_id)),
    ]
    assert len(orders.errors(dead_id, "once")) == 1
    replayed = orders.claim_one("once")
    assert (replayed["id"], replayed["delivery_count"]) == (dead_id, 1)
    assert "failure_count" not in replayed
    orders.ack(replayed, "once").ok()
    orders.ack(dying[live_id], "once").ok()
