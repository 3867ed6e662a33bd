"""What a drop-in for ``/v1`` must pass: leases, failures, dead letters and cancels."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .http_server import serving, until
from .v1_client import ROUNDING_S, Client, Json, Topic, item, ms, v1_client

_HOUR_MS = 3_600_000
_MARK = "…[truncated]"
_NO_WAIT = {"initial_delay": "1ms", "max_delay": "1ms"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, not made yet."""
    return client.fresh_topic()


def counts(delivery: Json) -> tuple[int, int]:
    """Return how often it was delivered, and how often it has failed."""
    return delivery.get("delivery_count", 0), delivery.get("failure_count", 0)


def test_e09_an_expired_lease_has_lost_its_receipt(orders: Topic) -> None:
    """The next claim has another one, and only that acks."""
    orders.create(retry_policy=_NO_WAIT)
    orders.publish()
    first = orders.claim_one(lease="40ms")

    second = orders.claim_one(timeout="30s")

    assert second["id"] == first["id"]
    assert second["receipt_token"] != first["receipt_token"]
    assert counts(second) == (2, 1)
    orders.ack(first).check_conflict()
    assert orders.ack(second).ok() == {"status": "processed"}


@pytest.mark.parametrize(
    ("max_attempts", "status"), [(1, "dead_letter"), (0, "pending"), (3, "pending")]
)
def test_e10_leases_expire_without_a_claim(orders: Topic, max_attempts: int, status: str) -> None:
    """The last failure allowed makes a dead letter within 3 s."""
    policy = {"initial_delay": "1h", "max_delay": "1h"}
    orders.create(max_attempts=max_attempts, retry_policy=policy)
    message_id = orders.publish()
    orders.claim_one(lease="25ms")

    until(lambda: orders.delivery(message_id)["status"] != "delivered", "it has expired", 3.0 * 5)

    assert orders.delivery(message_id)["status"] == status
    (listed,) = orders.dead() if status == "dead_letter" else orders.active()
    assert (listed["id"], counts(listed)) == (message_id, (1, 1))
    (error,) = orders.errors(message_id)
    assert error["failure_count"] == 1


def test_e11_a_nack_may_say_when_to_retry(orders: Topic) -> None:
    """Not before, and the history has its error."""
    orders.create()
    message_id = orders.publish()
    claimed = orders.claim_one()
    started = time.monotonic()

    nacked = orders.nack(claimed, retry_delay="1s", error="boom").ok()

    assert nacked == {"status": "pending"}
    assert orders.has_nothing_for()
    (waiting,) = orders.active()
    assert (waiting["status"], counts(waiting)) == ("pending", (1, 1))
    (error,) = orders.errors(message_id)
    assert (error["error"], error["failure_count"]) == ("boom", 1)
    assert ms(waiting["visible_at"]) - ms(error["failed_at"]) == 1000
    again = orders.claim_one()
    assert time.monotonic() - started >= 1 - ROUNDING_S
    assert counts(again) == (2, 1)
    orders.nack(again, retry_delay="80ms").ok()
    assert counts(orders.claim_one()) == (3, 2)


@pytest.mark.parametrize(("disable_jitter", "least_ms"), [(False, 160), (True, 200)])
def test_e12_without_a_delay_the_policy_decides(
    orders: Topic, disable_jitter: bool, least_ms: int
) -> None:
    """With jitter a little less, never more than its maximum."""
    policy = {
        "initial_delay": "200ms",
        "max_delay": "200ms",
        "jitter": 0.2,
        "disable_jitter": disable_jitter,
    }
    orders.create(retry_policy=policy, max_attempts=100)
    for number in range(10):
        message_id = orders.publish(str(number))
        delivery = orders.claim_one()

        orders.nack(delivery).ok()

        (error,) = orders.errors(message_id)
        waited = ms(orders.delivery(message_id)["visible_at"]) - ms(error["failed_at"])
        assert least_ms - 1 <= waited <= 200
        orders.ack(orders.claim_one()).ok()


def fail(orders: Topic, times: int) -> None:
    """Claim and nack the only message."""
    for _ in range(times):
        orders.nack(orders.claim_one(), retry_delay="1ms", error="no").ok()


def test_e13_a_dead_letter_can_be_replayed(orders: Topic) -> None:
    """It starts anew but keeps its history; what is alive cannot be replayed."""
    orders.create(max_attempts=2)
    message_id = orders.publish()
    fail(orders, 2)
    (dead,) = orders.dead()
    assert (dead["id"], dead["status"], counts(dead)) == (message_id, "dead_letter", (2, 2))
    assert orders.counters() == (0, 0)

    (replayed,) = orders.replay(message_id).ok()

    assert replayed == {"message_id": message_id, "status": "pending"}
    (active,) = orders.active()
    assert (active["status"], counts(active)) == ("pending", (0, 0))
    (refused,) = orders.replay(message_id).ok()
    assert refused == {
        "message_id": message_id,
        "status": "failed",
        "error": "delivery not found",
    }
    fail(orders, 2)
    assert [each["id"] for each in orders.dead()] == [message_id]
    history = sorted(each["failure_count"] for each in orders.errors(message_id))
    assert history == [1, 1, 2, 2]


