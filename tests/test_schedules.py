"""Schedules in the storage: making, changing and listing them."""

from __future__ import annotations

import pytest

from blockqueue.storage import (
    AlreadyExists,
    Envelope,
    Page,
    Schedule,
    ScheduleNotFound,
    SchedulePlan,
    StaleVersion,
    Subscriber,
    ValidationError,
    create_schedule,
    create_topic,
    delete_schedule,
    next_schedule_ms,
    pause_schedule,
    run_schedule_now,
    schedule,
    schedule_page,
    update_schedule,
)

from .schedule_helpers import (
    MINUTE_MS,
    START_MS,
    make,
    now,
    plan,
    queue,
)
from .storage_helpers import Queue

__all__ = ["queue"]


def test_a_schedule_is_shown_as_it_was_made(queue: Queue) -> None:
    """With its next run, which is after now."""
    made = create_schedule(
        queue.store,
        queue.topic.id,
        plan("daily", "30 6 * * *", timezone="Europe/Berlin", priority=-7),
    )
    assert made == now(queue, made)
    assert (made.name, made.cron, made.timezone) == ("daily", "30 6 * * *", "Europe/Berlin")
    assert (made.body, made.priority) == (Envelope("tick", {"a": "b"}, "c"), -7)
    assert (made.paused, made.version, made.topic_id) == (False, 1, queue.topic.id)
    assert made.next_run_ms == 1_700_026_200_000  # 15 November 2023, 05:30 UTC
    assert (made.created_ms, made.updated_ms) == (START_MS, START_MS)
    with queue.store.reading() as snapshot:
        assert next_schedule_ms(snapshot) == made.next_run_ms
        assert schedule(snapshot, queue.topic.id, made.uid.upper()) == made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (plan(""), "1 to 150 bytes"),
        (plan("é" * 76), "1 to 150 bytes"),
        (plan("\ud800"), "not valid Unicode"),
        (plan(None), "1 to 150 bytes"),  # type: ignore[arg-type]
        (plan(cron="* * * *"), "4 fields"),
        (plan(timezone="Mars"), "time zone"),
        (plan(priority=1001), "priority"),
        (plan(cron="0 0 31 2 *"), "not due within five years"),
    ],
)
def test_a_wrong_plan_is_refused(queue: Queue, wrong: SchedulePlan, said: str) -> None:
    """At making and at changing; the schedule stays as it is."""
    made = make(queue, "other")
    with pytest.raises(ValidationError, match=said):
        create_schedule(queue.store, queue.topic.id, wrong)
    with pytest.raises(ValidationError, match=said):
        update_schedule(queue.store, queue.topic.id, made.uid, wrong, 1)
    assert now(queue, made) == made
    assert queue.count("schedule") == 1


def test_names_are_taken_once_in_a_topic(queue: Queue) -> None:
    """And free as soon as the schedule is deleted."""
    other = create_topic(queue.store, "other", [Subscriber("worker")])
    made, second = make(queue), make(queue, "second")
    create_schedule(queue.store, other.id, plan())
    with pytest.raises(AlreadyExists):
        make(queue)
    with pytest.raises(AlreadyExists):
        update_schedule(queue.store, queue.topic.id, second.uid, plan(), 1)
    update_schedule(queue.store, queue.topic.id, made.uid, plan(), 1)  # its own name is fine
    delete_schedule(queue.store, queue.topic.id, made.uid)
    assert make(queue).uid != made.uid


def test_an_update_needs_the_version_that_it_replaces(queue: Queue) -> None:
    """The next run is reckoned from now; the paused flag stays."""
    made = make(queue)
    queue.clock.advance(30_000)
    pause_schedule(queue.store, queue.topic.id, made.uid, True)
    with pytest.raises(StaleVersion, match="version 2, not 1"):
        update_schedule(queue.store, queue.topic.id, made.uid, plan("new"), 1)
    assert now(queue, made).name == "minutely"

    changed = update_schedule(queue.store, queue.topic.id, made.uid, plan("new", "*/10 * * * *"), 2)

    assert (changed.version, changed.paused, changed.name) == (3, True, "new")
    assert changed.next_run_ms % (10 * MINUTE_MS) == 0
    assert (changed.created_ms, changed.updated_ms) == (START_MS, START_MS + 30_000)


def test_each_pause_and_resume_counts_as_a_change(queue: Queue) -> None:
    """Repeated ones too; the next run stays."""
    made = make(queue)
    for paused in (True, True, False, False):
        pause_schedule(queue.store, queue.topic.id, made.uid, paused)
    found = now(queue, made)
    assert (found.version, found.paused, found.next_run_ms) == (5, False, made.next_run_ms)


@pytest.mark.parametrize("uid", ["", "x", "\ud800", "00000000-0000-4000-8000-000000000000"])
def test_an_unknown_schedule_is_not_found(queue: Queue, uid: str) -> None:
    """Whatever is to be done with it, nor is one of another topic, nor a deleted one."""
    other = create_topic(queue.store, "other", [Subscriber("worker")])
    elsewhere = create_schedule(queue.store, other.id, plan())
    deleted = make(queue)
    delete_schedule(queue.store, queue.topic.id, deleted.uid)
    topic_id = queue.topic.id
    for each in (uid, elsewhere.uid, deleted.uid):
        with queue.store.reading() as snapshot, pytest.raises(ScheduleNotFound):
            schedule(snapshot, topic_id, each)
        for change in (
            lambda each=each: update_schedule(queue.store, topic_id, each, plan("x"), 1),
            lambda each=each: pause_schedule(queue.store, topic_id, each, True),
            lambda each=each: run_schedule_now(queue.store, topic_id, each),
            lambda each=each: delete_schedule(queue.store, topic_id, each),
        ):
            with pytest.raises(ScheduleNotFound):
                change()


def test_pages_hold_each_schedule_once(queue: Queue) -> None:
    """By name, of this topic only."""
    other = create_topic(queue.store, "other", [Subscriber("worker")])
    create_schedule(queue.store, other.id, plan())
    for name in ("b", "a", "c"):
        make(queue, name)
    deleted = make(queue, "deleted")
    delete_schedule(queue.store, queue.topic.id, deleted.uid)
    names: list[str] = []
    page: Page[Schedule] | None = None
    with queue.store.reading() as snapshot:
        while page is None or page.after is not None:
            page = schedule_page(snapshot, queue.topic.id, 1, None if page is None else page.after)
            names += [each.name for each in page.items]
    assert names == ["a", "b", "c"]
