"""Schedules of a running queue: they fire by themselves, wake who waits, and end their runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    AlreadyExists,
    BlockQueue,
    ManualClock,
    NoSubscribers,
    NotFound,
    TopicNotFound,
    ValidationError,
)
from blockqueue.actors import _sweeper as sweeper_module
from blockqueue.actors import _timetable as timetable_module
from blockqueue.api._schedule_spec import ScheduleSpec
from blockqueue.api._schedules import Schedules
from blockqueue.storage import (
    ScheduleNotFound,
    StaleVersion,
    Store,
    look_at_runs,
)

from .embedded_helpers import (
    MINUTE_MS,
    WAIT_S,
    background,
    claim,
    eventually,
    messages,
    open_queue,
    park,
    settle_down,
)

MINUTELY = ScheduleSpec("minutely", "* * * * *", "tick")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def schedules(queue: BlockQueue) -> Schedules:
    """The schedules of topic "cart"."""
    return queue.schedules("cart")


def until_minute(clock: ManualClock) -> None:
    """Let it become the next whole minute."""
    clock.advance(MINUTE_MS - clock.wall_ms() % MINUTE_MS)


def statuses(schedules: Schedules, id: str) -> list[str]:
    """Return what became of the runs, the first one first."""
    return [run.status for run in schedules.run_page(id).items[::-1]]


def stored_statuses(queue: BlockQueue) -> list[int]:
    """Return the same as the file has it, though nobody asked."""
    with queue.system.reading() as snapshot:
        return [row[0] for row in snapshot.rows("SELECT status FROM schedule_run ORDER BY id")]


def consume(queue: BlockQueue) -> int:
    """Claim and acknowledge what there is; return how many that were."""
    taken = claim(queue)
    queue.ack("cart", "worker", taken)
    return len(taken)


# The face.


def test_a_schedule_is_made_listed_changed_and_deleted(
    schedules: Schedules, clock: ManualClock
) -> None:
    """The way its docstrings tell."""
    made = schedules.create(
        ScheduleSpec("nightly", "0 3 * * *", b"\x00", "Europe/Berlin", {"a": "b"}, "c", priority=5)
    )
    assert (made.body.payload, made.body.headers, made.body.correlation_id) == (
        *(b"\x00", {"a": "b"}, "c"),
    )
    due = datetime.fromtimestamp(made.next_run_ms / 1000, UTC)
    assert (due.hour, due.minute) == (2, 0)
    assert schedules.get(made.uid) == made
    assert schedules.page().items == [made]
    clock.advance(5)
    changed = schedules.update(made.uid, MINUTELY, 1)
    assert (changed.version, changed.name, changed.body.headers) == (2, "minutely", None)
    assert changed.priority == 0
    with pytest.raises(StaleVersion):
        schedules.update(made.uid, MINUTELY, 1)
    with pytest.raises(AlreadyExists):
        schedules.create(MINUTELY)
    schedules.delete(made.uid)
    with pytest.raises(ScheduleNotFound):
        schedules.delete(made.uid)
    assert schedules.page().items == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"message": "x" * 1_048_577}, "1048576"),
        ({"message": 5}, "str or bytes"),
        ({"message": "\ud800"}, "surrogate"),
        ({"headers": {"a": "x" * 16_384}}, "16384"),
        ({"headers": {"a": 1}}, "text"),
        ({"correlation_id": "x" * 256}, "255"),
        ({"priority": 1001}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"cron": "@daily"}, "fields"),
        ({"timezone": "Mars"}, "time zone"),
        ({"name": ""}, "150"),
    ],
)
def test_limits_are_those_of_a_message(
    schedules: Schedules, wrong: dict[str, Any], said: str
) -> None:
    """And the schedule's own."""
    made = schedules.create(MINUTELY)
    given: dict[str, Any] = {"name": "wrong", "cron": "* * * * *", "message": "tick", **wrong}
    with pytest.raises(ValidationError, match=said):
        schedules.create(ScheduleSpec(**given))
    with pytest.raises(ValidationError, match=said):
        schedules.update(made.uid, ScheduleSpec(**given), 1)
    assert schedules.page().items == [made]


