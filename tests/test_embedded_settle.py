"""The embedded face: settling, the retry bucket and the dead letters."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    BlockQueue,
    LeaseLost,
    ManualClock,
    State,
    Subscriber,
    ValidationError,
)

from .embedded_helpers import (
    MINUTE_MS,
    WAIT_S,
    at,
    background,
    claim,
    counts,
    eventually,
    open_queue,
)

HOUR_MS = 60 * MINUTE_MS


def test_what_is_acked_never_comes_back(queue: BlockQueue, clock: ManualClock) -> None:
    """And acking it again is fine."""
    queue.publish_many("cart", ["a", "b"])
    first, second = claim(queue)
    first.ack()
    queue.ack("cart", "worker", [first, second])
    queue.ack("cart", "worker", [first, first])
    clock.advance(24 * HOUR_MS)
    assert claim(queue) == []
    assert counts(queue) == (0, 0, 0)


def test_an_id_and_its_token_settle_from_anywhere(queue: BlockQueue) -> None:
    """As text that was kept, or sent to another process; mixed with deliveries too."""
    queue.publish_many("cart", ["a", "b", "c"])
    first, second, third = claim(queue)
    queue.ack("cart", "worker", [first, (second.id, second.receipt_token), third])
    assert queue.subscribers("cart")[0].leased == 0


@pytest.mark.parametrize("token", [None, 1, True, b"x", ("a",)])
def test_a_token_that_is_not_text_is_refused(queue: BlockQueue, token: Any) -> None:
    """Least of all may it pass for the claim's number."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="receipt token"):
        queue.ack("cart", "worker", [(delivery.id, token)])
    assert queue.subscribers("cart")[0].leased == 1


def test_a_wrong_id_or_token_settles_nothing(queue: BlockQueue) -> None:
    """Nor does the right token of another message."""
    queue.publish_many("cart", ["a", "b"])
    first, second = claim(queue)
    with pytest.raises(ValidationError, match="is not a message id"):
        queue.ack("cart", "worker", [("nonsense", first.receipt_token)])
    for token in ("", "nonsense", "\ud800", second.receipt_token):
        with pytest.raises(LeaseLost):
            queue.ack("cart", "worker", [(first.id, token)])
    assert queue.subscribers("cart")[0].leased == 2


