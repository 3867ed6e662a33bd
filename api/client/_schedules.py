"""The schedules of one topic."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from blockqueue.api._schedule_spec import ScheduleSpec
from blockqueue.storage import limits

from . import _scheduling
from ._sync import Transport
from ._values import Page, Schedule, ScheduleRun


class Schedules:
    """The schedules of one topic; see ``blockqueue.Schedules``.

    ``id`` is a schedule's ``uid``. Every method raises TopicNotFound, and ScheduleNotFound if
    it is told an id that the topic does not have.
    """

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic

    def create(self, spec: ScheduleSpec) -> Schedule:
        """Make a schedule. Its first run is the next time that it is due.

        Raises:
            AlreadyExists: another schedule of the topic has the name.
            ValidationError: something is out of range, or it is not due within 5 years.
        """
        return self._transport.run(_scheduling.create(self._topic, spec))

    def get(self, id: str) -> Schedule:
        """Return a schedule."""
        return self._transport.run(_scheduling.get(self._topic, id))

    def page(self, limit: int = 100, after: str | None = None) -> Page[Schedule]:
        """Return up to ``limit`` (1 to 1000) schedules by name, from a page's ``after`` on."""
        return self._transport.run(_scheduling.page(self._topic, limit, after))

    def all(self) -> Iterator[Schedule]:
        """Yield what all pages of ``page`` have."""
        return self._transport.each(partial(_scheduling.page, self._topic, limits.BATCH_MAX))

    def update(self, id: str, spec: ScheduleSpec, version: int) -> Schedule:
        """Replace all that ``spec`` says. The next run is reckoned from now.

        Raises:
            StaleVersion: ``version`` is not the schedule's: somebody has changed it. If an
                answer was lost, that may have been this call.
            AlreadyExists, ValidationError: as in ``create``.
        """
        return self._transport.run(_scheduling.update(self._topic, id, spec, version))

    def delete(self, id: str) -> None:
        """Delete a schedule with its runs. What it has published stays."""
        self._transport.run(_scheduling.delete(self._topic, id))

    def pause(self, id: str) -> None:
        """Let it not fire. Repeatable; each time the version rises."""
        self._transport.run(_scheduling.pause(self._topic, id, "pause"))

    def resume(self, id: str) -> None:
        """End ``pause``. If its next run is past by now, it fires once, for that time."""
        self._transport.run(_scheduling.pause(self._topic, id, "resume"))

    def run_now(self, id: str, force: bool = False) -> ScheduleRun:
        """Publish its message now, even while it is paused; the next run stays as it is.

        While a delivery of the previous run is unfinished, the run that this returns is
        ``skipped``, unless ``force``.

        Raises NoSubscribers; that is noted as a ``failed`` run. Raises AnswerLost rather
        than to risk a second run.
        """
        return self._transport.run(_scheduling.run_now(self._topic, id, force))

    def run_page(self, id: str, limit: int = 100, after: str | None = None) -> Page[ScheduleRun]:
        """Return up to ``limit`` (1 to 1000) runs, the latest first, from ``after`` on."""
        return self._transport.run(_scheduling.run_page(self._topic, id, limit, after))

    def runs(self, id: str) -> Iterator[ScheduleRun]:
        """Yield what all pages of ``run_page`` have."""
        page = partial(_scheduling.run_page, self._topic, id, limits.BATCH_MAX)
        return self._transport.each(page)
