"""The history of failures: bounded, shared by neighbours, gone with its delivery."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    Failure,
    Handle,
    Nack,
    Position,
    Replay,
    Snooze,
    Subscriber,
    claim,
    delete_step_in,
    expire,
    failure_page,
    limits,
    mark_step_in,
    settle,
    subscriber,
)

from .storage_helpers import Queue, handles, open_queue

#: At once again, and never dead.
PATIENT = Subscriber("worker", max_attempts=10_000, retry_initial_ms=0, retry_jitter=0)


def fail(queue: Queue, limit: int = 1, error: str = "it broke") -> None:
    held = claim(queue.store, queue.subscriber_id, limit)
    settle(queue.store, queue.subscriber_id, Nack(error=error), handles(held))


def failures(queue: Queue, message_id: str, limit: int = 1_000) -> list[Failure]:
    with queue.store.reading() as snapshot:
        found = subscriber(snapshot, queue.subscriber_id)
        return failure_page(snapshot, found, message_id, limit).items


def test_thousands_of_failures_of_one_message_are_bounded(tmp_path: Path) -> None:
    """The latest are kept, in the file too."""
    queue = open_queue(tmp_path, PATIENT)
    published = queue.publish(["a"])

    for _ in range(2_000):
        fail(queue)

    found = failures(queue, published.id(0))
    expected = range(2_000, 2_000 - limits.FAILURES_KEPT, -1)
    assert [each.failure_count for each in found] == list(expected)
    assert queue.count("failure") == limits.FAILURES_KEPT
    queue.store.close()


def test_a_batch_that_fails_together_is_one_row_a_failure(tmp_path: Path) -> None:
    """However big it is; and each message shows all of them."""
    queue = open_queue(tmp_path, PATIENT)
    published = queue.publish([str(number) for number in range(1_000)])

    for number in range(3):
        fail(queue, 1_000, f"error {number}")

    assert queue.count("failure") == 3
    for index in (0, 500, 999):
        found = failures(queue, published.id(index))
        assert [each.error for each in found] == ["error 2", "error 1", "error 0"]
    queue.store.close()


def test_what_one_message_goes_through_leaves_its_neighbours_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They failed together once; then only one of them fails, beyond what is kept."""
    monkeypatch.setattr(limits, "FAILURES_KEPT", 3)
    queue = open_queue(tmp_path, PATIENT)
    published = queue.publish(["a", "b", "c"])
    fail(queue, 3, "together")
    held = claim(queue.store, queue.subscriber_id, 3)
    settle(queue.store, queue.subscriber_id, Snooze(1_000), handles(held[1:]))
    settle(queue.store, queue.subscriber_id, Nack(error="alone"), handles(held[:1]))
    for _ in range(5):
        fail(queue, 1, "alone")

    assert [each.error for each in failures(queue, published.id(0))] == ["alone"] * 3
    assert [each.error for each in failures(queue, published.id(1))] == ["together"]
    assert [each.error for each in failures(queue, published.id(2))] == ["together"]
    queue.store.close()


def test_claims_that_end_well_push_no_failure_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last failures are kept, not those of the last claims: snoozes are no failures."""
    monkeypatch.setattr(limits, "FAILURES_KEPT", 2)
    queue = open_queue(tmp_path, PATIENT)
    published = queue.publish(["a"])
    fail(queue, 1, "first")
    for _ in range(5):
        held = claim(queue.store, queue.subscriber_id)
        settle(queue.store, queue.subscriber_id, Snooze(0), handles(held))
    fail(queue, 1, "second")

    assert [each.error for each in failures(queue, published.id(0))] == ["second", "first"]
    queue.store.close()


def test_nacks_and_expired_leases_are_told_apart_and_survive_a_replay(tmp_path: Path) -> None:
    """The counts start over, the history does not, and its ids stay."""
    queue = open_queue(
        tmp_path, Subscriber("worker", max_attempts=2, retry_initial_ms=0, retry_jitter=0)
    )
    published = queue.publish(["a"])
    fail(queue, 1, "ошибка\0")
    claim(queue.store, queue.subscriber_id, 1, 1)
    queue.clock.advance(1)
    expire(queue.store)
    before = failures(queue, published.id(0))

    settle(queue.store, queue.subscriber_id, Replay(True), [Handle(0, 0, published.tag)])
    fail(queue, 1, "")

    found = failures(queue, published.id(0))
    told = [(each.error, each.failure_count) for each in found]
    assert told == [("", 1), ("lease expired", 2), ("ошибка\0", 1)]
    assert found[1:] == before
    assert len({each.id for each in found}) == 3
    queue.store.close()


def test_a_dead_letter_keeps_its_history_when_its_neighbours_go(tmp_path: Path) -> None:
    """Blocks around it are removed, and with them only the history of what was in them."""
    queue = open_queue(
        tmp_path,
        Subscriber("worker", max_attempts=2, retry_initial_ms=0, retry_jitter=0),
        retention_ms=0,
    )
    queue.publish(["before"])
    published = queue.publish(["dead"])
    queue.publish(["after"])
    fail(queue, 3, "together")
    held = claim(queue.store, queue.subscriber_id, 3)
    settle(queue.store, queue.subscriber_id, Ack(), handles([held[0], held[2]]))
    settle(queue.store, queue.subscriber_id, Nack(error="alone"), handles(held[1:2]))

    make_room(queue)

    assert queue.count("block") == 1
    assert [each.error for each in failures(queue, published.id(0))] == ["alone", "together"]

    settle(queue.store, queue.subscriber_id, Replay(True), [Handle(0, 1, published.tag)])
    held = claim(queue.store, queue.subscriber_id, 3)
    settle(queue.store, queue.subscriber_id, Ack(), handles(held))
    make_room(queue)

    assert (queue.count("block"), queue.count("failure")) == (0, 0)
    queue.store.close()


def make_room(queue: Queue) -> None:
    position = Position()
    with queue.store.transaction() as tx:
        while mark_step_in(tx, position):
            pass
        while delete_step_in(tx):
            pass


def test_a_subscriber_shows_its_own_failures_only(tmp_path: Path) -> None:
    """Another one's failures of the same message are that one's affair."""
    queue = open_queue(tmp_path, PATIENT, Subscriber("zealous"))
    published = queue.publish(["a"])
    fail(queue)

    with queue.store.reading() as snapshot:
        other = subscriber(snapshot, queue.subscriber_ids[1])
        assert failure_page(snapshot, other, published.id(0), 10).items == []
    assert len(failures(queue, published.id(0))) == 1
    queue.store.close()
