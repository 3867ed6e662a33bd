"""Idempotency keys: odd texts, deleted topics, and keys that go step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    Batch,
    IdempotencyConflict,
    Keyed,
    Published,
    Subscriber,
    TopicNotFound,
    _retention,
    claim,
    create_topic,
    delete_step_in,
    delete_topic,
    mark_step_in,
    next_delete_ms,
    pack_messages,
    publish,
    settle,
)
from blockqueue.storage._retention import Position

from .storage_helpers import Queue, handles, open_queue
from .storage_model import DAY_MS


def keyed(body: str, key: str | None, **timing: int) -> Batch:
    """Return a batch of one message, whose fingerprint is the message."""
    return Batch(1, pack_messages([body]), keyed=Keyed([body], [key], [body.encode()]), **timing)


def publish_one(queue: Queue, body: str, key: str | None, **timing: int) -> Published:
    (published,) = publish(queue.store, queue.topic.id, [keyed(body, key, **timing)])
    return published


@pytest.mark.parametrize("key", ["", "\0", "a\0b", "ключ", "😀" * 32, "e\u0301", "'; --"])
def test_any_text_is_a_key(tmp_path: Path, key: str) -> None:
    """It is compared byte for byte, past a NUL too."""
    queue = open_queue(tmp_path)
    first = publish_one(queue, "once", key)
    others = [publish_one(queue, "other", text) for text in (key + "\0", key + "x", "\u00e9")]

    again = publish_one(queue, "once", key)

    assert (again.duplicate, again.ids()) == (True, first.ids())
    assert [other.duplicate for other in others] == [False] * 3
    assert len(claim(queue.store, queue.subscriber_id, 10)) == 4
    queue.store.close()


def test_a_repeat_is_told_when_the_first_is_visible(tmp_path: Path) -> None:
    """However much later it comes, and also once the message was consumed."""
    queue = open_queue(tmp_path)
    first = publish_one(queue, "later", "k", delay_ms=500)
    queue.clock.advance(600)
    settle(
        queue.store, queue.subscriber_id, Ack(), handles(claim(queue.store, queue.subscriber_id))
    )

    again = publish_one(queue, "later", "k", delay_ms=500)

    assert (again.created_ms, again.visible_ms) == (first.created_ms, first.created_ms + 500)
    assert claim(queue.store, queue.subscriber_id) == []
    queue.store.close()


def test_a_refused_key_leaves_no_number_out(tmp_path: Path) -> None:
    """What a conflict undoes was never there: the lane goes on where it was."""
    queue = open_queue(tmp_path)
    publish_one(queue, "first", "k")
    with pytest.raises(IdempotencyConflict):
        publish(queue.store, queue.topic.id, [keyed("new", "n"), keyed("second", "k")])

    following = publish_one(queue, "new", "n")

    assert (following.first_seq, following.duplicate) == (1, False)
    queue.store.close()


def test_a_deleted_topics_key_is_free_in_the_next(tmp_path: Path) -> None:
    """Even of the same name, and before the old rows are gone."""
    queue = open_queue(tmp_path)
    publish_one(queue, "old", "k")
    delete_topic(queue.store, queue.topic.id)
    with pytest.raises(TopicNotFound):
        publish_one(queue, "old", "k")

    topic = create_topic(queue.store, "topic", [Subscriber("worker")])
    (published,) = publish(queue.store, topic.id, [keyed("new", "k")])

    assert not published.duplicate
    queue.store.close()


def test_keys_outlive_their_message_until_they_are_a_day_old(tmp_path: Path) -> None:
    """A late retry of a short-lived message is still no second one."""
    queue = open_queue(tmp_path, retention_ms=0)
    publish_one(queue, "once", "k")
    settle(
        queue.store, queue.subscriber_id, Ack(), handles(claim(queue.store, queue.subscriber_id))
    )
    delete_all(queue)
    assert (queue.count("block"), queue.count("idempotency")) == (0, 1)
    with queue.store.transaction() as tx:
        assert next_delete_ms(tx) == queue.clock.now_ms() + DAY_MS

    queue.clock.advance(DAY_MS - 1)
    delete_all(queue)
    assert publish_one(queue, "once", "k").duplicate

    queue.clock.advance(1)
    delete_all(queue)
    assert queue.count("idempotency") == 0
    assert not publish_one(queue, "once", "k").duplicate
    queue.store.close()


def test_many_keys_go_in_steps_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are due at once, no step deletes more than its share, and all of them go."""
    monkeypatch.setattr(_retention, "_ROWS_MAX", 100)
    queue = open_queue(tmp_path, retention_ms=0)
    texts = [f"key {number}" for number in range(950)]
    prints = [text.encode() for text in texts]
    batch = Batch(len(texts), pack_messages(texts), keyed=Keyed(texts, texts, prints))
    publish(queue.store, queue.topic.id, [batch])
    held = claim(queue.store, queue.subscriber_id, 1_000)
    settle(queue.store, queue.subscriber_id, Ack(), handles(held))
    delete_all(queue)
    queue.clock.advance(DAY_MS)

    counts = [queue.count("idempotency")]
    more = True
    while more:
        with queue.store.transaction() as tx:
            more = delete_step_in(tx)
        counts.append(queue.count("idempotency"))
        assert counts[-2] - counts[-1] <= 100

    assert (counts[0], counts[-1]) == (950, 0)
    queue.store.close()


def delete_all(queue: Queue) -> None:
    """Mark and delete what is due."""
    position = Position()
    with queue.store.transaction() as tx:
        while mark_step_in(tx, position):
            pass
        while delete_step_in(tx):
            pass


@pytest.mark.parametrize("shift_ms", [-86_400_000, -1_000, 999, 86_400_000])
def test_a_time_of_day_is_the_walls(tmp_path: Path, shift_ms: int) -> None:
    """The wall's clock was set: an hour from now by it is an hour from now."""
    queue = open_queue(tmp_path)
    queue.clock.set_wall(queue.clock.now_ms() + shift_ms)
    now_ms, asked_ms = queue.clock.now_ms(), queue.clock.wall_ms() + 3_600_000

    published = publish_one(queue, "later", None, at_ms=asked_ms)

    # Clocks that are less than a second apart are called the same.
    drift_ms = shift_ms if abs(shift_ms) < 1_000 else 0
    assert published.visible_ms == now_ms + 3_600_000 + drift_ms
    queue.store.close()


def test_setting_the_wall_moves_nothing_that_was_published(tmp_path: Path) -> None:
    """What waits, waits by the queue's own time."""
    queue = open_queue(tmp_path)
    publish_one(queue, "later", None, at_ms=queue.clock.wall_ms() + 1_000)

    queue.clock.set_wall(queue.clock.wall_ms() + DAY_MS)
    assert claim(queue.store, queue.subscriber_id) == []

    queue.clock.advance(1_000)
    assert [each.body for each in claim(queue.store, queue.subscriber_id)] == ["later"]
    queue.store.close()


def test_a_time_that_has_passed_is_visible_at_once_in_its_order(tmp_path: Path) -> None:
    """Between what was published before and after that time."""
    queue = open_queue(tmp_path)
    past_ms = queue.clock.wall_ms() + 500
    publish_one(queue, "first", None)
    queue.clock.advance(1_000)
    publish_one(queue, "third", None)
    publish_one(queue, "second", None, at_ms=past_ms)

    held = claim(queue.store, queue.subscriber_id, 10)

    assert [each.body for each in held] == ["first", "second", "third"]
    assert held[1].visible_ms == past_ms
    queue.store.close()
