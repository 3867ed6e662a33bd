"""Schedules in the storage: how their runs begin and end, and what is kept of them."""

from __future__ import annotations

import itertools

import pytest

from blockqueue.storage import (
    Ack,
    Cancel,
    Envelope,
    Handle,
    Nack,
    NoSubscribers,
    Page,
    ScheduleRun,
    Subscriber,
    TopicNotFound,
    add_subscribers,
    claim,
    create_schedule,
    create_topic,
    delete_schedule,
    delete_subscriber,
    delete_topic,
    fire_schedules,
    look_at_runs,
    message_status,
    next_schedule_ms,
    pause_schedule,
    run_page,
    run_schedule_now,
    settle,
)

from .schedule_helpers import (
    DAY_MS,
    MINUTE_MS,
    START_MS,
    consume,
    finish_runs,
    make,
    now,
    plan,
    purge_runs,
    queue,
    runs,
    told,
)
from .storage_helpers import Queue, handles

__all__ = ["queue"]


# The end of a run.


@pytest.mark.parametrize("end", ["ack", "dead", "cancel", "unsubscribe"])
def test_a_run_is_done_when_the_last_delivery_is(queue: Queue, end: str) -> None:
    """However it ends, and whether others came later."""
    add_subscribers(queue.store, queue.topic.id, [Subscriber("second", max_attempts=1)])
    with queue.store.reading() as snapshot:
        second = snapshot.rows("SELECT max(id) FROM subscriber")[0][0]
    made = make(queue)
    queue.publish(["before"])
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    queue.publish(["after"])
    add_subscribers(queue.store, queue.topic.id, [Subscriber("late")])
    assert consume(queue) == 3
    assert told(queue, made) == [(1, "running")]
    taken = handles(claim(queue.store, second, 10))[1:2]
    assert told(queue, made) == [(1, "running")]
    if end == "ack":
        settle(queue.store, second, Ack(), taken)
    elif end == "dead":
        settle(queue.store, second, Nack(None, "no"), taken)
    elif end == "cancel":
        (handle,) = taken
        named = Handle(handle.priority, handle.seq, handle.tag)
        settle(queue.store, second, Cancel(), [named])
    else:
        delete_subscriber(queue.store, second)
    queue.clock.advance(1)
    (run,) = runs(queue, made)
    assert (run.status, run.finished_ms) == ("completed", START_MS + MINUTE_MS + 1)
    with queue.store.reading() as snapshot:
        assert message_status(snapshot, queue.topic.id, str(run.message_id)).body
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    assert told(queue, made) == [(1, "completed"), (2, "running")]


def test_a_retry_is_not_the_end(queue: Queue) -> None:
    """Nor is a snooze: the message waits."""
    add_subscribers(queue.store, queue.topic.id, [Subscriber("patient")])
    with queue.store.reading() as snapshot:
        patient = snapshot.rows("SELECT max(id) FROM subscriber")[0][0]
    made = make(queue)
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    consume(queue)
    settle(queue.store, patient, Nack(None, "again"), handles(claim(queue.store, patient, 10)))
    assert told(queue, made) == [(1, "running")]
    queue.clock.advance(10_000)
    settle(queue.store, patient, Ack(), handles(claim(queue.store, patient, 10)))
    assert told(queue, made) == [(1, "completed")]


def test_a_look_goes_through_all_runs_in_steps(queue: Queue) -> None:
    """Of all schedules, or of one."""
    made = [make(queue, f"{number}") for number in range(5)]
    queue.clock.advance(MINUTE_MS)
    assert fire_schedules(queue.store) == 5
    taken = handles(claim(queue.store, queue.subscriber_id, 10))
    settle(queue.store, queue.subscriber_id, Ack(), taken[:2] + taken[4:])
    done: list[int] = []
    with queue.store.reading() as snapshot:
        after: tuple[int, int] | None = None
        looks = 0
        while not looks or after is not None:
            look = look_at_runs(snapshot, after=after, limit=2)
            done += look.done
            after = look.after
            looks += 1
        counts = [len(look_at_runs(snapshot, each).done) for each in made]
    assert (looks, len(done)) == (3, 3)
    assert sorted(counts) == [0, 0, 1, 1, 1]
    finish_runs(queue.store, range(100))  # those that are not done are left alone
    assert sorted(run.status for each in made for run in runs(queue, each)) == [
        *["completed"] * 3,
        *["running"] * 2,
    ]


# Now.


def test_run_now_publishes_and_leaves_the_next_run(queue: Queue) -> None:
    """While it is paused, too; a second one is skipped, a forced one is not."""
    made = make(queue)
    pause_schedule(queue.store, queue.topic.id, made.uid, True)
    first, error = run_schedule_now(queue.store, queue.topic.id, made.uid)
    assert (first.status, first.scheduled_ms, error) == ("running", START_MS, None)
    second, error = run_schedule_now(queue.store, queue.topic.id, made.uid)
    assert (second.status, second.scheduled_ms, error) == ("skipped", START_MS + 1, None)
    third, error = run_schedule_now(queue.store, queue.topic.id, made.uid, force=True)
    assert (third.status, third.scheduled_ms, error) == ("running", START_MS + 2, None)
    assert len({first.id, second.id, third.id}) == 3
    assert now(queue, made).next_run_ms == made.next_run_ms
    assert runs(queue, made) == [first, second, third]
    taken = claim(queue.store, queue.subscriber_id, 10)
    assert [each.message_id for each in taken] == [first.message_id, third.message_id]
    keys = [each.body.idempotency_key for each in taken if isinstance(each.body, Envelope)]
    assert keys == [f"{made.uid}:2023-11-14T22:14:00{part}Z" for part in ("", ".002")]


