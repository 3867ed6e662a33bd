"""What a queue counts and measures: right for each operation, and summed over all processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from blockqueue import (
    BackPressure,
    BlockQueue,
    LeaseLost,
    ManualClock,
    NoSubscribers,
    ScheduleSpec,
    Subscriber,
)
from blockqueue.api._exposition import render
from blockqueue.storage import Meters, meters

from .embedded_helpers import claim, eventually, open_queue
from .embedded_processes import Script


def changed(queue: BlockQueue, before: dict[str, int]) -> dict[str, int]:
    """Return which counts of messages have risen, and by how much."""
    after = queue.metrics().counts
    told = ("persistence", "delivery_operation", "scheduler", "restarts", "checkpoint")
    return {
        name: after[name] - before[name]
        for name in after
        if after[name] != before[name] and name.startswith(told)
    }


def operation(name: str, result: str = "success") -> str:
    return f'delivery_operation_total{{operation="{name}",result="{result}"}}'


def persisted(result: str = "persisted") -> str:
    return f'persistence_total{{result="{result}"}}'


def test_publishes_are_counted_by_what_became_of_them(queue: BlockQueue) -> None:
    """Messages, not calls."""
    before = queue.metrics().counts
    queue.publish_many("cart", ["a", "b", "c"])
    queue.publish("cart", "d", idempotency_key="d")
    queue.publish("cart", "d", idempotency_key="d")
    queue.create_topic("empty", ["nobody"])
    queue.delete_subscriber("empty", "nobody")
    with pytest.raises(NoSubscribers):
        queue.publish_many("empty", ["e", "f"])
    assert changed(queue, before) == {
        persisted("admitted"): 7,
        persisted(): 4,
        persisted("duplicate"): 1,
        persisted("failed"): 2,
    }


def test_a_publish_that_finds_no_room_is_counted_as_refused(tmp_path: Path) -> None:
    """It never came as far as the disk."""
    with open_queue(tmp_path, messages_max=1) as (queue, _):
        queue.system.admission.enter(1, 1)
        with pytest.raises(BackPressure):
            queue.publish("cart", "a")
        assert queue.metrics().counts[persisted("refused")] == 1
        queue.system.admission.leave(1, 1)


def test_what_is_done_with_deliveries_is_counted(queue: BlockQueue, clock: ManualClock) -> None:
    """By operation and result; a repeated ack is not counted again."""
    queue.publish_many("cart", list("abcdefgh"))
    before = queue.metrics().counts
    a, b, c, d, e, f, g, h = claim(queue)
    queue.ack("cart", "worker", [a, b])
    queue.ack("cart", "worker", [a])
    queue.nack("cart", "worker", [c])
    d.extend("1m")
    e.snooze("1m")
    f.cancel("enough")
    clock.advance(6 * 60_000)
    with pytest.raises(LeaseLost):
        h.ack()
    eventually(lambda: queue.metrics().counts[operation("expire")] == 3, lambda: clock.advance(500))
    assert g.message == "g"
    assert changed(queue, before) == {
        operation("claim"): 8,
        operation("ack"): 2,
        operation("ack", "lease_lost"): 1,
        operation("nack"): 1,
        operation("lease"): 1,
        operation("snooze"): 1,
        operation("cancel"): 1,
        operation("expire"): 3,
    }


def test_dead_letters_are_counted_as_they_die(tmp_path: Path) -> None:
    """By a nack or by a lease that runs out; replaying and dropping them is, too."""
    with open_queue(tmp_path, Subscriber("worker", max_attempts=1)) as (queue, clock):
        queue.publish_many("cart", ["a", "b"])
        before = queue.metrics().counts
        nacked, _ = claim(queue)
        nacked.nack()
        dead = operation("expire", "dead_letter")
        clock.advance(6 * 60_000)
        eventually(lambda: queue.metrics().counts[dead] == 1, lambda: clock.advance(500))
        assert queue.replay("cart", "worker", [nacked.id]) == 1
        assert changed(queue, before) == {
            operation("claim"): 2,
            operation("nack", "dead_letter"): 1,
            dead: 1,
            operation("replay"): 1,
        }


def test_what_is_rolled_back_is_not_counted(queue: BlockQueue) -> None:
    """Neither a whole transaction, nor one call in it that fails."""
    before = queue.metrics().counts

    def roll_back() -> None:
        with queue.transaction() as tx:
            queue.publish("cart", "a", tx=tx)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        roll_back()
    queue.create_topic("empty", ["nobody"])
    queue.delete_subscriber("empty", "nobody")
    with queue.transaction() as tx:
        queue.publish("cart", "b", tx=tx)
        with pytest.raises(NoSubscribers):
            queue.publish("empty", "c", tx=tx)
    assert changed(queue, before) == {persisted(): 1}


def test_a_subscriber_is_told_with_its_depth_and_its_age(tmp_path: Path) -> None:
    """The age is how long the first that can be handed out has waited for that."""
    with open_queue(tmp_path, Subscriber("worker", max_attempts=1)) as (queue, clock):

        def numbers() -> tuple[int, int, int, int, float]:
            (each,) = queue.metrics().subscribers
            assert (each.topic, each.subscriber, each.paused) == ("cart", "worker", False)
            return each.pending, each.waiting, each.leased, each.dead, each.lag_s

        assert numbers() == (0, 0, 0, 0, 0.0)
        queue.publish("cart", "late", delay="10m")
        clock.advance(60_000)
        assert numbers() == (1, 1, 0, 0, 0.0)
        queue.publish_many("cart", ["a", "b"])
        clock.advance(30_000)
        queue.publish("cart", "urgent", priority=5)
        clock.advance(60_000)
        assert numbers() == (4, 1, 0, 0, 90.0)
        urgent, a = claim(queue, 2)
        assert numbers() == (2, 1, 2, 0, 90.0)
        a.ack()
        urgent.nack()
        assert numbers() == (2, 1, 0, 1, 90.0)
        (b,) = claim(queue, 1)
        assert numbers() == (1, 1, 1, 1, 0.0)
        b.ack()
        clock.advance(10 * 60_000)
        assert numbers() == (1, 1, 0, 1, 750.0 - 600.0 + 0.0)


def test_a_paused_subscriber_says_so(queue: BlockQueue) -> None:
    """Whether it is itself or its topic."""
    assert [each.paused for each in queue.metrics().subscribers] == [False]
    queue.pause("cart")
    assert [each.paused for each in queue.metrics().subscribers] == [True]
    queue.resume("cart")
    queue.pause("cart", "worker")
    assert [each.paused for each in queue.metrics().subscribers] == [True]


def test_what_is_deleted_is_not_told(queue: BlockQueue) -> None:
    """At once, whatever rows are left of it."""
    queue.create_topic("other", ["a", "b"])
    queue.publish("other", "x")
    queue.delete_subscriber("other", "a")
    queue.delete_topic("cart")
    seen = queue.metrics()
    assert [(each.topic, each.subscriber) for each in seen.subscribers] == [("other", "b")]
    assert seen.published == {"other": 1}


def test_calls_and_commits_are_timed(queue: BlockQueue) -> None:
    """Each once; the buckets of a histogram add up to all of it."""
    before = queue.metrics().timings
    queue.publish_many("cart", ["a", "b", "c"])
    queue.ack("cart", "worker", claim(queue))
    after = queue.metrics().timings
    names = {
        "publish_duration_seconds": 1,
        'delivery_operation_duration_seconds{operation="claim"}': 1,
        'delivery_operation_duration_seconds{operation="batch_ack"}': 1,
        "flush_duration_seconds": 3,
        "write_lock_wait_seconds": 3,
        "flush_size": 1,
    }
    for name, count in names.items():
        assert after[name].count - before[name].count == count, name
        assert after[name].total > before[name].total
        assert sorted(after[name].buckets.values()) == list(after[name].buckets.values())
    assert after["flush_size"].total - before["flush_size"].total == 3
    assert after["flush_size"].buckets[4] - before["flush_size"].buckets[4] == 1
    assert after["flush_size"].buckets[2] == before["flush_size"].buckets[2]


def test_gauges_tell_what_waits_to_be_written(queue: BlockQueue) -> None:
    """And that it is late, if nothing is."""
    assert queue.metrics().gauges["pending_messages"] == 0
    queue.system.admission.enter(7, 100)
    gauges = queue.metrics().gauges
    assert (gauges["pending_messages"], gauges["pending_bytes"]) == (7, 100)
    eventually(lambda: queue.metrics().gauges["persistence_lag_seconds"] > 0)
    queue.system.admission.leave(7, 100)
    assert queue.metrics().gauges["persistence_lag_seconds"] == 0


def test_a_schedule_that_is_overdue_is_told(queue: BlockQueue, clock: ManualClock) -> None:
    """By how late it is; what fires is counted."""
    before = queue.metrics().counts
    queue.schedules("cart").create(ScheduleSpec("nightly", "0 3 * * *", "x"))
    clock.advance(24 * 3_600_000)
    eventually(
        lambda: queue.metrics().counts[persisted()] == before[persisted()] + 1,
        lambda: clock.advance(500),
    )
    assert changed(queue, before) == {
        persisted(): 1,
        'scheduler_operation_total{operation="claimed",result="success"}': 1,
        'scheduler_operation_total{operation="published",result="success"}': 1,
    }
    assert queue.metrics().gauges["scheduler_healthy"] == 1


# Several processes.


def check_summed(path: Path) -> None:
    """Publish by two queues on one file, as two processes do, and see both tell the sum."""
    with BlockQueue(path) as one, BlockQueue(path) as two:
        one.create_topic("cart", ["worker"])
        one.publish_many("cart", ["a", "b"])
        two.publish("cart", "c")
        for queue in (one, two):
            assert queue.metrics().counts[persisted()] == 3
            assert queue.metrics().gauges["processes"] == 2


def test_all_processes_tell_the_sum_over_all(tmp_path: Path) -> None:
    """Whichever is asked."""
    check_summed(tmp_path / "queue.db")


def test_the_check_notices_a_process_that_tells_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control."""

    def own(self: Meters) -> tuple[list[int], int]:
        return list(self._row), 2

    monkeypatch.setattr(Meters, "total", own)
    with pytest.raises(AssertionError):
        check_summed(tmp_path / "queue.db")


