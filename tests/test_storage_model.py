"""The storage behaves as the naive model does, and a storage that is broken is caught."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from blockqueue.storage import Settlement, State, _cursors, _retention
from blockqueue.storage._cursors import Cursor
from blockqueue.storage._runs import Run
from blockqueue.storage._settle import _Lane
from blockqueue.storage._store import Store

from .storage_machine import StorageMachine
from .storage_walks import ENDLESS, WALKS, Break, check_that_walks_catch


@pytest.mark.timeout(0 if ENDLESS else 600)
def test_random_walks_agree_with_the_naive_model() -> None:
    """Whatever happens in whatever order, every delivery is where the model says."""
    run_state_machine_as_test(StorageMachine, settings=WALKS)


def join_whatever_touches(patch: pytest.MonkeyPatch) -> None:
    """History with different failure counts becomes one run."""
    patch.setattr(Run, "joins", lambda run, other: run.state == other.state)


def skip_the_generation_check(patch: pytest.MonkeyPatch) -> None:
    """A receipt works for ever."""
    patch.setattr(_Lane, "_proven", lambda lane, run, handle: True)


def honour_leases_that_ran_out(patch: pytest.MonkeyPatch) -> None:
    """Until the sweep comes by, a lease lives on."""
    patch.setattr(Settlement, "accepts", lambda self, run, now_ms: run.state == State.LEASED)


def leave_the_cursor_behind(patch: pytest.MonkeyPatch) -> None:
    """A row covers the cursor."""
    patch.setattr(Cursor, "skip_rows", lambda cursor: None)


def retry_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    """Among the due the oldest number comes first instead of the one due the longest."""
    wrong = _cursors._DUE.replace("ORDER BY due_ms, first_seq", "ORDER BY first_seq")
    assert wrong != _cursors._DUE
    patch.setattr(_cursors, "_DUE", wrong)


def delete_what_is_needed(patch: pytest.MonkeyPatch) -> None:
    """Retention forgets that dead letters and retries need their block."""
    patch.setattr(_retention, "_needed", lambda *_: [])


def forget_the_lease_hint(patch: pytest.MonkeyPatch) -> None:
    """A new hints file says that nothing is leased."""
    patch.setattr(Store, "_correct_lease_hint", lambda store: store.hints.set_lease_due(None))


@pytest.mark.parametrize(
    "breaks",
    [
        join_whatever_touches,
        skip_the_generation_check,
        honour_leases_that_ran_out,
        leave_the_cursor_behind,
        retry_in_the_wrong_order,
        delete_what_is_needed,
        forget_the_lease_hint,
    ],
)
def test_random_walks_catch_a_broken_storage(
    breaks: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that cannot fail proves nothing: each of these faults makes it fail."""
    check_that_walks_catch(breaks, monkeypatch)
