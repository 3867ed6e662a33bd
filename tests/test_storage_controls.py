"""Faults in keys, cancels, failures, lists and statuses: the random walks catch each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blockqueue import storage
from blockqueue.storage import (
    Batch,
    Cancel,
    Extend,
    Handle,
    Page,
    Replay,
    Settled,
    Settlement,
    State,
    Subscriber,
    Tx,
    _claim,
    _expiry,
    _idempotency,
    _lists,
    _publish,
    _retention,
    _settle,
    _status,
)
from blockqueue.storage._cursors import Cursor
from blockqueue.storage._idempotency import Keys
from blockqueue.storage._publish import _KeyedCalls
from blockqueue.storage._retries import failed
from blockqueue.storage._runs import Run, move
from blockqueue.storage._states import Event

from . import test_storage_failures
from .storage_walks import Break, check_that_walks_catch

_LANE = "subscriber_id = ? AND priority = ?"


def store_no_keys(patch: pytest.MonkeyPatch) -> None:
    """A key is only known to the group of calls that it comes with."""
    patch.setattr(Keys, "store", lambda keys, places: None)


def append_duplicates_again(patch: pytest.MonkeyPatch) -> None:
    """What was published before is published once more."""
    patch.setattr(_publish, "_without", lambda batch, repeats: batch)


def answer_with_the_newest(patch: pytest.MonkeyPatch) -> None:
    """A duplicate's answer says when it was repeated, not when it was published."""
    known = _publish._known

    def wrong(earlier: Any, appended: Any) -> Any:
        return known(earlier, appended)._replace(visible_ms=known(earlier, appended).created_ms)

    patch.setattr(_publish, "_known", wrong)


def write_half_of_a_refused_call(patch: pytest.MonkeyPatch) -> None:
    """A conflict leaves the batches before it in place."""
    admit = _KeyedCalls._admit

    def wrong(calls: _KeyedCalls, batches: Sequence[Batch]) -> list[Any]:
        return [each for batch in batches for each in admit(calls, [batch])]

    patch.setattr(_KeyedCalls, "_admit", wrong)


def forget_keys_with_their_message(patch: pytest.MonkeyPatch) -> None:
    """Without the day that they are to be kept."""
    patch.setattr(_idempotency, "_KEPT_MS", 0)


def keep_keys_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Nobody lets go of them when their message goes."""
    patch.setattr(_retention, "release_keys", lambda *_: None)


def cancel_without_counting_ahead(patch: pytest.MonkeyPatch) -> None:
    """What is cancelled ahead of the cursor still counts as to be handed out."""
    count = Cursor._count

    def wrong(cursor: Cursor, run: Run, first_seq: int, messages: int) -> None:
        ahead = cursor.ahead
        count(cursor, run, first_seq, messages)
        if run.state == State.CANCELLED:
            cursor.ahead = ahead

    patch.setattr(Cursor, "_count", wrong)


def purge_history_ahead_of_the_cursor(patch: pytest.MonkeyPatch) -> None:
    """Its absence reads as pending, so what was cancelled is delivered after all."""
    save = Cursor.save

    def wrong(cursor: Cursor) -> None:
        save(cursor)
        gone = f"{_LANE} AND state = {int(State.CANCELLED)} AND first_seq >= ?"
        lane = (*cursor._lane, cursor.next_seq)
        cursor.tx.execute(
            "UPDATE cursor SET ahead = ahead - (SELECT coalesce(sum(count), 0) FROM delivery"
            f" WHERE {gone}) WHERE {_LANE}",
            (*lane, *cursor._lane),
        )
        cursor.tx.execute(f"DELETE FROM delivery WHERE {gone}", lane)

    patch.setattr(Cursor, "save", wrong)


def cancel_what_is_finished(patch: pytest.MonkeyPatch) -> None:
    """A dead letter's cancel is answered as if it had been done."""
    patch.setattr(Cancel, "repeats", lambda self, run, handle: True)


