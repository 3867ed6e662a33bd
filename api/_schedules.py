"""Schedules: messages that are published again and again, by cron expressions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from blockqueue.storage import (
    After,
    Envelope,
    Page,
    RunsLook,
    Schedule,
    SchedulePlan,
    ScheduleRun,
    Snapshot,
    Tx,
    Unavailable,
    create_schedule_in,
    delete_schedule_in,
    finish_runs_in,
    limits,
    look_at_runs,
    pause_schedule_in,
    run_page,
    run_schedule_now_in,
    schedule,
    schedule_page,
    update_schedule_in,
)

from ._face import Face, topic_id
from ._message import Message
from ._messages import batch_of
from ._schedule_spec import ScheduleSpec

T = TypeVar("T")


def plan_of(spec: ScheduleSpec) -> SchedulePlan:
    """Return it as the storage knows it. Raises ValidationError, if the message is wrong."""
    headers = dict(spec.headers) if spec.headers else None
    correlation_id = spec.correlation_id or None
    batch_of(Message(spec.message, headers, correlation_id, spec.priority))
    body = Envelope(spec.message, headers, correlation_id)
    return SchedulePlan(spec.name, spec.cron, body, spec.timezone, spec.priority)


class Schedules:
    """The schedules of one topic.

    A schedule that is due publishes its message, once however many processes run, at most a
    second late. What it missed while no process ran is made up for by one run, for the first
    missed time. While a delivery of the previous run is unfinished, a run is skipped.

    ``id`` is a schedule's ``uid``. Every method raises TopicNotFound, and ScheduleNotFound if
    it is told an id that the topic does not have.
    """

    def __init__(self, queue: Face, topic: str) -> None:
        self._queue = queue
        self._topic = topic

    def create(self, spec: ScheduleSpec) -> Schedule:
        """Make a schedule. Its first run is the next time that it is due.

        Raises:
            AlreadyExists: another schedule of the topic has the name.
            ValidationError: something is out of range, or it is not due within 5 years.
        """
        plan = plan_of(spec)
        return self._change(lambda tx, number: create_schedule_in(tx, number, plan))

    def get(self, id: str) -> Schedule:
        """Return a schedule."""
        return self._read(lambda snapshot, number: schedule(snapshot, number, id))

    def page(self, limit: int = 100, after: After | None = None) -> Page[Schedule]:
        """Return up to ``limit`` (1 to 1000) schedules by name, from a page's ``after`` on."""
        limits.check_range("limit", limit, 1, limits.BATCH_MAX)
        return self._read(lambda snapshot, number: schedule_page(snapshot, number, limit, after))

    def update(self, id: str, spec: ScheduleSpec, version: int) -> Schedule:
        """Replace all that ``spec`` says. The next run is reckoned from now.

        Raises:
            StaleVersion: ``version`` is not the schedule's: somebody has changed it.
            AlreadyExists, ValidationError: as in ``create``.
        """
        plan = plan_of(spec)
        return self._change(lambda tx, number: update_schedule_in(tx, number, id, plan, version))

    def delete(self, id: str) -> None:
        """Delete a schedule with its runs. What it has published stays."""
        self._change(lambda tx, number: delete_schedule_in(tx, number, id))

    def pause(self, id: str) -> None:
        """Let it not fire. Repeatable; each time the version rises."""
        self._change(lambda tx, number: pause_schedule_in(tx, number, id, True))

    def resume(self, id: str) -> None:
        """End ``pause``. If its next run is past by now, it fires once, for that time."""
        self._change(lambda tx, number: pause_schedule_in(tx, number, id, False))

    def run_now(self, id: str, force: bool = False) -> ScheduleRun:
        """Publish its message now, even while it is paused; the next run stays as it is.

        While a delivery of the previous run is unfinished, the run that this returns is
        ``skipped``, unless ``force``.

        Raises NoSubscribers; that is noted as a ``failed`` run.
        """
        run, error = self._change(lambda tx, number: run_schedule_now_in(tx, number, id, force))
        if error is not None:
            raise error
        self._queue.system.wake(self._topic)
        return run

    def run_page(self, id: str, limit: int = 100, after: After | None = None) -> Page[ScheduleRun]:
        """Return up to ``limit`` (1 to 1000) runs, the latest first, from ``after`` on."""
        limits.check_range("limit", limit, 1, limits.BATCH_MAX)

        def read(snapshot: Snapshot, number: int) -> Page[ScheduleRun]:
            return run_page(snapshot, schedule(snapshot, number, id), limit, after)

        page = self._read(read)
        if any(run.status == "running" for run in page.items) and self._finish(id):
            page = self._read(read)
        return page

    def _finish(self, id: str) -> bool:
        """Note which runs are done, which otherwise is noted within a second. False: none."""
        found = False
        after: tuple[int, int] | None = None

        def look_on(snapshot: Snapshot, number: int) -> RunsLook:
            return look_at_runs(snapshot, schedule(snapshot, number, id), after)

        while True:
            look = self._read(look_on)
            if look.done:
                try:
                    self._queue.change(partial(finish_runs_in, numbers=look.done))
                except Unavailable:  # the disk is full, say; that must not end a reader
                    return False
                found = True
            after = look.after
            if after is None:
                return found

    def _read(self, read: Callable[[Snapshot, int], T]) -> T:
        with self._queue.system.reading() as snapshot:
            return read(snapshot, topic_id(snapshot, self._topic))

    def _change(self, change: Callable[[Tx, int], T]) -> T:
        return self._queue.change(lambda tx: change(tx, topic_id(tx, self._topic)))
