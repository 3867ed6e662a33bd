"""The actor that does what nobody asks for: expired leases, schedules, retention, news.

It also ends a caller's transaction that is open for too long: other processes cannot.

One process at a time holds the sweeper's role, by a lock that the system frees when it
dies. While it stands still the others do without it: what they do is guarded, so two at
once do no harm. An idle queue costs a look at a few mapped numbers twice a second, and no query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from blockqueue.storage import (
    FileLock,
    Position,
    Tx,
    delete_step_in,
    expire_in,
    mark_step_in,
    meters,
    next_delete_ms,
    purge_runs_in,
    purge_step_in,
    vacuum_step_in,
)

from . import _signals as signals
from ._engine import Engine
from ._promise import Promise
from ._runtime import PooledActor, tell
from ._signals import Ref
from ._timetable import Fired, Timetable

logger = logging.getLogger("blockqueue")

_TICK_MS = 500
# Maintenance follows the first change after it by this long, so that a busy queue is
# looked through every few seconds and not after each commit.
_REST_MS = 2_000
# After so long without a sign of life the holder of the role is taken to stand still.
_SILENT_S_MAX = 2.0


class _Tick(NamedTuple):
    """Half a second has passed."""


class _Due(NamedTuple):
    """A schedule is due."""


class _Ended(NamedTuple):
    """An operation that the sweeper gave to the writer has ended."""

    value: Any
    error: BaseException | None


class SweeperActor(PooledActor):
    """Looks every half second; works through the writer, one short step at a time."""

    def __init__(self, engine: Engine, queue: Ref, role: FileLock) -> None:
        super().__init__(engine.pool)
        self._engine = engine
        self._queue = queue
        self._role = role
        self._has_role = False
        self._foreign_commits = engine.store.foreign_commits
        self._timetable = Timetable(engine.store)
        self._working = False
        #: A schedule could not fire: until the next tick what makes room comes first.
        self._put_off_schedules = False
        #: What the operation under way is to the meters.
        self._doing = ""
        #: The steps of the maintenance pass under way that are still to be done.
        self._steps: list[_Step] = []
        self._seen_commits = -1
        self._rest_until_ms = 0
        self._delete_ms: int | None = None
        self._tick_later()

    def _tick_later(self) -> None:
        self._engine.alarm.after(_TICK_MS, partial(tell, self.actor_ref, _Tick()))

    def on_receive(self, message: Any) -> Any:
        match message:
            case _Tick():
                self._tick_later()
                if self._has_role:
                    self._engine.store.hints.beat()
                self._engine.store.put_out_guest()
                self._engine.set_gauges()
                self._tell_writer()
                self._tell_foreign_commits()
                self._put_off_schedules = False
                self._work()
                self._await_due()
            case _Due():
                self._work()
            case _Ended(value, error):
                self._on_ended(value, error)
            case signals.Gone():
                self.close()
            case _:
                raise TypeError(f"a SweeperActor cannot handle {message!r}")
        return None

    def on_stop(self) -> None:
        self._role.close()

    def _tell_writer(self) -> None:
        """Give the writer a turn if the store has failed elsewhere, or its log is long.

        A reader may be the one who meets a broken disk, and nobody may write for hours.
        """
        store = self._engine.store
        if store.failed is not None or store.is_untidy:
            self._engine.change(_nothing)

    def _tell_foreign_commits(self) -> None:
        """Wake those who wait if another process has committed something."""
        foreign = self._engine.store.foreign_commits
        if foreign != self._foreign_commits:
            self._foreign_commits = foreign
            tell(self._queue, signals.Wake())

    def _work(self) -> None:
        """Start the next operation, if there is anything to do and none under way."""
        if self._working or self._engine.store.failed is not None:
            return
        run = self._next_operation()
        if run is not None:
            self._working = True
            self._engine.change(run).on_done(partial(_tell_ended, self.actor_ref))

    def _next_operation(self) -> Callable[[Tx], Any] | None:
        """Return what is to be done first; None: nothing, or another process does it."""
        now_ms = self._engine.clock.now_ms()
        lease_due_ms = self._engine.store.hints.lease_due_ms
        expired = lease_due_ms is not None and lease_due_ms <= now_ms
        news = self._timetable.is_old or self._timetable.due_in_ms == 0
        if not (expired or news or self._steps or self._pass_due(now_ms)):
            return None
        if not self._take_role():
            return None
        if expired:
            self._doing = "delivery_reaper"
            return partial(_measured, _Step(self._doing, expire_in))
        scheduled = None if self._put_off_schedules else self._scheduled()
        if scheduled is not None:
            self._doing = "scheduler"
            return partial(_measured, _Step(self._doing, scheduled))
        if not self._steps and self._pass_due(now_ms):
            self._steps = [
                _Step("retention", partial(mark_step_in, position=Position())),
                _Step("retention", delete_step_in),
                _Step("retention", purge_runs_in),
                _Step("topology_cleanup", purge_step_in),
                _Step("retention", vacuum_step_in),
            ]
        if not self._steps:
            return None
        self._doing = self._steps[0].name
        return partial(_pass_on, self._steps)

    def _scheduled(self) -> Callable[[Tx], Any] | None:
        """Return what is to be done for the schedules, after a look if that is old."""
        try:
            if self._timetable.operation() is None and self._timetable.is_old:
                self._timetable.look()
        except Exception as error:  # the next tick tries again
            logger.warning("the schedules were put off: %s", error)
            return None
        return self._timetable.operation()

    def _await_due(self) -> None:
        """Set the alarm for a schedule that is due before the next tick."""
        due_in_ms = self._timetable.due_in_ms
        if due_in_ms and due_in_ms < _TICK_MS:
            self._engine.alarm.after(due_in_ms, partial(tell, self.actor_ref, _Due()))

    def _take_role(self) -> bool:
        if not self._has_role and self._role.try_acquire():
            self._has_role = True
            self._engine.store.hints.beat()
        return self._has_role or self._engine.store.hints.silent_s > _SILENT_S_MAX

    def _pass_due(self, now_ms: int) -> bool:
        if now_ms < self._rest_until_ms:
            return False
        if self._delete_ms is not None and self._delete_ms <= now_ms:
            return True
        return self._engine.store.hints.commits != self._seen_commits

    def _on_ended(self, value: Any, error: BaseException | None) -> None:
        self._working = False
        if error is not None:  # the disk is full, say: the next tick tries again
            logger.warning("maintenance was put off: %s", error)
            self._engine.store.meters.add(meters.MAINTENANCE_PASSES[self._doing, "failed"])
            if self._doing == "scheduler" and not self._put_off_schedules:
                self._put_off_schedules = True
                self._work()
            return
        if isinstance(value, _PassEnded):
            self._seen_commits = self._engine.store.hints.commits
            self._rest_until_ms = self._engine.clock.now_ms() + _REST_MS
            self._delete_ms = value.delete_ms
        elif isinstance(value, Fired):
            self._timetable.forget()
            if value.schedules:  # whose topics they are is not worth the asking
                tell(self._queue, signals.Wake())
        self._work()


def _nothing(tx: Tx) -> None:
    """An operation that lets the writer look at the store."""


class _Step(NamedTuple):
    """What is done in one transaction; True is its word for more to do. The name is the meters'."""

    name: str
    run: Callable[[Tx], Any]


class _PassEnded(NamedTuple):
    delete_ms: int | None


def _measured(step: _Step, tx: Tx) -> Any:
    began = time.monotonic()
    more = step.run(tx)
    took_s = time.monotonic() - began
    tx.store.meters.time(meters.MAINTENANCE_SECONDS[step.name], (took_s,))
    tx.count(meters.MAINTENANCE_PASSES[step.name, "yielded" if more is True else "success"])
    return more


def _pass_on(steps: list[_Step], tx: Tx) -> _PassEnded | None:
    """Do one step of a maintenance pass. Runs on the writer."""
    if not _measured(steps[0], tx):
        steps.pop(0)
    return None if steps else _PassEnded(next_delete_ms(tx))


def _tell_ended(ref: Ref, promise: Promise[Any]) -> None:
    tell(ref, _Ended(promise.value, promise.error))