@pytest.mark.parametrize(
    "ask",
    [
        lambda schedules: schedules.get(UNKNOWN),
        lambda schedules: schedules.update(UNKNOWN, MINUTELY, 1),
        lambda schedules: schedules.delete("no uuid"),
        lambda schedules: schedules.pause(UNKNOWN),
        lambda schedules: schedules.resume(UNKNOWN),
        lambda schedules: schedules.run_now(UNKNOWN),
        lambda schedules: schedules.run_page(UNKNOWN),
    ],
)
def test_unknown_ones_are_not_found(
    queue: BlockQueue, schedules: Schedules, ask: Callable[[Schedules], object]
) -> None:
    """An unknown schedule, or an unknown topic."""
    with pytest.raises(ScheduleNotFound):
        ask(schedules)
    with pytest.raises(TopicNotFound):
        ask(queue.schedules("nowhere"))


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_size(schedules: Schedules, limit: int) -> None:
    """From 1 to 1000."""
    made = schedules.create(MINUTELY)
    with pytest.raises(ValidationError):
        schedules.page(limit)
    with pytest.raises(ValidationError):
        schedules.run_page(made.uid, limit)


# Firing by itself.


def test_a_due_schedule_answers_a_waiting_claim(tmp_path: Path) -> None:
    """At its time and not before."""
    with open_queue(tmp_path) as (queue, clock):
        until_minute(clock)
        made = queue.schedules("cart").create(MINUTELY)
        waiting = park(queue, wait_ms=10 * MINUTE_MS)
        clock.advance(MINUTE_MS - 1)
        settle_down(queue)
        assert not waiting.is_done

        clock.advance(1)
        eventually(lambda: waiting.is_done, lambda: clock.advance(1))

        (delivery,) = waiting.get(timeout=WAIT_S)
        assert delivery.created_ms - made.next_run_ms < 1_000
        (run,) = queue.schedules("cart").run_page(made.uid).items
        assert (run.message_id, run.scheduled_ms) == (delivery.message_id, made.next_run_ms)


