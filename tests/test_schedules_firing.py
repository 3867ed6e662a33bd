"""Schedules in the storage: what is due fires once."""

from __future__ import annotations

import pytest

from blockqueue.storage import (
    Ack,
    Envelope,
    Subscriber,
    add_subscribers,
    claim,
    delete_subscriber,
    fire_schedules,
    fire_schedules_in,
    next_schedule_ms,
    pause_schedule,
    pause_topic,
    settle,
    update_schedule,
)

from .schedule_helpers import (
    MINUTE_MS,
    START_MS,
    consume,
    make,
    now,
    plan,
    queue,
    runs,
    told,
)
from .storage_helpers import Queue, handles, rolled_back

__all__ = ["queue"]


def test_what_is_due_is_published_with_its_key(queue: Queue) -> None:
    """Once, and the next time is the next minute."""
    made = make(queue)
    assert made.next_run_ms == START_MS + MINUTE_MS
    queue.clock.advance(MINUTE_MS - 1)
    assert fire_schedules(queue.store) == 0
    queue.clock.advance(1)

    assert fire_schedules(queue.store) == 1
    assert fire_schedules(queue.store) == 0

    (run,) = runs(queue, made)
    (taken,) = claim(queue.store, queue.subscriber_id, 10)
    key = f"{made.uid}:2023-11-14T22:15:00Z"
    assert taken.body == Envelope("tick", {"a": "b"}, "c", key)
    assert (taken.priority, taken.message_id) == (0, run.message_id)
    assert (run.status, run.schedule_uid, run.error) == ("running", made.uid, None)
    assert run.scheduled_ms == run.started_ms == run.created_ms == made.next_run_ms
    assert run.finished_ms is None
    found = now(queue, made)
    assert (found.next_run_ms, found.version) == (START_MS + 2 * MINUTE_MS, 1)


def test_missed_times_are_one_run_for_the_earliest(queue: Queue) -> None:
    """Then it goes on with the next time that is to come."""
    made = make(queue)
    queue.clock.advance(5 * MINUTE_MS + 10_000)

    assert fire_schedules(queue.store) == 1

    assert told(queue, made) == [(1, "running")]
    assert now(queue, made).next_run_ms == START_MS + 6 * MINUTE_MS


def test_all_that_is_due_fires_the_longest_due_first(queue: Queue) -> None:
    """In steps of a limit."""
    late, early = make(queue, "late", "5 * * * *"), make(queue, "early", "3 * * * *")
    assert early.next_run_ms < late.next_run_ms
    made = [make(queue, f"{number}") for number in range(5)]
    queue.clock.advance(60 * MINUTE_MS)

    assert fire_schedules(queue.store, 5) == 5

    assert [told(queue, each)[0][0] for each in made] == [1] * 5
    assert told(queue, early) == told(queue, late) == []
    fired = 0
    while count := fire_schedules(queue.store, 1):
        fired += count
    assert fired == 2
    assert runs(queue, early)[0].scheduled_ms == early.next_run_ms
    assert consume(queue) == 7


def test_a_run_is_skipped_while_the_one_before_is_active(queue: Queue) -> None:
    """Until its last delivery is finished."""
    made = make(queue)
    for _ in range(3):
        queue.clock.advance(MINUTE_MS)
        fire_schedules(queue.store)
    assert told(queue, made) == [(1, "running"), (2, "skipped"), (3, "skipped")]
    (skipped, _) = runs(queue, made)[1:]
    assert skipped.message_id is None
    assert skipped.finished_ms == START_MS + 2 * MINUTE_MS
    assert "previous run" in str(skipped.error)
    (taken,) = claim(queue.store, queue.subscriber_id, 10)
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)  # it is leased
    settle(queue.store, queue.subscriber_id, Ack(), handles([taken]))
    queue.clock.advance(MINUTE_MS)

    fire_schedules(queue.store)

    assert told(queue, made)[3:] == [(4, "skipped"), (5, "running")]
    assert consume(queue) == 1