def cancel_without_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Under a receipt that ran out, too."""
    patch.setattr(Cancel, "accepts", lambda self, run, now_ms: run.state in {0, 1, 5})


def replay_what_is_not_dead(patch: pytest.MonkeyPatch) -> None:
    """A retry that waits is hurried although only dead letters were asked for."""
    patch.setattr(Replay, "accepts", lambda self, run, now_ms: run.state in {1, 2})


def extend_by_nothing(patch: pytest.MonkeyPatch) -> None:
    """Without a time, the lease stays as it is instead of lasting its visibility longer."""
    apply = Extend.apply
    patch.setattr(
        Extend, "apply", lambda self, *rest: apply(Extend(0) if self.ms is None else self, *rest)
    )


def settle_all_like_the_first(patch: pytest.MonkeyPatch) -> None:
    """One call's later settlements are not looked at."""
    settle_in = _settle.settle_in

    def wrong(
        tx: Tx,
        subscriber_id: int,
        settlement: Settlement | Sequence[Settlement],
        handles: Sequence[Handle],
    ) -> list[Settled]:
        first = settlement if isinstance(settlement, Settlement) else settlement[0]
        return settle_in(tx, subscriber_id, first, handles)

    patch.setattr(storage, "settle_in", wrong)


def take_any_id(patch: pytest.MonkeyPatch) -> None:
    """An id of another publish, topic or subscriber is as good as the right one."""
    patch.setattr(_settle._Lane, "_names", lambda lane, handle, seq: True)


def believe_the_clock_on_the_wall(patch: pytest.MonkeyPatch) -> None:
    """It was set, and a time of day is taken for the queue's own time."""
    patch.setattr(_publish, "from_wall", lambda clock, wall_ms: wall_ms)


def forget_since_when_it_was_visible(patch: pytest.MonkeyPatch) -> None:
    """A retry that is released goes to the very front."""

    def wrong(run: Run, event: Event, at_ms: int, **given: Any) -> Run:
        return move(run, event, at_ms, **{**given, "since_ms": None})

    patch.setattr(_claim, "move", wrong)


def note_only_nacks(patch: pytest.MonkeyPatch) -> None:
    """A lease that ran out leaves no trace in the history."""

    def wrong(
        tx: Tx, run: Run, event: Event, subscriber: Subscriber, priority: int, error: str
    ) -> Run:
        return failed(run, event, subscriber, tx.now_ms, error, None)

    patch.setattr(_expiry, "fail_in", wrong)


def forget_failures_at_replay(patch: pytest.MonkeyPatch) -> None:
    """A dead letter's history starts over with its counts."""
    apply = Replay.apply

    def wrong(self: Replay, tx: Tx, subscriber: Subscriber, priority: int, run: Run) -> Run:
        tx.execute(f"DELETE FROM failure WHERE {_LANE}", (subscriber.id, priority))
        return apply(self, tx, subscriber, priority, run)

    patch.setattr(Replay, "apply", wrong)


def keep_failures_of_what_is_gone(patch: pytest.MonkeyPatch) -> None:
    """The history outlives its block."""
    patch.setattr(_retention, "erase_failures", lambda *_: False)


def erase_the_neighbours_failures(patch: pytest.MonkeyPatch) -> None:
    """A row that reaches into a block goes with it, whatever else it is about."""

    def wrong(
        tx: Tx, subscriber_id: int, priority: int, first_seq: int, end_seq: int, rows_max: int
    ) -> bool:
        tx.execute(
            f"DELETE FROM failure WHERE {_LANE} AND first_seq < ? AND first_seq + count > ?",
            (subscriber_id, priority, end_seq, first_seq),
        )
        return False

    patch.setattr(_retention, "erase_failures", wrong)


def begin_each_lane_at_the_same_number(patch: pytest.MonkeyPatch) -> None:
    """The next page begins in all lanes where the last one stopped in one of them."""
    patch.setattr(_lists, "_below", lambda snapshot, topic_id, lane, after: (after or _TOP)[2])