def test_what_is_due_between_two_ticks_does_not_wait_for_the_second_one(
    queue: BlockQueue,
    clock: ManualClock,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sweeper has an alarm for it."""
    ticked = threading.Event()
    await_due = sweeper_module.SweeperActor._await_due

    seen: list[Any] = []

    def await_and_tell(sweeper: Any) -> None:
        await_due(sweeper)
        seen.append(sweeper)
        ticked.set()

    monkeypatch.setattr(sweeper_module.SweeperActor, "_await_due", await_and_tell)
    made = schedules.create(MINUTELY)
    for passed_ms in (30_000, made.next_run_ms - clock.wall_ms() - 30_300):
        clock.advance(passed_ms)  # a tick, and the next one is 500 ms later
        assert ticked.wait(WAIT_S)
        ticked.clear()
    # The end of other work would have it look, too.
    eventually(lambda: not seen[-1]._working and not seen[-1]._steps)

    clock.advance(300)

    eventually(lambda: bool(schedules.run_page(made.uid).items))
    assert not ticked.is_set()


def test_each_minute_has_its_run(
    queue: BlockQueue, clock: ManualClock, schedules: Schedules
) -> None:
    """Whoever consumes in time gets each of them."""
    until_minute(clock)
    made = schedules.create(MINUTELY)
    for minute in range(1, 4):
        waiting = park(queue, wait_ms=10 * MINUTE_MS)
        until_minute(clock)
        (delivery,) = waiting.get(timeout=WAIT_S)
        assert len(schedules.run_page(made.uid).items) == minute
        queue.ack("cart", "worker", [(delivery.message_id, delivery.receipt_token)])
    times = [run.scheduled_ms for run in schedules.run_page(made.uid).items]
    assert times == [made.next_run_ms + minute * MINUTE_MS for minute in (2, 1, 0)]
    assert statuses(schedules, made.uid) == ["completed"] * 3


def test_a_run_is_noted_as_completed_though_nobody_asks(
    queue: BlockQueue, clock: ManualClock, schedules: Schedules
) -> None:
    """Within a second of the last acknowledgement."""
    made = schedules.create(MINUTELY)
    schedules.run_now(made.uid)
    (delivery,) = claim(queue)
    clock.advance(1_000)
    assert stored_statuses(queue) == [0]
    delivery.ack()
    eventually(lambda: stored_statuses(queue) == [1], lambda: clock.advance(500))


def test_whoever_asks_sees_that_a_run_is_completed(queue: BlockQueue, schedules: Schedules) -> None:
    """Though the clock stands still, and the sweeper with it."""
    made = schedules.create(MINUTELY)
    run = schedules.run_now(made.uid)
    assert run.status == "running"
    assert schedules.run_now(made.uid).status == "skipped"
    (delivery,) = claim(queue)
    assert delivery.id == run.message_id
    delivery.ack()
    assert statuses(schedules, made.uid) == ["completed", "skipped"]
    assert schedules.run_now(made.uid).status == "running"


def test_run_now_answers_a_waiting_claim(queue: BlockQueue, schedules: Schedules) -> None:
    """Like any publish."""
    made = schedules.create(MINUTELY)
    waiting = park(queue)
    schedules.run_now(made.uid)
    assert messages(waiting.get(timeout=WAIT_S))


def test_run_now_without_a_subscriber_is_an_error_and_a_failed_run(
    queue: BlockQueue, schedules: Schedules
) -> None:
    """Both."""
    made = schedules.create(MINUTELY)
    queue.delete_subscriber("cart", "worker")
    with pytest.raises(NoSubscribers):
        schedules.run_now(made.uid)
    assert statuses(schedules, made.uid) == ["failed"]


def test_after_a_downtime_one_run_is_made_up_for(tmp_path: Path) -> None:
    """For the first time that was missed; the next is in the future."""
    clock = ManualClock()
    until_minute(clock)
    with BlockQueue(tmp_path / "queue.db", clock=clock) as queue:
        queue.create_topic("cart", ["worker"])
        made = queue.schedules("cart").create(MINUTELY)
    clock = ManualClock(clock.now_ms() + 5 * MINUTE_MS + 1)
    with BlockQueue(tmp_path / "queue.db", clock=clock) as queue:
        schedules = queue.schedules("cart")
        eventually(lambda: bool(schedules.run_page(made.uid).items), lambda: clock.advance(100))
        (run,) = schedules.run_page(made.uid).items
        assert (run.scheduled_ms, run.status) == (made.next_run_ms, "running")
        assert schedules.get(made.uid).next_run_ms == made.next_run_ms + 5 * MINUTE_MS
        assert len(claim(queue)) == 1


def test_a_paused_one_does_not_fire_until_it_is_resumed(
    queue: BlockQueue, clock: ManualClock, schedules: Schedules
) -> None:
    """Then once, for the time it missed."""
    made = schedules.create(MINUTELY)
    other = schedules.create(ScheduleSpec("other", "* * * * *", "tock"))
    schedules.pause(made.uid)
    for _ in range(2):
        until_minute(clock)
        eventually(lambda: consume(queue) == 1)
    assert statuses(schedules, made.uid) == []
    schedules.resume(made.uid)
    eventually(lambda: bool(schedules.run_page(made.uid).items), lambda: clock.advance(100))
    (run,) = schedules.run_page(made.uid).items
    assert run.scheduled_ms == made.next_run_ms
    assert len(schedules.run_page(other.uid).items) == 2


def test_a_deleted_topic_ends_its_schedules(
    queue: BlockQueue, clock: ManualClock, schedules: Schedules
) -> None:
    """A new topic of that name has none, and the rows go by themselves."""
    made = schedules.create(MINUTELY)
    schedules.run_now(made.uid)
    queue.delete_topic("cart")
    with pytest.raises(TopicNotFound):
        schedules.page()
    queue.create_topic("cart", ["worker"])
    assert schedules.page().items == []
    with pytest.raises(NotFound):
        schedules.get(made.uid)

    def rows() -> tuple[int, ...] | None:
        with queue.system.reading() as snapshot:
            return snapshot.row(
                "SELECT (SELECT count(*) FROM schedule), (SELECT count(*) FROM schedule_run)"
            )

    eventually(lambda: rows() == (0, 0), lambda: clock.advance(500))
    assert claim(queue) == []


def test_an_idle_queue_reads_nothing(
    queue: BlockQueue,
    clock: ManualClock,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though there is a schedule, and a run that goes on."""
    made = schedules.create(ScheduleSpec("yearly", "0 0 1 1 *", "happy new year"))
    schedules.run_now(made.uid)
    reads: list[int] = []
    ticks: list[int] = []
    reading, tick = Store.reading, sweeper_module.SweeperActor._tick_later

    def counted_reading(store: Store) -> Any:
        reads.append(1)
        return reading(store)

    def counted_tick(sweeper: Any) -> None:
        ticks.append(1)
        tick(sweeper)

    monkeypatch.setattr(Store, "reading", counted_reading)
    monkeypatch.setattr(sweeper_module.SweeperActor, "_tick_later", counted_tick)

    def quiet() -> bool:
        """Let ten ticks pass; say whether none of them has read."""
        reads.clear()
        ticks.clear()
        eventually(lambda: len(ticks) >= 10, lambda: clock.advance(500))
        return not reads

    eventually(quiet)
    assert quiet()
    queue.publish("cart", "news")
    assert not quiet()  # else the count would not tell


def test_many_runs_are_looked_at_bit_by_bit(
    queue: BlockQueue,
    clock: ManualClock,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The done one behind many that go on is found, too."""
    monkeypatch.setattr(timetable_module, "_LOOK_S_MAX", 0)
    made = schedules.create(MINUTELY)
    with queue.system.store.transaction() as tx:
        for number in range(1_200):  # of messages that will be
            tx.change(
                "INSERT INTO schedule_run (schedule_id, scheduled_ms, status, started_ms,"
                " created_ms, priority, seq, tag)"
                " SELECT id, ?, 0, 0, 0, 0, 1000000, 0 FROM schedule",
                (number,),
            )
    run = schedules.run_now(made.uid, force=True)
    (delivery,) = claim(queue)
    assert delivery.id == run.message_id
    delivery.ack()
    eventually(lambda: stored_statuses(queue)[-1] == 1, lambda: clock.advance(500))
    assert set(stored_statuses(queue)[:-1]) == {0}


def test_an_error_puts_the_schedules_off_and_nothing_else(
    queue: BlockQueue,
    clock: ManualClock,
    schedules: Schedules,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Leases expire meanwhile; it is tried again at each tick."""
    made = schedules.create(MINUTELY)
    broken = [True]
    look = look_at_runs

    def look_or_fail(*args: Any, **kwargs: Any) -> Any:
        if broken[0]:
            raise RuntimeError("no look today")
        return look(*args, **kwargs)

    monkeypatch.setattr(timetable_module, "look_at_runs", look_or_fail)
    queue.publish("cart", "leased")
    claim(queue, lease="1s")
    eventually(lambda: len(claim(queue)) == 1, lambda: clock.advance(500))
    until_minute(clock)
    eventually(lambda: "no look today" in caplog.text, lambda: clock.advance(500))
    broken[0] = False
    eventually(lambda: bool(schedules.run_page(made.uid).items), lambda: clock.advance(500))


def test_callers_that_run_it_together_get_one_run(queue: BlockQueue, schedules: Schedules) -> None:
    """The others are skipped, each with a time of its own."""
    made = schedules.create(MINUTELY)
    futures = [background(lambda: schedules.run_now(made.uid)) for _ in range(8)]
    found = [future.result(WAIT_S) for future in futures]
    assert sorted(run.status for run in found) == ["running", *["skipped"] * 7]
    assert len({run.scheduled_ms for run in found}) == 8
    assert len(claim(queue)) == 1
