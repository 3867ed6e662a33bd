"""The schedules of one topic, for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from blockqueue.api._schedule_spec import ScheduleSpec
from blockqueue.storage import limits

from . import _scheduling
from ._async import AsyncTransport
from ._values import Page, Schedule, ScheduleRun


class AsyncSchedules:
    """The schedules of one topic; see ``blockqueue.Schedules``.

    ``id`` is a schedule's ``uid``. Every method raises TopicNotFound, and ScheduleNotFound if
    it is told an id that the topic does not have.
    """

    def __init__(self, transport: AsyncTransport, topic: str) -> None:
        self._transport = transport
        self._topic = topic

    async def create(self, spec: ScheduleSpec) -> Schedule:
        """See ``Schedules.create``."""
        return await self._transport.run(_scheduling.create(self._topic, spec))

    async def get(self, id: str) -> Schedule:
        """See ``Schedules.get``."""
        return await self._transport.run(_scheduling.get(self._topic, id))

    async def page(self, limit: int = 100, after: str | None = None) -> Page[Schedule]:
        """See ``Schedules.page``."""
        return await self._transport.run(_scheduling.page(self._topic, limit, after))

    def all(self) -> AsyncIterator[Schedule]:
        """See ``Schedules.all``."""
        return self._transport.each(partial(_scheduling.page, self._topic, limits.BATCH_MAX))

    async def update(self, id: str, spec: ScheduleSpec, version: int) -> Schedule:
        """See ``Schedules.update``."""
        return await self._transport.run(_scheduling.update(self._topic, id, spec, version))

    async def delete(self, id: str) -> None:
        """See ``Schedules.delete``."""
        await self._transport.run(_scheduling.delete(self._topic, id))

    async def pause(self, id: str) -> None:
        """See ``Schedules.pause``."""
        await self._transport.run(_scheduling.pause(self._topic, id, "pause"))

    async def resume(self, id: str) -> None:
        """See ``Schedules.resume``."""
        await self._transport.run(_scheduling.pause(self._topic, id, "resume"))

    async def run_now(self, id: str, force: bool = False) -> ScheduleRun:
        """See ``Schedules.run_now``."""
        return await self._transport.run(_scheduling.run_now(self._topic, id, force))

    async def run_page(
        self, id: str, limit: int = 100, after: str | None = None
    ) -> Page[ScheduleRun]:
        """See ``Schedules.run_page``."""
        return await self._transport.run(_scheduling.run_page(self._topic, id, limit, after))

    def runs(self, id: str) -> AsyncIterator[ScheduleRun]:
        """See ``Schedules.runs``."""
        page = partial(_scheduling.run_page, self._topic, id, limits.BATCH_MAX)
        return self._transport.each(page)