def test_counts_stay_when_a_queue_is_closed(tmp_path: Path) -> None:
    """Whoever opens the file next goes on from there."""
    for expected in (1, 2, 3):
        with BlockQueue(tmp_path / "queue.db") as queue:
            if expected == 1:
                queue.create_topic("cart", ["worker"])
            queue.publish("cart", "a")
            assert queue.metrics().counts[persisted()] == expected


_PUBLISHER = """
import sys
from blockqueue import BlockQueue
queue = BlockQueue(sys.argv[1])
queue.publish_many("cart", ["a", "b"])
queue.system.admission.enter(7, 100)
queue.system.total()
print("published", flush=True)
sys.stdin.read()
"""


def test_counts_of_killed_processes_stay_and_their_gauges_go(tmp_path: Path) -> None:
    """However many there were: the next one takes over the row of one that is dead."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        for killed in range(1, 4):
            script = Script(tmp_path, _PUBLISHER, path)
            try:
                script.hear("published")
                gauges = queue.metrics().gauges
                assert (gauges["processes"], gauges["pending_messages"]) == (2, 7)
            finally:
                script.kill()
            seen = queue.metrics()
            assert seen.counts[persisted()] == 2 * killed
            assert (seen.gauges["processes"], seen.gauges["pending_messages"]) == (1, 0)
        assert queue.system.store.hints.slot == 0


def test_rows_of_another_version_are_not_understood_and_not_used(tmp_path: Path) -> None:
    """Their numbers may mean anything."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as one, BlockQueue(path) as two:
        one.create_topic("cart", ["worker"])
        one.publish("cart", "a")
        two.publish("cart", "b")
        two.system.store.meters._row[0] += 1
        assert one.metrics().counts[persisted()] == 1
    with BlockQueue(path) as one, BlockQueue(path) as two:
        assert one.metrics().counts[persisted()] == 1
        two.publish("cart", "c")
        assert one.metrics().counts[persisted()] == 2


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), -1])
def test_no_number_in_the_file_can_fail_a_commit(queue: BlockQueue, number: int) -> None:
    """Nobody checks it, and what is counted behind a commit must not raise."""
    row = queue.system.store.meters._row
    for place in range(1, len(row)):
        row[place] = number
    queue.publish("cart", "hi")
    claim(queue, limit=1)[0].ack()
    assert "blockqueue_persistence_total" in render(queue.metrics())
    queue.publish("cart", "again")


