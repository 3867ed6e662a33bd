"""The life of a delivery is the transition table, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from blockqueue.storage import BlockQueueError, Event, State
from blockqueue.storage._runs import Run, move
from blockqueue.storage._states import ACTIVE, HISTORY, TRANSITIONS, IllegalTransition, next_state

LEGAL = sorted(TRANSITIONS, key=str)
ILLEGAL = sorted(set(itertools.product(State, Event)) - set(TRANSITIONS), key=str)


def run_in(state: State) -> Run:
    """Make a run that could be stored in ``state``."""
    active = state in ACTIVE
    return Run(5, 3, int(state), 100 if active else None, None if active else 100, 2, 1, 2, "why")


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_each_legal_step_leads_where_the_table_says(state: State, event: Event) -> None:
    """Only the state, the due or end time, and the reason change."""
    moved = move(run_in(state), event, 900)

    assert moved.state == TRANSITIONS[state, event]
    assert (moved.first_seq, moved.count) == (5, 3)
    assert (moved.delivery_count, moved.failure_count, moved.generation) == (2, 1, 2)
    assert moved.reason is None
    active = moved.state in ACTIVE
    assert (moved.due_ms, moved.since_ms) == ((900, None) if active else (None, 900))


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_each_illegal_step_raises_and_nothing_happens(state: State, event: Event) -> None:
    """The error names the state and the event."""
    run = run_in(state)

    with pytest.raises(IllegalTransition, match=f"{state.name.lower()}.*{event.value}"):
        move(run, event, 900)

    assert run == run_in(state)


def test_history_is_final() -> None:
    """What was acknowledged or given up never comes back."""
    assert not [state for state, _ in TRANSITIONS if state in HISTORY]


def test_every_state_is_reached_from_a_pending_message() -> None:
    """A state that nothing leads to would be dead code."""
    reached = {State.PENDING}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in reached}:
        if more <= reached:
            break
        reached |= more

    assert reached == set(State)


def test_an_illegal_step_is_an_error_of_this_package() -> None:
    """Whoever catches the root catches this."""
    with pytest.raises(BlockQueueError):
        next_state(State.PROCESSED, Event.CLAIM)