def test_run_now_leaves_the_due_time_to_the_schedule(queue: Queue) -> None:
    """At that very millisecond it takes the next one."""
    made = make(queue)
    queue.clock.advance(MINUTE_MS)
    run, _ = run_schedule_now(queue.store, queue.topic.id, made.uid)
    assert run.scheduled_ms == made.next_run_ms + 1
    consume(queue)
    fire_schedules(queue.store)
    assert [run.status for run in runs(queue, made)] == ["running", "completed"]


def test_run_now_without_a_subscriber_is_noted_as_failed(queue: Queue) -> None:
    """The run is committed, and the caller gets the error."""
    made = make(queue)
    delete_subscriber(queue.store, queue.subscriber_id)
    run, error = run_schedule_now(queue.store, queue.topic.id, made.uid)
    assert run.status == "failed"
    assert isinstance(error, NoSubscribers)
    assert runs(queue, made) == [run]


def test_a_message_that_has_the_key_of_an_occurrence_fails_it(queue: Queue) -> None:
    """Nobody else's message is taken for it, and the schedule goes on."""
    made = make(queue)
    with queue.store.transaction() as tx:
        tx.change(
            "INSERT INTO idempotency VALUES (?, ?, 0, 0, 0, x'00', 0, 0, NULL)",
            (queue.topic.id, f"{made.uid}:2023-11-14T22:15:00Z"),
        )
    queue.clock.advance(MINUTE_MS)
    assert fire_schedules(queue.store) == 1
    assert told(queue, made) == [(1, "failed")]
    assert now(queue, made).next_run_ms == START_MS + 2 * MINUTE_MS


def test_pages_hold_each_run_once(queue: Queue) -> None:
    """The latest first."""
    made, other = make(queue), make(queue, "other")
    times = [run_schedule_now(queue.store, queue.topic.id, made.uid)[0] for _ in range(3)]
    run_schedule_now(queue.store, queue.topic.id, other.uid)
    found: list[ScheduleRun] = []
    page: Page[ScheduleRun] | None = None
    with queue.store.reading() as snapshot:
        while page is None or page.after is not None:
            page = run_page(snapshot, made, 1, None if page is None else page.after)
            found += page.items
    assert found == times[::-1]


# What goes.


def test_old_runs_go_after_thirty_days(queue: Queue) -> None:
    """Those that are running stay."""
    made = make(queue)
    run_schedule_now(queue.store, queue.topic.id, made.uid)
    run_schedule_now(queue.store, queue.topic.id, made.uid)
    queue.clock.advance(30 * DAY_MS - 1)
    assert not purge_runs(queue.store)
    queue.clock.advance(1)
    assert purge_runs(queue.store)
    assert not purge_runs(queue.store)
    assert [run.status for run in runs(queue, made)] == ["running"]


@pytest.mark.parametrize("deleted", ["schedule", "topic"])
def test_what_is_deleted_goes_in_steps(queue: Queue, deleted: str) -> None:
    """At once it does nothing any more; what it published stays with the topic."""
    other = create_topic(queue.store, "other", [Subscriber("worker")])
    kept = create_schedule(queue.store, other.id, plan())
    made = make(queue)
    run_schedule_now(queue.store, queue.topic.id, made.uid)
    with queue.store.transaction() as tx:
        for number in range(2_500):
            tx.change(
                "INSERT INTO schedule_run (schedule_id, scheduled_ms, status, started_ms,"
                " finished_ms, created_ms) VALUES (?, ?, 2, 0, ?, 0)",
                (made.id, number, START_MS),
            )
    if deleted == "schedule":
        delete_schedule(queue.store, queue.topic.id, made.uid)
    else:
        delete_topic(queue.store, queue.topic.id)
        with pytest.raises(TopicNotFound):
            make(queue, "late")
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    with queue.store.reading() as snapshot:
        fired = snapshot.rows("SELECT schedule_id FROM schedule_run WHERE scheduled_ms > 1000000")
        assert fired.count((kept.id,)) == 1
        assert len(fired) == 2

    counts = [queue.count("schedule_run")]
    while purge_runs(queue.store):
        counts.append(queue.count("schedule_run"))

    assert max(before - after for before, after in itertools.pairwise(counts)) == 1_000
    assert (queue.count("schedule"), queue.count("schedule_run")) == (1, 1)
    if deleted == "schedule":
        assert consume(queue) == 1


def test_the_schedules_of_a_deleted_topic_end_by_themselves(queue: Queue) -> None:
    """Even if nothing tidies up."""
    make(queue)
    delete_topic(queue.store, queue.topic.id)
    queue.clock.advance(MINUTE_MS)
    fire_schedules(queue.store)
    with queue.store.reading() as snapshot:
        assert next_schedule_ms(snapshot) is None
    assert queue.count("schedule_run") == 0