def test_a_process_without_a_slot_counts_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when more than 128 have the file open."""
    monkeypatch.setattr("blockqueue.storage._hints.Hints._take_slot", lambda self: None)
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        assert queue.metrics().counts[persisted()] == 1


# The text.


def test_the_text_is_what_prometheus_reads(tmp_path: Path) -> None:
    """Names with quotes and backslashes, and every number with its whole value."""
    name = 'a "quoted" \\name'
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic(name, ["ü"])
        queue.publish_many(name, ["x"] * 1000)
        seen = queue.metrics()
        text = render(seen)
    families = {each.name: each for each in text_string_to_metric_families(text)}
    (depth,) = families["blockqueue_subscriber_pending_messages"].samples
    assert depth.labels == {"topic": name, "subscriber": "ü"}
    assert depth.value == 1000
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert all(family.documentation for family in families.values())
    assert len(samples) == sum(not line.startswith("#") for line in text.splitlines())
    assert samples["blockqueue_persistence_total", ("result", "persisted")] == 1000
    assert samples["blockqueue_wal_bytes",] == seen.gauges["wal_bytes"]
    assert samples["blockqueue_flush_size_bucket", ("le", "1024")] == 1
    assert samples["blockqueue_flush_size_bucket", ("le", "512")] == 0
    assert samples["blockqueue_flush_size_sum",] == 1000
    assert samples["blockqueue_publish_duration_seconds_count",] == 1


def test_every_meter_fits_into_its_row() -> None:
    """None shares its place with another."""
    taken = [0]
    for meter in meters.METERS:
        taken += range(meter.place, meter.place + (meters.BUCKETS + 1 if meter.bounds else 1))
    assert taken == list(range(len(taken)))
    assert len(taken) <= meters.ROW


def test_a_block_says_when_it_was_published(queue: BlockQueue, clock: ManualClock) -> None:
    """In its row, as in its frame: the age is read without opening it."""
    queue.publish("cart", "a")
    with queue.system.reading() as snapshot:
        (row,) = snapshot.rows("SELECT created_ms FROM block")
        assert row == (clock.now_ms(),)
        assert snapshot.block(1, 0, 0).segment(0).created_ms == clock.now_ms()