def test_without_a_subscriber_the_run_has_failed_and_the_schedule_goes_on(queue: Queue) -> None:
    """The next one is published to whoever has come."""
    made = make(queue)
    delete_subscriber(queue.store, queue.subscriber_id)
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    add_subscribers(queue.store, queue.topic.id, [Subscriber("new")])
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    assert told(queue, made) == [(1, "failed"), (2, "running")]
    assert "no subscriber" in str(runs(queue, made)[0].error)


def test_a_paused_schedule_waits_and_a_paused_topic_does_not(queue: Queue) -> None:
    """A resumed schedule makes up for what it missed with one run."""
    made = make(queue)
    pause_topic(queue.store, queue.topic.id, True)
    queue.clock.advance(MINUTE_MS)
    assert fire_schedules(queue.store) == 1
    pause_topic(queue.store, queue.topic.id, False)
    assert consume(queue) == 1
    pause_schedule(queue.store, queue.topic.id, made.uid, True)
    queue.clock.advance(5 * MINUTE_MS)
    assert fire_schedules(queue.store) == 0
    with queue.store.reading() as snapshot:
        assert next_schedule_ms(snapshot) is None
    pause_schedule(queue.store, queue.topic.id, made.uid, False)

    assert fire_schedules(queue.store) == 1

    assert told(queue, made) == [(1, "completed"), (2, "running")]
    assert now(queue, made).next_run_ms == START_MS + 7 * MINUTE_MS


def test_the_wall_clock_decides_and_not_the_queues(queue: Queue) -> None:
    """Set forward, what it passes over is due; set back, nothing fires a second time."""
    made = make(queue)
    queue.clock.set_wall(START_MS + 3 * MINUTE_MS)
    assert fire_schedules(queue.store) == 1
    consume(queue)
    queue.clock.set_wall(START_MS)
    assert fire_schedules(queue.store) == 0
    # Reckoned anew, it comes to a time that has had its run.
    update_schedule(queue.store, queue.topic.id, made.uid, plan(), 1)
    queue.clock.advance(MINUTE_MS)
    assert fire_schedules(queue.store) == 1
    assert told(queue, made) == [(1, "completed")]
    assert now(queue, made).next_run_ms == START_MS + 2 * MINUTE_MS


def test_what_was_rolled_back_fires_again(queue: Queue) -> None:
    """Message, run and next time are one: the others never see a part of it."""
    made = make(queue)
    queue.clock.advance(MINUTE_MS)
    with rolled_back(queue.store) as tx:
        assert fire_schedules_in(tx) == 1
        assert tx.row("SELECT count(*) FROM schedule_run") == (1,)
    assert (queue.count("schedule_run"), queue.count("block")) == (0, 0)

    assert fire_schedules(queue.store) == 1

    assert told(queue, made) == [(1, "running")]
    assert consume(queue) == 1


def test_one_that_is_never_due_again_is_paused(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """So is one whose zone this machine does not know; it says so, and the others fire."""
    leap = make(queue, "leap", "0 0 29 2 *")
    lost = make(queue, "lost")
    with queue.store.transaction() as tx:
        tx.change("UPDATE schedule SET timezone = 'Mars/Olympus' WHERE id = ?", (lost.id,))
    queue.clock.advance(leap.next_run_ms - START_MS)
    queue.clock.set_wall(3_981_312_000_000)  # 29 February 2096; the next is eight years later
    other = make(queue, "other")
    queue.clock.set_wall(3_981_312_060_000)

    assert fire_schedules(queue.store) == 3

    assert [now(queue, each).paused for each in (leap, lost, other)] == [True, True, False]
    assert [run.status for each in (leap, lost, other) for run in runs(queue, each)] == [
        *["running"] * 3
    ]
    assert "Mars/Olympus" in caplog.text
    assert "not due again" in caplog.text
    assert fire_schedules(queue.store) == 0
