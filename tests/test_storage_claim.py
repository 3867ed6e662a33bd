"""Claiming and settling where it is hard: damage, many rows, many priorities."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockqueue.storage import (
    Ack,
    Delivery,
    Drop,
    Extend,
    Nack,
    Outcome,
    Release,
    Replay,
    State,
    Store,
    Subscriber,
    ValidationError,
    bucket_page,
    claim,
    expire,
    limits,
    settle,
    settle_in,
    subscriber,
    subscriber_statuses,
)
from blockqueue.storage._retries import retry_delay_ms

from .storage_checks import check_lanes, read_runs
from .storage_helpers import Queue, damage_block, handles, lose_block, open_queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue with one subscriber that fails for good at the third time."""
    made = open_queue(tmp_path, Subscriber("worker", max_attempts=3, retry_jitter=0))
    yield made
    made.store.close()


def bodies(deliveries: list[Delivery]) -> list[object]:
    return [each.body for each in deliveries]


@pytest.mark.parametrize("harm", [damage_block, lose_block])
@pytest.mark.parametrize("delay_ms", [0, 500])
def test_a_damaged_block_goes_to_the_dead_letters_and_the_rest_is_delivered(
    queue: Queue,
    harm: Callable[[Store, int], None],
    delay_ms: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Fresh or delayed, damaged or gone: an operator sees which block it was, once."""
    for letter in "abc":
        queue.publish([f"{letter}{index}" for index in range(10)], delay_ms=delay_ms)
    queue.clock.advance(1_000)
    harm(queue.store, 10)

    taken = claim(queue.store, queue.subscriber_id, 25)

    assert bodies(taken) == [f"{letter}{index}" for letter in "ac" for index in range(10)]
    with queue.store.reading() as snapshot:
        status = subscriber_statuses(snapshot, queue.topic.id)[0]
        assert (status.waiting, status.leased, status.dead) == (0, 20, 10)
        found = subscriber(snapshot, queue.subscriber_id)
        dead = bucket_page(snapshot, found, 0, State.DEAD)
        check_lanes(snapshot, queue.subscriber_id)
    assert [entry.handle.seq for entry in dead] == list(range(19, 9, -1))
    assert {entry.body for entry in dead} == {None}
    assert all("block topic=1 priority=0" in (entry.reason or "") for entry in dead)
    assert len(caplog.records) == 1


def test_an_operator_can_drop_what_is_damaged(queue: Queue) -> None:
    """By what the list of dead letters shows, although nobody can read the tag."""
    queue.publish(["a"])
    damage_block(queue.store, 0)
    assert claim(queue.store, queue.subscriber_id, 1) == []
    with queue.store.reading() as snapshot:
        found = subscriber(snapshot, queue.subscriber_id)
        dead = bucket_page(snapshot, found, 0, State.DEAD)

    settled = settle(queue.store, queue.subscriber_id, Drop(), [each.handle for each in dead])

    assert [each.state for each in settled] == [State.CANCELLED]


def test_a_replayed_message_of_a_damaged_block_dies_again(queue: Queue) -> None:
    """It does not block those behind it, nor is it handed out empty."""
    queue.publish(["a", "b"])
    queue.publish(["c"])
    damage_block(queue.store, 0)
    assert bodies(claim(queue.store, queue.subscriber_id, 10)) == ["c"]
    with queue.store.reading() as snapshot:
        found = subscriber(snapshot, queue.subscriber_id)
        dead = bucket_page(snapshot, found, 0, State.DEAD)

    settle(queue.store, queue.subscriber_id, Replay(), [each.handle for each in dead])

    assert claim(queue.store, queue.subscriber_id, 10) == []
    with queue.store.reading() as snapshot:
        assert subscriber_statuses(snapshot, queue.topic.id)[0].dead == 2


def test_acks_one_by_one_in_any_order_leave_one_row(queue: Queue) -> None:
    """10,000 of them: rows are for exceptions, and done is none."""
    for _ in range(10):
        queue.publish([""] * 1_000)
    taken = [each for _ in range(10) for each in claim(queue.store, queue.subscriber_id, 1_000)]
    random.Random(7).shuffle(taken)

    rows_max = 0
    for first in range(0, len(taken), 250):
        with queue.store.transaction() as tx:
            for delivery in taken[first : first + 250]:
                done = settle_in(tx, queue.subscriber_id, Ack(), handles([delivery]))
                assert done[0].outcome == Outcome.DONE
        rows_max = max(rows_max, queue.count("delivery"))

    assert rows_max <= 5_010
    with queue.store.reading() as snapshot:
        (run,) = read_runs(snapshot, queue.subscriber_id)
    assert (run.first_seq, run.count, run.state) == (0, 10_000, State.PROCESSED)


def test_a_claim_takes_from_fifty_priorities_in_order(queue: Queue) -> None:
    """The highest first, however few each holds, and never more than the limit."""
    priorities = random.Random(7).sample(range(-1_000, 1_001), 50)
    for priority in priorities:
        queue.publish([f"{priority} one", f"{priority} two"], priority)

    taken = claim(queue.store, queue.subscriber_id, 75)
    rest = claim(queue.store, queue.subscriber_id, 75)

    expected = [f"{each} {n}" for each in sorted(priorities, reverse=True) for n in ("one", "two")]
    assert bodies(taken) == expected[:75]
    assert bodies(rest) == expected[75:]


def test_a_batch_claimed_and_acked_at_once_is_one_row_all_along(queue: Queue) -> None:
    """What makes it fast."""
    queue.publish([""] * 1_000)

    taken = claim(queue.store, queue.subscriber_id, 1_000)

    assert queue.count("delivery") == 1
    settle(queue.store, queue.subscriber_id, Ack(), handles(taken))
    assert queue.count("delivery") == 1


def test_a_failure_of_a_batch_stays_one_row(queue: Queue) -> None:
    """Its messages share one delay, so that a failure does not tear the run apart."""
    queue.publish([""] * 1_000)
    settle(
        queue.store,
        queue.subscriber_id,
        Nack(error="no"),
        handles(claim(queue.store, queue.subscriber_id, 1_000)),
    )

    assert queue.count("delivery") == 1


def test_a_retry_comes_before_what_was_published_at_its_time(queue: Queue) -> None:
    """Visible at the same moment, the older one goes first."""
    queue.publish(["old"])
    held = claim(queue.store, queue.subscriber_id, 1)
    settle(queue.store, queue.subscriber_id, Nack(delay_ms=100), handles(held))
    queue.clock.advance(99)
    queue.publish(["just before"])
    queue.clock.advance(1)
    queue.publish(["at the same time"])

    taken = claim(queue.store, queue.subscriber_id, 10)

    assert bodies(taken) == ["just before", "old", "at the same time"]


def test_a_released_message_comes_back_to_the_front_uncounted(queue: Queue) -> None:
    """Nobody saw it; only its old receipt is worth nothing any more."""
    queue.publish(["first", "second"])
    held = claim(queue.store, queue.subscriber_id, 1)
    settle(queue.store, queue.subscriber_id, Release(), handles(held))

    taken = claim(queue.store, queue.subscriber_id, 2)

    assert bodies(taken) == ["first", "second"]
    assert [each.delivery_count for each in taken] == [1, 1]
    late = settle(queue.store, queue.subscriber_id, Ack(), handles(held))
    assert [each.outcome for each in late] == [Outcome.LOST]


def test_a_lease_is_over_when_its_time_has_come_swept_or_not(queue: Queue) -> None:
    """Valid at the last millisecond, lost at the next."""
    queue.publish(["a", "b"])
    one, other = claim(queue.store, queue.subscriber_id, 2, 100)
    queue.clock.advance(99)
    assert settle(queue.store, queue.subscriber_id, Ack(), handles([one]))[0].outcome == (
        Outcome.DONE
    )
    queue.clock.advance(1)
    assert settle(queue.store, queue.subscriber_id, Ack(), handles([other]))[0].outcome == (
        Outcome.LOST
    )


def test_no_extension_makes_a_lease_longer_than_twelve_hours(queue: Queue) -> None:
    """From now on, not from the claim on."""
    queue.publish(["a"])
    held = claim(queue.store, queue.subscriber_id, 1, 11 * 3_600_000)

    settled = settle(queue.store, queue.subscriber_id, Extend(12 * 3_600_000), handles(held))

    assert settled[0].due_ms == queue.clock.now_ms() + limits.LEASE_MS_MAX


def test_the_last_failure_allowed_leads_to_the_dead_letters(queue: Queue) -> None:
    """Nacks and leases that ran out count alike; the last reason stays."""
    queue.publish(["a"])
    held = claim(queue.store, queue.subscriber_id, 1)
    settle(queue.store, queue.subscriber_id, Nack(delay_ms=1, error="no"), handles(held))
    for _ in range(2):
        queue.clock.advance(10_000)
        assert len(claim(queue.store, queue.subscriber_id, 1, 10)) == 1
        queue.clock.advance(10)
        assert expire(queue.store) == [queue.subscriber_id]

    with queue.store.reading() as snapshot:
        (run,) = read_runs(snapshot, queue.subscriber_id)
    assert (run.state, run.failure_count, run.delivery_count) == (State.DEAD, 3, 3)
    assert run.reason == "lease expired"


@pytest.mark.parametrize("limit", [0, 1_001, True])
def test_a_limit_out_of_range_is_refused(queue: Queue, limit: int) -> None:
    """The text names what is allowed."""
    with pytest.raises(ValidationError, match="from 1 to 1000"):
        claim(queue.store, queue.subscriber_id, limit)


@given(
    initial=st.integers(0, 10**9),
    extra=st.integers(0, 10**9),
    multiplier=st.floats(1, 1e6),
    jitter=st.floats(0, 1),
    first_seq=st.integers(0, 2**44 - 1),
    failures=st.integers(1, 2**31 - 1),
)
def test_a_delay_lies_within_its_jitter_and_never_over_the_maximum(
    initial: int, extra: int, multiplier: float, jitter: float, first_seq: int, failures: int
) -> None:
    """Whatever the policy and however often it failed; and the same one each time."""
    options = Subscriber(
        "worker",
        retry_initial_ms=initial,
        retry_max_ms=initial + extra,
        retry_multiplier=multiplier,
        retry_jitter=jitter,
        id=3,
    )
    try:
        base = min(initial * multiplier ** (failures - 1), initial + extra)
    except OverflowError:
        base = initial + extra if initial else 0

    delay_ms = retry_delay_ms(options, first_seq, failures)

    assert 0 <= delay_ms <= options.retry_max_ms
    assert base * (1 - jitter) - 1 <= delay_ms <= base * (1 + jitter) + 1
    assert delay_ms == retry_delay_ms(options, first_seq, failures)


def test_jitter_spreads_the_retries_of_different_batches() -> None:
    """Or all would come back at the same moment."""
    options = Subscriber("worker", retry_initial_ms=1_000, retry_jitter=0.2, id=3)

    delays = [retry_delay_ms(options, first_seq, 1) for first_seq in range(1_000)]

    assert 800 <= min(delays) < 820
    assert 1_180 < max(delays) <= 1_200
    assert len(set(delays)) > 300
