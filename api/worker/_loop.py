"""Handlers that are coroutines, all on one thread with an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial

from ._outcomes import Outcome
from ._run import Run
from ._settings import Settings
from ._slots import Slots


class LoopSlots(Slots):
    """A task for each job. The loop's thread ends with the worker, and ends all its tasks."""

    def __init__(
        self, settings: Settings, handle: Callable[[Run], Awaitable[Outcome | None]]
    ) -> None:
        super().__init__(settings)
        self._handle = handle
        self._running: set[asyncio.Task[None]] = set()  # used on the loop's thread only
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="blockqueue-handlers", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self._runner:
            self._runner.run(self._closing.wait())

    def hand_out(self) -> None:
        self._soon(self._begin)

    def _begin(self) -> None:
        while True:
            with self._lock:
                begun = len(self._active) - len(self._waiting)
                if not self._waiting or begun >= self._settings.concurrency:
                    return
                run = self._next()
            task = self._loop.create_task(self._run(run))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            run.interrupt = partial(self._soon, task.cancel)
            if run.cause is not None:  # later, as a task that never began would not end, either
                run.interrupt()

    async def _run(self, run: Run) -> None:
        outcome = await self._handle(run)
        with self._lock:
            self._end(run, outcome)
        self._begin()

    def give_up(self, run: Run) -> int:
        hung = super().give_up(run)
        self.hand_out()
        return hung

    def _soon(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop has ended, and the tasks with it

    def close(self) -> None:
        """Cancel what still runs, also tasks that handlers have left behind, and end the loop."""
        self._soon(self._closing.set)
        self._thread.join(self._settings.hard_stop_s)
        super().close()
