"""A delivery run: neighbours in a lane that share one state for one subscriber."""

from __future__ import annotations

import msgspec

from ._states import ACTIVE, HISTORY, Event, State, next_state

# History runs join only if they ended within the same minute, so that the time shown
# for a message is right to the minute, however long its run grows.
_ENDED_TOGETHER_MS = 60_000

COLUMNS = (
    "first_seq, count, state, due_ms, since_ms, delivery_count, failure_count, generation, reason"
)


class Run(msgspec.Struct, frozen=True, gc=False):
    """The columns of a row of ``delivery``, less whose and in which lane."""

    first_seq: int
    count: int
    state: int
    due_ms: int | None = None
    since_ms: int | None = None
    delivery_count: int = 0
    failure_count: int = 0
    #: How often these messages were claimed. Never falls: it fences old receipts.
    generation: int = 0
    reason: str | None = None

    @property
    def end_seq(self) -> int:
        return self.first_seq + self.count

    def is_history(self) -> bool:
        return self.state in HISTORY

    def part(self, first_seq: int, count: int) -> Run:
        """Return the same run, narrowed."""
        return msgspec.structs.replace(self, first_seq=first_seq, count=count)

    def joins(self, other: Run) -> bool:
        """Say whether two history runs that touch can be one."""
        return (
            self.state == other.state
            and self.generation == other.generation
            and self.delivery_count == other.delivery_count
            and self.failure_count == other.failure_count
            and self.reason == other.reason
            and self.ended_minute() == other.ended_minute()
        )

    def ended_minute(self) -> int:
        return (self.since_ms or 0) // _ENDED_TOGETHER_MS


def move(
    run: Run,
    event: Event,
    at_ms: int,
    *,
    delivery_count: int | None = None,
    failure_count: int | None = None,
    generation: int | None = None,
    reason: str | None = None,
    since_ms: int | None = None,
) -> Run:
    """Return ``run`` after ``event``.

    ``at_ms`` is when it is due if the new state has a due time, else when it ended.
    ``since_ms``: of a claim, since when it could have been made. Counts stay as they are
    unless given; the reason does not.
    """
    state = next_state(State(run.state), event)
    if state not in ACTIVE:
        since_ms = at_ms
    elif event is Event.EXTEND:
        since_ms = run.since_ms
    return Run(
        run.first_seq,
        run.count,
        int(state),
        at_ms if state in ACTIVE else None,
        since_ms,
        run.delivery_count if delivery_count is None else delivery_count,
        run.failure_count if failure_count is None else failure_count,
        run.generation if generation is None else generation,
        reason,
    )
