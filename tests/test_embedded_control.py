"""The embedded face: idempotency keys, scheduled messages, cancelling, looking, replaying."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from blockqueue import (
    BlockQueue,
    DeliveryNotFound,
    Finished,
    IdempotencyConflict,
    LeaseLost,
    ManualClock,
    Message,
    MessageNotFound,
    State,
    ValidationError,
)

from .embedded_helpers import MINUTE_MS, claim, counts, together


def keyed(key: str = "k", payload: str = "a", **options: Any) -> Message:
    """Return a message with an idempotency key."""
    return Message(payload, idempotency_key=key, **options)


# Idempotency keys.


def test_a_publish_repeated_with_its_key_writes_nothing(queue: BlockQueue) -> None:
    """It returns the first one's id, and says so."""
    first = queue.publish("cart", "a", idempotency_key="k", delay="5m")
    again = queue.publish("cart", "a", idempotency_key="k", delay="300s")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.id, again.scheduled_at) == (first.id, first.scheduled_at)
    assert counts(queue) == (1, 0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"payload": "b"},
        {"payload": b"a"},
        {"headers": {"a": "b"}},
        {"correlation_id": "c"},
        {"priority": 1},
        {"delay": "6m"},
        {"delay": None},
        {"delay": None, "schedule_at": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_key_is_good_for_one_message_only(queue: BlockQueue, other: dict[str, Any]) -> None:
    """Whatever is different; and then nothing of the call is written."""
    queue.publish_many("cart", [keyed(delay="5m")])
    different = keyed(**({"delay": "5m"} | other))
    with pytest.raises(IdempotencyConflict, match="'k'"):
        queue.publish_many("cart", ["x", keyed("new"), different])
    assert counts(queue) == (1, 0, 0)
    assert not queue.publish_many("cart", [keyed("new")])[0].duplicate


def test_no_delay_and_a_delay_of_nothing_are_different_requests(queue: BlockQueue) -> None:
    """Though both are visible at once."""
    queue.publish_many("cart", [keyed(delay=0)])
    with pytest.raises(IdempotencyConflict):
        queue.publish_many("cart", [keyed()])


def test_an_instant_is_the_same_in_any_zone(queue: BlockQueue) -> None:
    """And is told as the queue's time."""
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)
    first = queue.publish("cart", "a", idempotency_key="k", schedule_at=at)
    elsewhere = at.astimezone(timezone(timedelta(hours=7)))
    again = queue.publish("cart", "a", idempotency_key="k", schedule_at=elsewhere)
    assert again.id == first.id
    assert again.scheduled_at == at


def test_a_key_twice_in_one_call(queue: BlockQueue) -> None:
    """The same message: the second is a duplicate. Another one: a mistake."""
    first, other, second = queue.publish_many("cart", [keyed(), "b", keyed()])
    assert (first.id, first.duplicate, second.duplicate) == (second.id, False, True)
    assert other.id != first.id
    with pytest.raises(ValidationError, match="twice"):
        queue.publish_many("cart", [keyed("n", "a"), keyed("n", "b")])
    assert [each.message for each in claim(queue)] == ["a", "b"]


def test_publishers_that_race_with_one_key_write_one_message(queue: BlockQueue) -> None:
    """Whether or not one commit serves them all; a conflict spoils nobody else's publish."""

    def publish(number: int) -> str:
        try:
            return queue.publish("cart", str(number % 2), idempotency_key="k").id
        except IdempotencyConflict:
            return "refused"

    ids = together(16, publish)
    assert len(set(ids)) == 2
    assert 1 <= ids.count("refused") <= 15
    assert counts(queue) == (1, 0, 0)


def test_a_key_belongs_to_its_topic(queue: BlockQueue) -> None:
    """And goes with it."""
    queue.publish("cart", "a", idempotency_key="k")
    queue.create_topic("box", ["worker"])
    assert not queue.publish("box", "b", idempotency_key="k").duplicate
    queue.delete_topic("box")
    queue.create_topic("box", ["worker"])
    assert not queue.publish("box", "c", idempotency_key="k").duplicate


