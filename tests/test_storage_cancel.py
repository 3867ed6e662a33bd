"""Giving up: ahead of the cursor, under a receipt, for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    Cancel,
    Handle,
    MessageNotFound,
    Nack,
    Outcome,
    Published,
    State,
    Subscriber,
    cancel_message,
    claim,
    limits,
    message_status,
    settle,
    subscriber_statuses,
)

from .storage_helpers import Queue, handles, open_queue


def named(published: Published, index: int = 0) -> Handle:
    """Name a message by its id alone."""
    return Handle(published.priority, published.first_seq + index, published.tag)


def waiting(queue: Queue) -> int:
    with queue.store.reading() as snapshot:
        return subscriber_statuses(snapshot, queue.topic.id)[0].waiting


def test_what_is_cancelled_ahead_of_the_cursor_is_passed_over(tmp_path: Path) -> None:
    """And counted as done at once."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a", "b", "c", "d"])

    settle(queue.store, queue.subscriber_id, Cancel(), [named(published, i) for i in (1, 3)])

    assert waiting(queue) == 2
    assert [each.body for each in claim(queue.store, queue.subscriber_id, 10)] == ["a", "c"]
    queue.store.close()


def test_a_lane_that_is_cancelled_whole_is_one_row(tmp_path: Path) -> None:
    """However it was cancelled: history joins."""
    queue = open_queue(tmp_path)
    published = queue.publish([str(number) for number in range(100)])
    order = [*range(0, 100, 2), *range(1, 100, 2)]

    for index in order:
        settle(queue.store, queue.subscriber_id, Cancel("all of it"), [named(published, index)])

    assert (waiting(queue), queue.count("delivery")) == (0, 1)
    assert claim(queue.store, queue.subscriber_id, 10) == []
    queue.store.close()


def test_the_first_reason_stays(tmp_path: Path) -> None:
    """A second cancel is answered like the first, and changes nothing."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a"])
    for reason in ("first", "second"):
        (settled,) = settle(queue.store, queue.subscriber_id, Cancel(reason), [named(published)])
        assert (settled.outcome, settled.state) == (Outcome.DONE, State.CANCELLED)

    with queue.store.reading() as snapshot:
        (delivery,) = message_status(snapshot, queue.topic.id, published.id(0)).deliveries

    assert delivery.reason == "first"
    queue.store.close()


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    """On a character's boundary, and it says so."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a"])

    (delivery,) = cancel_message(queue.store, queue.topic.id, published.id(0), "ж" * 10_000)

    assert delivery.reason is not None
    assert delivery.reason.endswith(limits.TRUNCATED)
    assert len(delivery.reason.encode()) <= limits.REASON_BYTES_MAX
    queue.store.close()


def test_a_cancel_ends_the_lease_it_meets(tmp_path: Path) -> None:
    """Whoever holds the message finds that its receipt is dead."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a"])
    held = handles(claim(queue.store, queue.subscriber_id))

    settle(queue.store, queue.subscriber_id, Cancel(), [named(published)])

    (late,) = settle(queue.store, queue.subscriber_id, Ack(), held)
    assert late.outcome == Outcome.LOST
    queue.store.close()


@pytest.mark.parametrize("proof", [0, 1, "", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("leased", [False, True])
def test_nobody_holds_what_was_never_handed_out(
    tmp_path: Path, proof: int | str, leased: bool
) -> None:
    """A receipt for it, from a claim that was rolled back perhaps, cancels nothing."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a"])
    receipt = Handle(0, published.first_seq, published.tag, proof)

    (settled,) = settle(queue.store, queue.subscriber_id, Cancel(leased=leased), [receipt])

    assert settled.outcome == Outcome.LOST
    assert [each.body for each in claim(queue.store, queue.subscriber_id)] == ["a"]
    queue.store.close()


def test_a_dead_letter_cannot_be_cancelled(tmp_path: Path) -> None:
    """Nor can what is processed: both stay what they are."""
    queue = open_queue(tmp_path, Subscriber("worker", max_attempts=1))
    published = queue.publish(["dead", "done"])
    dead, done = handles(claim(queue.store, queue.subscriber_id))
    settle(queue.store, queue.subscriber_id, [Nack(), Ack()], [dead, done])

    settled = settle(
        queue.store, queue.subscriber_id, Cancel(), [named(published, i) for i in (0, 1)]
    )

    assert [each.outcome for each in settled] == [Outcome.FINISHED] * 2
    queue.store.close()


def test_a_message_is_cancelled_for_all_who_have_not_finished_it(tmp_path: Path) -> None:
    """The others are listed as they are."""
    queue = open_queue(tmp_path, Subscriber("done"), Subscriber("holds"), Subscriber("idle"))
    published = queue.publish(["a"])
    done, holds, _ = queue.subscriber_ids
    settle(queue.store, done, Ack(), handles(claim(queue.store, done)))
    claim(queue.store, holds)

    told = cancel_message(queue.store, queue.topic.id, published.id(0), "enough")

    cancelled = (State.CANCELLED, "enough")
    assert [(each.state, each.reason) for each in told] == [
        (State.PROCESSED, None),
        cancelled,
        cancelled,
    ]
    assert cancel_message(queue.store, queue.topic.id, published.id(0), "again") == told
    queue.store.close()


@pytest.mark.parametrize("text", ["", "nonsense", "00000000-0000-0000-0000-000000000000", "é" * 36])
def test_what_is_no_id_names_no_message(tmp_path: Path, text: str) -> None:
    """It is not found, and nothing else happens."""
    queue = open_queue(tmp_path)
    with pytest.raises(MessageNotFound):
        cancel_message(queue.store, queue.topic.id, text)
    queue.store.close()
