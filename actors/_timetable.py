"""What the sweeper knows of the schedules without asking the database each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from blockqueue.storage import (
    Store,
    Tx,
    finish_runs_in,
    fire_schedules_in,
    look_at_runs,
    next_schedule_ms,
)

# How long a look may keep an actor's thread; the next one goes on from there.
_LOOK_S_MAX = 0.02


class Fired(NamedTuple):
    """So many schedules have fired."""

    schedules: int


class Timetable:
    """When the next schedule is due, and which runs are done. Belongs to the sweeper.

    It reads the database only when something was committed since it last did.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        #: The commit counter as it was when the last complete look began.
        self._seen_commits = -1
        #: The same of a look that is not complete, and how far through the runs it is.
        self._begun_commits: int | None = None
        self._after: tuple[int, int] | None = None
        #: When the next schedule is due, in the wall's time.
        self._next_ms: int | None = None
        #: The numbers of runs that are to be finished.
        self._done: Sequence[int] = ()

    @property
    def is_old(self) -> bool:
        """Whether a look could find something new."""
        return self._store.hints.commits != self._seen_commits

    @property
    def due_in_ms(self) -> int | None:
        """How long until the next schedule is due, by the clock on the wall; 0: it is."""
        if self._next_ms is None:
            return None
        return max(0, self._next_ms - self._store.clock.wall_ms())

    def look(self) -> None:
        """Read what is due and what is done, as far as time allows. Raises BlockQueueError."""
        started = time.monotonic()
        if self._begun_commits is None:
            # Read before the database is: what is committed meanwhile makes this look old.
            self._begun_commits = self._store.hints.commits
        with self._store.reading() as snapshot:
            self._next_ms = next_schedule_ms(snapshot)
            while True:
                found = look_at_runs(snapshot, after=self._after)
                self._done, self._after = found.done, found.after
                if self._after is None:
                    self._seen_commits, self._begun_commits = self._begun_commits, None
                    return
                if self._done or time.monotonic() - started > _LOOK_S_MAX:
                    return

    def operation(self) -> Callable[[Tx], Fired] | None:
        """Return what is to be done in a transaction now, if anything."""
        if self.due_in_ms == 0:
            return _fire
        if self._done:
            return partial(_finish, numbers=self._done)
        return None

    def forget(self) -> None:
        """Note that what was found is not so any more: look again."""
        self._seen_commits = -1
        self._next_ms, self._done = None, ()


def _fire(tx: Tx) -> Fired:
    return Fired(fire_schedules_in(tx))


def _finish(tx: Tx, numbers: Sequence[int]) -> Fired:
    finish_runs_in(tx, numbers)
    return Fired(0)