def test_a_key_of_many_large_messages(queue: BlockQueue) -> None:
    """They take several blocks, and each still has its own key."""
    messages = [keyed(str(number), "x" * 100_000) for number in range(12)]
    receipts = queue.publish_many("cart", messages)
    again = queue.publish_many("cart", [*messages[3:5], keyed("new"), messages[11]])
    assert [each.duplicate for each in again] == [True, True, False, True]
    assert [each.id for each in again[:2]] == [each.id for each in receipts[3:5]]
    assert again[3].id == receipts[11].id


@pytest.mark.parametrize("key", ["x" * 129, "é" * 65, 7, b"k", "\ud800"])
def test_a_key_that_is_no_key_is_refused(queue: BlockQueue, key: Any) -> None:
    """It is text of up to 128 bytes."""
    with pytest.raises(ValidationError):
        queue.publish("cart", "a", idempotency_key=key)


def test_an_empty_key_is_none(queue: BlockQueue) -> None:
    """So are an empty correlation id and no headers."""
    for _ in range(2):
        receipt = queue.publish("cart", "a", idempotency_key="", correlation_id="", headers={})
        assert not receipt.duplicate


# Scheduled messages.


def test_a_message_comes_at_the_time_on_the_wall(queue: BlockQueue, clock: ManualClock) -> None:
    """Even if that clock was set since the queue's own began."""
    clock.set_wall(clock.now_ms() + 3_600_000)
    at = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC) + timedelta(minutes=1)
    queue.publish("cart", "a", schedule_at=at)
    clock.advance(MINUTE_MS - 1)
    assert claim(queue) == []
    clock.advance(1)
    assert [each.message for each in claim(queue)] == ["a"]


def test_a_time_that_is_past_comes_first(queue: BlockQueue) -> None:
    """It is ordered by that time."""
    queue.publish("cart", "now")
    queue.publish("cart", "past", schedule_at=datetime(1999, 1, 1, tzinfo=UTC))
    assert [each.message for each in claim(queue)] == ["past", "now"]


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), "2030-01-01T00:00:00Z", 5])
def test_a_time_without_a_zone_is_refused(queue: BlockQueue, at: Any) -> None:
    """It could be anybody's."""
    with pytest.raises(ValidationError, match="zone"):
        queue.publish("cart", "a", schedule_at=at)


def test_a_delay_and_a_time_exclude_each_other(queue: BlockQueue) -> None:
    """Which one should it be?"""
    with pytest.raises(ValidationError, match="not both"):
        queue.publish("cart", "a", delay=1, schedule_at=datetime(2030, 1, 1, tzinfo=UTC))


# Cancelling.


def test_whoever_holds_the_lease_may_cancel(queue: BlockQueue, clock: ManualClock) -> None:
    """Again and again; but not once the lease is lost."""
    queue.publish_many("cart", ["a", "b"])
    first, second = claim(queue)
    first.cancel("no such order")
    first.cancel("again")
    with pytest.raises(LeaseLost):
        first.ack()
    clock.advance(24 * 60 * MINUTE_MS)
    with pytest.raises(LeaseLost):
        second.cancel()
    status = queue.message("cart", first.id).deliveries[0]
    assert (status.state, status.reason) == (State.CANCELLED, "no such order")


def test_an_operator_cancels_by_id(queue: BlockQueue) -> None:
    """What waits and what is leased, whose receipt dies; not what is done."""
    ids = [each.id for each in queue.publish_many("cart", ["a", "b", "c"])]
    first, second = claim(queue, 2)
    second.ack()
    queue.cancel("cart", "worker", [ids[0], ids[2]], reason="stop")
    queue.cancel("cart", "worker", [ids[0]], reason="later")
    with pytest.raises(LeaseLost):
        first.ack()
    with pytest.raises(Finished):
        queue.cancel("cart", "worker", [ids[1]])
    with pytest.raises(DeliveryNotFound):
        queue.cancel("cart", "worker", ["nonsense"])
    assert claim(queue) == []
    assert queue.message("cart", ids[0]).deliveries[0].reason == "stop"