def test_e14_an_extension_adds_to_the_lease(orders: Topic) -> None:
    """Up to 12 hours from now."""
    orders.create()
    orders.publish()
    orders.try_claim(lease="13h").check_invalid()
    delivery = orders.claim_one(lease="1m")
    expires = ms(delivery["lease_expires_at"])
    assert abs(expires - 60_000 - time.time() * 1000) < 30_000

    extended = orders.lease(delivery, extension="1s").ok()

    assert ms(extended["lease_expires_at"]) == expires + 1000
    orders.lease(delivery, extension="11h").ok()
    before = time.time() * 1000
    longest = ms(orders.lease(delivery, extension="12h").ok()["lease_expires_at"])
    after = time.time() * 1000
    assert before - 1000 <= longest - 12 * _HOUR_MS <= after + 1000
    assert ms(orders.active()[0]["lease_expires_at"]) == longest
    orders.ack(delivery).ok()


def test_e15_a_snooze_is_no_failure(orders: Topic) -> None:
    """The lease ends, the receipt with it, and it comes again."""
    orders.create()
    orders.publish()
    first = orders.claim_one()

    snoozed = orders.snooze(first, "25ms").ok()

    assert snoozed["status"] == "pending"
    (waiting,) = orders.active()
    assert (waiting["status"], counts(waiting)) == ("pending", (1, 0))
    assert waiting["visible_at"] == snoozed["visible_at"]
    orders.ack(first).check_conflict()
    second = orders.claim_one()
    assert counts(second) == (2, 0)
    orders.ack(second).ok()


def test_e16_a_cancel_ends_a_delivery_for_good(orders: Topic) -> None:
    """With its lease; repeating it changes nothing, and what is processed stays so."""
    orders.create()
    cancelled = orders.publish()
    delivery = orders.claim_one()

    assert orders.cancel(cancelled, "sold out").ok() == {"status": "cancelled"}
    assert orders.cancel(cancelled, "another").ok() == {"status": "cancelled"}

    orders.ack(delivery).check_conflict()
    shown = orders.delivery(cancelled)
    assert (shown["status"], shown["cancel_reason"]) == ("cancelled", "sold out")
    assert shown["cancelled_at"] == shown["processed_at"]
    assert orders.has_nothing_for()
    processed = orders.publish()
    orders.ack(orders.claim_one()).ok()
    orders.cancel(processed, "too late").check_conflict()
    assert orders.delivery(processed)["status"] == "processed"


@pytest.mark.parametrize(("verb", "status"), [("ack", "processed"), ("nack", "pending")])
def test_e17_the_items_of_a_batch_are_independent(orders: Topic, verb: str, status: str) -> None:
    """A stale one fails, and its real receipt still acks."""
    orders.create()
    orders.publish("stale")
    stale = orders.claim_one()
    orders.snooze(stale, "").ok()
    real = orders.claim_one()
    orders.publish("good")
    good = orders.claim_one()

    results = orders.batch(verb, [item(good), item(stale)]).ok()

    assert results == [
        {"message_id": good["id"], "status": status},
        {"message_id": stale["id"], "status": "failed", "error": "delivery lease lost"},
    ]
    assert orders.delivery(good["id"])["status"] == status
    assert orders.delivery(real["id"])["status"] == "delivered"
    assert orders.ack(real).ok() == {"status": "processed"}


def test_e19_a_race_for_one_receipt_has_one_winner(orders: Topic) -> None:
    """The nack is the last one allowed, for a retry could still be cancelled without a receipt."""
    orders.create(max_attempts=1)
    ends = {"ack": "processed", "nack": "dead_letter", "cancel": "cancelled"}
    for number in range(30):
        message_id = orders.publish(str(number))
        receipt = {"receipt_token": orders.claim_one()["receipt_token"]}
        path = f"{orders.of()}/messages/{message_id}"
        verbs = list(ends)[number % 3 :] + list(ends)[: number % 3]
        race = {
            verb: orders.start(f"{path}/{verb}", None if verb == "cancel" else receipt)
            for verb in verbs
        }

        replies = {verb: pending.answer() for verb, pending in race.items()}

        (winner,) = [verb for verb, reply in replies.items() if reply.status == 200]
        for loser in replies.keys() - {winner}:
            replies[loser].check_conflict()
        assert orders.delivery(message_id)["status"] == ends[winner]


def check_cut(stored: str, text: str) -> None:
    """Assert that a text was cut as little as the limit asks for."""
    assert len(stored.encode()) <= 16_384
    assert stored.endswith(_MARK)
    kept = stored.removesuffix(_MARK)
    assert text.startswith(kept)
    assert len(kept.encode()) > 16_384 - len(_MARK.encode()) - 4


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_e27_long_texts_are_cut_between_characters(orders: Topic, before: str) -> None:
    """64 KiB of emoji become at most 16, with a mark at the end."""
    orders.create()
    text = before + "🎉" * (64 * 1024 // 4)
    failed, cancelled = orders.publish("failed"), orders.publish("cancelled")
    deliveries = {each["id"]: each for each in orders.claim(limit=2)}

    orders.nack(deliveries[failed], error=text).ok()
    orders.cancel(cancelled, text).ok()

    (error,) = orders.errors(failed)
    check_cut(error["error"], text)
    check_cut(orders.delivery(cancelled)["cancel_reason"], text)