_TOP = (0, 0, 2**63 - 1)


def skip_lanes_of_the_same_time(patch: pytest.MonkeyPatch) -> None:
    """What was published in the same millisecond in a lower lane is left out of the next page."""
    first_since = _lists._first_since
    patch.setattr(
        _lists,
        "_first_since",
        lambda snapshot, topic_id, lane, ms: max(first_since(snapshot, topic_id, lane, ms) - 1, 0),
    )


def list_one_lane_after_the_other(patch: pytest.MonkeyPatch) -> None:
    """Each is in order, and all of them together are not."""
    merge = SimpleNamespace(merge=lambda *lanes, reverse: chain(*lanes))
    patch.setattr(_lists, "heapq", merge)


def lose_one_between_two_pages(patch: pytest.MonkeyPatch) -> None:
    """The next page begins after what would have been its first."""

    def wrong(found: Any, limit: int, place: Any) -> Page[Any]:
        items = list(found)
        if len(items) <= limit:
            return Page(items)
        return Page(items[:limit], place(items[limit]))

    patch.setattr(_lists, "page_of", wrong)


def show_a_message_as_if_fresh(patch: pytest.MonkeyPatch) -> None:
    """A status does not look at the rows."""
    patch.setattr(_status, "run_at", lambda *_: None)


def cancel_for_the_first_alone(patch: pytest.MonkeyPatch) -> None:
    """A message is given up for one subscriber instead of for all."""
    settle_in = _settle.settle_in

    def wrong(tx: Tx, subscriber_id: int, cancel: Cancel, handles: Sequence[Handle]) -> None:
        row = tx.row("SELECT min(id) FROM subscriber WHERE deleted_ms IS NULL")
        assert row is not None
        if subscriber_id == row[0]:
            settle_in(tx, subscriber_id, cancel, handles)

    patch.setattr(_status, "settle_in", wrong)


KEYS = [
    store_no_keys,
    append_duplicates_again,
    answer_with_the_newest,
    write_half_of_a_refused_call,
    forget_keys_with_their_message,
    keep_keys_for_ever,
    believe_the_clock_on_the_wall,
]
CANCELS = [
    cancel_without_counting_ahead,
    purge_history_ahead_of_the_cursor,
    cancel_what_is_finished,
    cancel_without_the_lease,
    cancel_for_the_first_alone,
    replay_what_is_not_dead,
    extend_by_nothing,
    settle_all_like_the_first,
    take_any_id,
    forget_since_when_it_was_visible,
]
FAILURES = [note_only_nacks, keep_failures_of_what_is_gone]
#: Walks come to these seldom: a test that goes there straight must fail.
RARE = [
    (
        forget_failures_at_replay,
        test_storage_failures.test_nacks_and_expired_leases_are_told_apart_and_survive_a_replay,
    ),
    (
        erase_the_neighbours_failures,
        test_storage_failures.test_a_dead_letter_keeps_its_history_when_its_neighbours_go,
    ),
]
LISTS = [
    begin_each_lane_at_the_same_number,
    skip_lanes_of_the_same_time,
    list_one_lane_after_the_other,
    lose_one_between_two_pages,
    show_a_message_as_if_fresh,
]


@pytest.mark.parametrize("breaks", [*KEYS, *CANCELS, *FAILURES, *LISTS])
@pytest.mark.slow
def test_random_walks_catch_a_fault(breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that cannot fail proves nothing: each of these faults makes it fail."""
    check_that_walks_catch(breaks, monkeypatch)


@pytest.mark.parametrize(("breaks", "test"), RARE)
def test_what_walks_seldom_meet_is_caught_directly(
    breaks: Break, test: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same faults, and a test that was made for each."""
    test(tmp_path)
    breaks(monkeypatch)
    (tmp_path / "broken").mkdir()

    with pytest.raises(AssertionError):
        test(tmp_path / "broken")
