"""Lists in pages: many lanes, equal times, removed and damaged blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    After,
    CorruptBlock,
    DeliveryView,
    Nack,
    Page,
    Position,
    Replay,
    State,
    Store,
    Subscriber,
    active_page,
    add_subscribers,
    claim,
    dead_page,
    delete_step_in,
    failure_page,
    mark_step_in,
    message_status,
    settle,
    subscriber,
)

from .storage_helpers import Queue, damage_block, handles, lose_block, open_queue
from .storage_view_checks import all_pages


def read_list(queue: Queue, size: int, *, dead: bool = False) -> list[DeliveryView]:
    """Read a list, each page by a snapshot of its own."""
    read = dead_page if dead else active_page

    def fetch(after: After | None) -> Page[DeliveryView]:
        with queue.store.reading() as snapshot:
            return read(snapshot, subscriber(snapshot, queue.subscriber_id), size, after)

    return all_pages(fetch, size)


def bodies(views: list[DeliveryView]) -> list[object]:
    return [view.body for view in views]


def test_many_lanes_of_one_millisecond_come_one_by_one(tmp_path: Path) -> None:
    """At the same time the greater id comes first: a higher priority, a later number."""
    queue = open_queue(tmp_path)
    lanes = [*range(-30, 25), 1_000, -1_000]
    for priority in lanes:
        queue.publish([f"{priority} first", f"{priority} second"], priority)

    found = read_list(queue, 1)

    expected = [f"{p} {n}" for p in sorted(lanes, reverse=True) for n in ("second", "first")]
    assert bodies(found) == expected
    assert [view.message_id for view in found] == sorted(
        (view.message_id for view in found), reverse=True
    )
    queue.store.close()


def test_lanes_are_merged_by_time(tmp_path: Path) -> None:
    """The newest comes first, whatever its priority."""
    queue = open_queue(tmp_path)
    for number in range(20):
        queue.publish([str(number)], number % 3)
        queue.clock.advance(number % 2)

    found = read_list(queue, 3)

    assert len({view.body for view in found}) == 20
    assert [(v.created_ms, v.message_id) for v in found] == sorted(
        ((v.created_ms, v.message_id) for v in found), reverse=True
    )
    queue.store.close()


def test_the_next_page_does_not_begin_again_where_blocks_are_gone(tmp_path: Path) -> None:
    """A dead letter is listed once, though all that was published after it was removed."""
    queue = open_queue(tmp_path, Subscriber("worker", max_attempts=1), retention_ms=0)
    for body, priority in (("dead 1", 1), ("dead 2", 1), ("dead 3", 0), ("done", 0)):
        queue.publish([body], priority)
        queue.clock.advance(1)
    for delivery in claim(queue.store, queue.subscriber_id, 10):
        settlement = Ack() if delivery.body == "done" else Nack()
        settle(queue.store, queue.subscriber_id, settlement, handles([delivery]))
    make_room(queue.store)
    assert queue.count("block") == 3

    assert bodies(read_list(queue, 1, dead=True)) == ["dead 3", "dead 2", "dead 1"]
    queue.store.close()


def make_room(store: Store) -> None:
    position = Position()
    with store.transaction() as tx:
        while mark_step_in(tx, position):
            pass
        while delete_step_in(tx):
            pass


@pytest.mark.parametrize("harm", [damage_block, lose_block])
@pytest.mark.parametrize("first_seq", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_damage_is_listed_once_and_hides_nobody(
    tmp_path: Path, harm: Callable[[Store, int], None], first_seq: int, size: int
) -> None:
    """Wherever a page ends: without its text, and the others with theirs."""
    queue = open_queue(tmp_path)
    for number in range(3):
        for priority in (1, 0, -1):
            queue.publish([f"{priority} {number}"], priority)
            queue.clock.advance(10)
    harm(queue.store, first_seq)

    found = bodies(read_list(queue, size))

    assert found.count(None) == 1
    sound = {f"{priority} {number}" for priority in (1, 0, -1) for number in range(3)}
    assert sorted(body for body in found if isinstance(body, str)) == sorted(
        sound - {f"0 {first_seq}"}
    )
    queue.store.close()


def test_the_status_of_a_damaged_message_says_what_is_damaged(tmp_path: Path) -> None:
    """It is not unknown: an operator must hear of it."""
    queue = open_queue(tmp_path)
    published = queue.publish(["a"])
    damage_block(queue.store, 0)

    with queue.store.reading() as snapshot:
        with pytest.raises(CorruptBlock, match="first_seq=0"):
            message_status(snapshot, queue.topic.id, published.id(0))
        found = subscriber(snapshot, queue.subscriber_id)
        with pytest.raises(CorruptBlock, match="first_seq=0"):
            failure_page(snapshot, found, published.id(0), 10)
    queue.store.close()


def test_a_list_shows_no_more_than_was_published_to_the_subscriber(tmp_path: Path) -> None:
    """What was there before it came is not pending for it."""
    queue = open_queue(tmp_path)
    queue.publish(["old"])
    add_subscribers(queue.store, queue.topic.id, [Subscriber("late")])
    queue.publish(["new"])

    with queue.store.reading() as snapshot:
        late = subscriber(snapshot, queue.subscriber_id + 1)
        assert bodies(active_page(snapshot, late, 10).items) == ["new"]
        assert active_page(snapshot, late, 10).after is None
    queue.store.close()


def test_a_leased_delivery_shows_its_receipt_and_no_other_does(tmp_path: Path) -> None:
    """Whoever looks at the list can settle it, as the dashboard does."""
    queue = open_queue(tmp_path)
    queue.publish(["a", "b"])
    (held,) = claim(queue.store, queue.subscriber_id, 1, 5_000)

    pending, leased = read_list(queue, 1)

    assert (pending.receipt_token, pending.lease_expires_ms) == (None, None)
    assert leased.receipt_token == held.receipt_token
    assert leased.lease_expires_ms == held.lease_expires_ms
    assert leased.visible_ms == held.visible_ms
    queue.store.close()


def test_a_list_of_many_rows_is_whole(tmp_path: Path) -> None:
    """More rows than are read at a time, with gaps between them."""
    queue = open_queue(tmp_path, Subscriber("worker", max_attempts=1))
    queue.publish([str(number) for number in range(1_000)])
    queue.publish([str(number) for number in range(1_000, 1_400)])
    first, rest = claim(queue.store, queue.subscriber_id, 1_000), 300
    settle(queue.store, queue.subscriber_id, Nack(), handles(first[::2]))
    claim(queue.store, queue.subscriber_id, rest)

    active, dead = read_list(queue, 97), read_list(queue, 97, dead=True)

    numbers = range(1_399, -1, -1)
    assert bodies(active) == [str(n) for n in numbers if n >= 1_000 or n % 2]
    assert bodies(dead) == [str(n) for n in numbers if n < 1_000 and not n % 2]
    queue.store.close()


def test_replaying_while_the_dead_are_listed_leaves_nobody_out(tmp_path: Path) -> None:
    """A dashboard replays page after page: each page begins below the last."""
    queue = open_queue(tmp_path, Subscriber("worker", max_attempts=1))
    queue.publish([str(number) for number in range(10)])
    held = claim(queue.store, queue.subscriber_id, 10)
    settle(queue.store, queue.subscriber_id, Nack(), handles(held))
    seen: list[object] = []
    after = None

    for _ in range(4):
        with queue.store.reading() as snapshot:
            found = subscriber(snapshot, queue.subscriber_id)
            page = dead_page(snapshot, found, 3, after)
        after = page.after
        seen += bodies(page.items)
        shown = [each for each in held if each.body in bodies(page.items)]
        settled = settle(queue.store, queue.subscriber_id, Replay(True), handles(shown))
        assert {each.state for each in settled} == {State.WAITING}

    assert (after, seen) == (None, [str(number) for number in range(9, -1, -1)])
    queue.store.close()