def test_a_stale_delivery_is_reported_and_the_others_are_done(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """``lost`` names it."""
    queue.publish_many("cart", ["a", "b"])
    (stale,) = claim(queue, 1, lease="1s")
    (good,) = claim(queue, 1, lease="1h")
    clock.advance(10_000)
    with pytest.raises(LeaseLost, match="1 of 2 leases had ended") as caught:
        queue.ack("cart", "worker", [stale, good])
    assert caught.value.lost == (stale.id,)
    eventually(lambda: counts(queue) == (1, 0, 0))  # the sweeper has seen that it ran out
    clock.advance(10_000)
    (again,) = claim(queue)
    assert again.id == stale.id
    with pytest.raises(LeaseLost):
        stale.ack()
    again.ack()


def test_a_delivery_settles_nobody_elses_lease(queue: BlockQueue, tmp_path: Path) -> None:
    """Not another subscriber's, not that of a topic made anew, not that of another queue."""
    queue.add_subscribers("cart", ["other"])
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    (others,) = queue.claim("cart", "other")
    with pytest.raises(LeaseLost):
        queue.ack("cart", "other", [delivery])
    with open_queue(make_folder(tmp_path)) as (second, _):
        second.publish("cart", "a")
        (theirs,) = claim(second)
        with pytest.raises(LeaseLost):
            second.ack("cart", "worker", [delivery])
        theirs.ack()
    others.ack()
    queue.delete_topic("cart")
    queue.create_topic("cart", ["worker"])
    queue.publish("cart", "b")
    (new,) = claim(queue)
    with pytest.raises(LeaseLost):
        delivery.ack()
    new.ack()


def make_folder(directory: Path) -> Path:
    """Make a folder for a second queue."""
    folder = directory / "second"
    folder.mkdir()
    return folder


def test_extending_moves_the_end_of_the_lease(queue: BlockQueue, clock: ManualClock) -> None:
    """From where it was, at most until 12 hours from now; also if others were lost."""
    queue.publish_many("cart", ["a", "b"])
    (stale,) = claim(queue, 1, lease="1s")
    (delivery,) = claim(queue, 1, lease="1m")
    start_ms = clock.now_ms()
    delivery.extend("1m")
    assert delivery.lease_expires_at == at(start_ms + 2 * MINUTE_MS)
    clock.advance(MINUTE_MS + 1)
    with pytest.raises(LeaseLost):
        queue.extend("cart", "worker", [stale, delivery], by=timedelta(minutes=1))
    assert delivery.lease_expires_at == at(start_ms + 3 * MINUTE_MS)
    assert stale.lease_expires_at == at(start_ms + 1_000)
    delivery.extend("12h")
    assert delivery.lease_expires_at == at(clock.now_ms() + 12 * HOUR_MS)
    delivery.ack()


def test_a_snooze_gives_back_without_a_failure(queue: BlockQueue, clock: ManualClock) -> None:
    """However often, it never leads to the dead letters."""
    queue.publish("cart", "a")
    for turn in range(10):
        (delivery,) = claim(queue)
        assert (delivery.delivery_count, delivery.failure_count) == (turn + 1, 0)
        delivery.snooze("10s")
        clock.advance(9_999)
        assert claim(queue) == []
        clock.advance(1)


def test_a_nack_counts_a_failure_and_comes_back_after_its_delay(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """Or after the policy's; the last one goes to the dead letters with its reason."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    delivery.nack(delay="10s", error="first")
    clock.advance(9_999)
    assert claim(queue) == []
    clock.advance(1)
    (delivery,) = claim(queue)
    assert delivery.failure_count == 1
    delivery.nack(error="second")  # the second retry: 1s × 2
    clock.advance(1_999)
    assert claim(queue) == []
    clock.advance(1)
    (delivery,) = claim(queue)
    delivery.nack(error="third")
    assert counts(queue) == (0, 0, 1)
    (entry,) = queue.bucket("cart", "worker").entries()
    assert (entry.state, entry.reason, entry.failure_count) == (State.DEAD, "third", 3)


@pytest.mark.parametrize("error", [None, 7, b"bytes", ValueError("x")])
def test_a_nacks_reason_must_be_text(queue: BlockQueue, error: Any) -> None:
    """It is refused where it concerns nobody else."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="error must be text"):
        delivery.nack(error=error)
    delivery.nack(error="\ud800\0" + "x" * 100_000)


def test_one_settlement_has_at_most_1000_deliveries(queue: BlockQueue) -> None:
    """As a claim. None is fine, as a claim may find none."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="number of deliveries"):
        queue.ack("cart", "worker", [delivery] * 1_001)
    queue.ack("cart", "worker", [])
    assert counts(queue) == (0, 1, 0)
    queue.ack("cart", "worker", [delivery] * 1_000)
    assert counts(queue) == (0, 0, 0)


# The bucket.


def test_the_bucket_lists_newest_first_and_replays_and_drops(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """What waits for a retry, and what has failed for good."""
    queue.add_subscribers("cart", [Subscriber("once", max_attempts=1)])
    for text in ("a", "b", "c", "d"):
        queue.publish("cart", text, priority=ord(text) % 2)
        clock.advance(1_000)
    queue.nack("cart", "once", queue.claim("cart", "once"), error="broken")
    bucket = queue.bucket("cart", "once")
    entries = list(bucket.entries())
    created = [entry.created_ms or 0 for entry in entries]
    assert len(entries) == 4
    assert created == sorted(created, reverse=True)
    assert {entry.reason for entry in entries} == {"broken"}
    assert list(bucket.entries([State.WAITING])) == []

    assert bucket.replay(entries[:1]) == 1
    assert bucket.drop(entries[1:3]) == 2
    assert bucket.drop(entries[:3]) == 1  # the one that waits again now; the others are gone
    assert [entry.handle for entry in bucket.entries()] == [entries[3].handle]
    assert bucket.replay(entries[3:]) == 1
    (again,) = queue.claim("cart", "once")
    assert (again.message, again.delivery_count, again.failure_count) == ("a", 1, 0)
    assert bucket.replay(entries) == 0


def test_a_replay_reaches_who_waits(queue: BlockQueue) -> None:
    """At once."""
    queue.publish("cart", "a")
    claim(queue)[0].nack(delay="10h")
    waiting = background(lambda: claim(queue, wait=3600))
    bucket = queue.bucket("cart", "worker")
    assert bucket.replay(list(bucket.entries())) == 1
    (delivery,) = waiting.result(WAIT_S)
    assert delivery.message == "a"