def test_a_message_is_cancelled_for_all_that_have_not_finished_it(queue: BlockQueue) -> None:
    """And those that have are left as they are."""
    queue.add_subscribers("cart", ["other"])
    receipt = queue.publish("cart", "a")
    claim(queue)[0].ack()
    for _ in range(2):
        statuses = queue.cancel_message("cart", receipt.id, "stop")
        assert {each.subscriber: each.state for each in statuses} == {
            "other": State.CANCELLED,
            "worker": State.PROCESSED,
        }
    assert queue.claim("cart", "other") == []


# Looking.


def test_a_message_shows_what_has_become_of_it(queue: BlockQueue, clock: ManualClock) -> None:
    """For each subscriber that it was published to."""
    receipt = queue.publish("cart", "a", delay="1m", priority=3, idempotency_key="k")
    queue.add_subscribers("cart", ["late"])
    clock.advance(MINUTE_MS)
    claim(queue)[0].nack(error="boom")
    status = queue.message("cart", receipt.id)
    assert status.scheduled_ms == status.created_ms + MINUTE_MS
    (delivery,) = status.deliveries
    assert (delivery.state, delivery.delivery_count, delivery.failure_count) == (
        State.WAITING,
        1,
        1,
    )
    assert delivery.visible_ms == clock.now_ms() + 1000
    with pytest.raises(MessageNotFound):
        queue.message("cart", receipt.id[:-1] + "0" if receipt.id[-1] != "0" else "1")


def test_active_deliveries_are_listed_newest_first(queue: BlockQueue, clock: ManualClock) -> None:
    """Page by page; leased ones with their receipt."""
    for text in ("a", "b", "c", "d"):
        queue.publish("cart", text)
        clock.advance(1)
    first, second = claim(queue, 2)
    second.ack()
    found, after = [], None
    while True:
        page = queue.active_page("cart", "worker", 1, after)
        found += page.items
        if page.after is None:
            break
        after = page.after
    assert [each.body for each in found] == ["d", "c", "a"]
    assert [each.receipt_token for each in found] == [None, None, first.receipt_token]
    assert [each.state.status for each in found] == ["pending", "pending", "delivered"]


def test_errors_are_kept_over_a_replay(queue: BlockQueue, clock: ManualClock) -> None:
    """The latest first."""
    receipt = queue.publish("cart", "a")
    for number in range(6):
        (delivery,) = claim(queue)
        delivery.nack(delay=1, error=f"error {number}")
        clock.advance(1000)
        if number == 2:
            assert queue.dead_page("cart", "worker").items[0].message_id == receipt.id
            assert queue.replay("cart", "worker") == 1
    failures = queue.failure_page("cart", "worker", receipt.id).items
    assert [each.error for each in failures] == [f"error {number}" for number in range(5, -1, -1)]
    assert [each.failure_count for each in failures] == [3, 2, 1, 3, 2, 1]
    assert len({each.id for each in failures}) == 6


def test_chosen_dead_letters_are_replayed(queue: BlockQueue) -> None:
    """Those alone, and each once; what is not dead is left alone."""
    ids = [each.id for each in queue.publish_many("cart", ["a", "b", "c"])]
    for _ in range(3):
        queue.nack("cart", "worker", claim(queue, 2), delay="1ms")
        queue.bucket("cart", "worker").replay(
            list(queue.bucket("cart", "worker").entries([State.WAITING]))
        )
    assert counts(queue) == (1, 0, 2)
    assert queue.replay("cart", "worker", [ids[0], ids[0], ids[2], "nonsense"]) == 1
    assert counts(queue) == (2, 0, 1)
    assert queue.replay("cart", "worker") == 1
