"""Making room: what nobody needs goes, what somebody needs stays."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    Batch,
    Drop,
    Handle,
    Nack,
    Outcome,
    Position,
    Replay,
    Store,
    Subscriber,
    _retention,  # its limit in time
    add_subscribers,
    claim,
    delete_step_in,
    delete_subscriber,
    delete_topic,
    mark_step_in,
    next_delete_ms,
    pack_messages,
    publish_in,
    purge_step_in,
    settle,
    vacuum_step_in,
)

from .storage_helpers import Queue, handles, open_queue

DAY_MS = 86_400_000


def make_room(store: Store) -> int:
    """Run a whole pass, each step in a transaction of its own; return how many steps it took."""
    position, steps = Position(), 0
    for step in (
        lambda tx: mark_step_in(tx, position),
        delete_step_in,
        purge_step_in,
        vacuum_step_in,
    ):
        more = True
        while more:
            with store.transaction() as tx:
                more = step(tx)
            steps += 1
            assert steps < 10_000, "a pass without end"
    return steps


def consume(queue: Queue, subscriber_id: int, limit: int = 1_000) -> None:
    settle(queue.store, subscriber_id, Ack(), handles(claim(queue.store, subscriber_id, limit)))


def test_a_consumed_block_stays_for_its_retention(tmp_path: Path) -> None:
    """A repeated ack is answered until then, and not found after it."""
    queue = open_queue(tmp_path, retention_ms=DAY_MS)
    queue.publish(["a", "b"])
    held = claim(queue.store, queue.subscriber_id, 10)
    settle(queue.store, queue.subscriber_id, Ack(), handles(held))

    make_room(queue.store)
    queue.clock.advance(DAY_MS - 1)
    make_room(queue.store)

    assert queue.count("block") == 1
    again = settle(queue.store, queue.subscriber_id, Ack(), handles(held))
    assert [each.outcome for each in again] == [Outcome.DONE, Outcome.DONE]

    queue.clock.advance(1)
    make_room(queue.store)

    assert (queue.count("block"), queue.count("delivery")) == (0, 0)
    again = settle(queue.store, queue.subscriber_id, Ack(), handles(held))
    assert [each.outcome for each in again] == [Outcome.UNKNOWN, Outcome.UNKNOWN]
    queue.store.close()


def test_the_next_deletion_is_known(tmp_path: Path) -> None:
    """So that maintenance can wait for it instead of looking again and again."""
    queue = open_queue(tmp_path, retention_ms=DAY_MS)
    queue.publish(["a"])
    consume(queue, queue.subscriber_id)
    with queue.store.transaction() as tx:
        assert next_delete_ms(tx) is None

    make_room(queue.store)

    with queue.store.transaction() as tx:
        assert next_delete_ms(tx) == queue.clock.now_ms() + DAY_MS
    queue.store.close()


def test_without_retention_a_consumed_block_goes_at_the_next_pass(tmp_path: Path) -> None:
    """And what is published then is delivered as ever."""
    queue = open_queue(tmp_path, retention_ms=0)
    for _ in range(3):
        queue.publish(["a", "b"])
        consume(queue, queue.subscriber_id)
        make_room(queue.store)
        assert (queue.count("block"), queue.count("delivery")) == (0, 0)

    queue.publish(["c"])

    assert [each.body for each in claim(queue.store, queue.subscriber_id, 10)] == ["c"]
    queue.store.close()


def test_a_block_stays_until_the_slowest_subscriber_is_done(tmp_path: Path) -> None:
    """Or until that subscriber is deleted."""
    queue = open_queue(tmp_path, Subscriber("fast"), Subscriber("slow"), retention_ms=0)
    fast, slow = queue.subscriber_ids
    queue.publish(["a"])
    consume(queue, fast)

    make_room(queue.store)
    assert queue.count("block") == 1

    delete_subscriber(queue.store, slow)
    make_room(queue.store)
    assert queue.count("block") == 0
    queue.store.close()


def test_a_dead_letter_keeps_its_block(tmp_path: Path) -> None:
    """For ever, and only its own; replayed it is delivered whole."""
    queue = open_queue(tmp_path, Subscriber("worker", max_attempts=1), retention_ms=0)
    for text in ("before", "dead", "after"):
        queue.publish([text, text])
    held = claim(queue.store, queue.subscriber_id, 6)
    settle(queue.store, queue.subscriber_id, Nack(), handles(held[2:3]))
    settle(queue.store, queue.subscriber_id, Ack(), handles(held[:2] + held[3:]))

    queue.clock.advance(1_000 * DAY_MS)
    make_room(queue.store)

    assert queue.count("block") == 1
    dead = [Handle(0, held[2].seq, held[2].tag)]
    settle(queue.store, queue.subscriber_id, Replay(), dead)
    again = claim(queue.store, queue.subscriber_id, 10)
    assert [each.body for each in again] == ["dead"]
    settle(queue.store, queue.subscriber_id, Nack(), handles(again))
    settle(queue.store, queue.subscriber_id, Drop(), dead)
    make_room(queue.store)
    assert queue.count("block") == 0
    queue.store.close()


def test_history_ahead_of_the_cursor_is_never_purged(tmp_path: Path) -> None:
    """Without its row a dropped message would read as pending and come again."""
    queue = open_queue(tmp_path, retention_ms=0)
    queue.publish(["fresh"])
    later = queue.publish(["dropped"], delay_ms=1_000)
    settle(queue.store, queue.subscriber_id, Drop(), [Handle(0, later.first_seq, later.tag)])

    make_room(queue.store)

    assert queue.count("block") == 2
    assert [each.body for each in claim(queue.store, queue.subscriber_id, 10)] == ["fresh"]
    queue.store.close()


def test_a_new_subscriber_gets_nothing_old_while_old_blocks_remain(tmp_path: Path) -> None:
    """Nor does it keep them."""
    queue = open_queue(tmp_path, retention_ms=0)
    queue.publish(["old"])
    add_subscribers(queue.store, queue.topic.id, [Subscriber("late")])
    consume(queue, queue.subscriber_id)

    make_room(queue.store)

    assert queue.count("block") == 0
    queue.store.close()


def test_a_deleted_topic_leaves_no_row(tmp_path: Path) -> None:
    """Whatever was in it: leased, waiting, dead, delayed."""
    queue = open_queue(tmp_path, Subscriber("one", max_attempts=1), Subscriber("other"))
    queue.publish(["a", "b", "c"])
    queue.publish(["later"], 5, 1_000)
    held = claim(queue.store, queue.subscriber_id, 2)
    settle(queue.store, queue.subscriber_id, Nack(), handles(held[:1]))

    delete_topic(queue.store, queue.topic.id)
    make_room(queue.store)

    tables = ("topic", "subscriber", "lane", "block", "cursor", "delivery")
    assert {table: queue.count(table) for table in tables} == dict.fromkeys(tables, 0)
    queue.store.close()


def test_the_file_shrinks(tmp_path: Path) -> None:
    """Free pages go back to the disk, but for a reserve of 8 MiB."""
    queue = open_queue(tmp_path, retention_ms=0)
    path = tmp_path / "queue.db"
    for _ in range(100):
        queue.publish([os.urandom(250_000)])
    queue.store.checkpoint()
    full = path.stat().st_size
    consume(queue, queue.subscriber_id)

    make_room(queue.store)
    queue.store.checkpoint()

    assert full > 25_000_000
    assert path.stat().st_size < 11_000_000
    queue.store.close()


def test_steps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever there is to do, a step does a part of it, so that nobody waits long."""
    queue = open_queue(tmp_path, retention_ms=0)
    with queue.store.transaction() as tx:
        for _ in range(450):
            publish_in(tx, queue.topic.id, [Batch(20, pack_messages([""] * 20))])
    for _ in range(9):
        # One row a message: neighbours differ in their minute.
        held = claim(queue.store, queue.subscriber_id, 1_000)
        settle(queue.store, queue.subscriber_id, Ack(), handles(held[::2]))
        queue.clock.advance(60_000)
        settle(queue.store, queue.subscriber_id, Ack(), handles(held[1::2]))
        queue.clock.advance(60_000)
    assert queue.count("delivery") == 9_000

    monkeypatch.setattr(_retention, "_STEP_MS", 0)  # a step ends after its first stretch
    position, marked = Position(), []
    more = True
    while more:
        with queue.store.transaction() as tx:
            more = mark_step_in(tx, position)
            marked.append(tx.rows("SELECT count(*) FROM block WHERE delete_ms IS NOT NULL")[0][0])
    assert [b - a for a, b in pairwise([0, *marked])] == [200, 200, 50, 0, 0]

    deleted = [450]
    more = True
    while more:
        with queue.store.transaction() as tx:
            more = delete_step_in(tx)
        deleted.append(queue.count("block"))
        assert deleted[-2] - deleted[-1] <= 200
    assert (deleted[-1], queue.count("delivery")) == (0, 0)
    queue.store.close()


def test_a_purge_takes_at_most_a_thousand_rows_a_step(tmp_path: Path) -> None:
    """A subscriber with a million rows goes bit by bit."""
    queue = open_queue(tmp_path)
    for _ in range(3):
        queue.publish([""] * 1_000)
        held = claim(queue.store, queue.subscriber_id, 1_000)
        for start in (0, 1):
            some = handles(held[start::2])
            settle(queue.store, queue.subscriber_id, Nack(delay_ms=1 + start), some)
    assert queue.count("delivery") == 3_000
    delete_subscriber(queue.store, queue.subscriber_id)

    left = []
    for _ in range(3):
        with queue.store.transaction() as tx:
            assert purge_step_in(tx)
        left.append(queue.count("delivery"))

    assert left == [2_000, 1_000, 0]
    queue.store.close()
