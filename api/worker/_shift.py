"""One worker at work, from its first claim until its last outcome was told."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from blockqueue.api._log_context import busy_with
from blockqueue.api._samples import Timing
from blockqueue.storage import (
    BlockQueueError,
    Paused,
    Unavailable,
)

from ._handling import Handling
from ._heart import Heart
from ._loop import LoopSlots
from ._payload import Arguments, is_async
from ._run import Place, Run
from ._settings import Settings
from ._settler import Settler
from ._slots import Slots
from ._source import Source, claims_of
from ._stats import Counts, WorkerStats
from ._threads import ThreadSlots
from ._watch import Watch

logger = logging.getLogger("blockqueue.worker")

_BACKOFF_S_MIN, _BACKOFF_S_MAX = 0.050, 1.0
_PAUSE_SPREAD = (0.8, 1.2)
# A claim that was to wait, and came back so soon with nothing, did not wait.
_WAITED_S = 0.010


class Shift:
    """The threads of one worker. ``begin_stop`` and ``force`` are safe for any thread."""

    def __init__(
        self,
        source: Source,
        topic: str,
        subscriber: str,
        handler: Callable[..., Any],
        arguments: Arguments,
        settings: Settings,
        on_end: Callable[[BlockQueueError | None], None],
    ) -> None:
        self._place = Place(topic, subscriber)
        self._name = f"{topic}/{subscriber}"
        self._settings = settings
        self._on_end = on_end
        self._claims = claims_of(source, topic, subscriber, settings.lease_s)
        self._counts = counts = Counts()
        handling = Handling(handler, arguments, getattr(source, "tracing", None))
        self._slots: Slots
        if is_async(handler):
            self._slots = LoopSlots(settings, handling.call_async)
        else:
            self._slots = ThreadSlots(settings, handling.call)
        names = (source, topic, subscriber, self._slots, counts)
        self._settler = Settler(*names, settings.operation_timeout_s, self._claims.final)
        self._heart: Heart | None = None
        if settings.heartbeat_s is not None:
            self._heart = Heart(*names, settings.lease_s, settings.heartbeat_s)
        self._watch: Watch | None = None
        if settings.timeout_s is not None:
            self._watch = Watch(
                self._slots,
                counts,
                settings.timeout_s,
                settings.hard_stop_s,
                settings.concurrency,
                self._fail,
            )
        self._error: BlockQueueError | None = None
        self._stopping = threading.Event()

    @property
    def stats(self) -> WorkerStats:
        return self._slots.stats(self._counts)

    @property
    def durations(self) -> dict[str, Timing]:
        return self._slots.durations.timings()

    def start(self) -> None:
        self._settler.start()
        for each in (self._heart, self._watch):
            if each is not None:
                each.start()
        threading.Thread(target=self._work, name="blockqueue-worker", daemon=True).start()

    def begin_stop(self) -> None:
        self._stopping.set()
        self._slots.stop()
        self._claims.call_off()

    def force(self) -> None:
        self.begin_stop()
        self._slots.force()

    def _fail(self, error: BlockQueueError) -> None:
        self._error = self._error or error
        self.begin_stop()

    def _work(self) -> None:
        busy_with(self._place)
        try:
            self._claim_all()
        except BlockQueueError as error:
            self._error = self._error or error
        except BaseException as error:
            logger.exception("the worker of %s failed", self._name)
            self._error = Unavailable(f"the worker of {self._name} failed: {error!r}")
        try:
            self._end()
        finally:
            self._on_end(self._error)

    # Claiming.

    def _claim_all(self) -> None:
        """Claim until the worker stops. Raises what asking again would not change."""
        troubles = _Troubles(self._name, self._settings.pause_poll_s, self._claims.final)
        while not self._slots.is_stopping:
            limit = self._slots.room()
            self._give_back()
            if not limit:
                continue
            asked_s = time.monotonic()
            try:
                found = self._claims.claim(limit)
            except Exception as error:
                self._stopping.wait(troubles.wait_s(error))
                continue
            troubles.over()
            if found and self._slots.is_stopping:  # no handler begins after that
                self._hand_back(found)
            elif found:
                self._begin(found)
            elif time.monotonic() - asked_s < _WAITED_S:
                self._stopping.wait(_BACKOFF_S_MIN)

    def _begin(self, found: Sequence[Any]) -> None:
        now_s = time.monotonic()
        due_s = now_s if self._heart is None else self._heart.due_s(now_s)
        self._slots.add([Run(self._place, held, now_s, due_s) for held in found])

    def _give_back(self) -> None:
        """Let others have the jobs that would have to wait for a handler here."""
        runs = [run for run in self._slots.take_waiting() if run.take()]
        if runs:
            self._hand_back([run.held for run in runs])

    def _hand_back(self, held: Sequence[Any]) -> None:
        try:
            self._claims.give_back(held)
        except Exception as error:  # then they come again when their leases run out
            logger.warning("%d jobs could not be given back: %s", len(held), error)

    # Ending.

    def _end(self) -> None:
        """Let the handlers end, then make them; tell what became of their jobs."""
        settings = self._settings
        self._slots.stop()
        self._give_back()
        if not self._slots.wait_idle(settings.drain_s):
            cause = Unavailable("the worker stops")
            for run in self._slots.active():
                run.cancel(cause)
            if not self._slots.wait_idle(settings.hard_stop_s, forced=True):
                left = len(self._slots.active())
                logger.error("%d handlers of %s did not end", left, self._name)
                self._error = self._error or Unavailable(
                    f"{left} handlers did not end in time; their jobs come again"
                )
        if not self._settler.finish():
            logger.error("what became of the last jobs of %s was not told in time", self._name)
            self._error = self._error or Unavailable(
                "what became of the last jobs could not be told in time; they may come again"
            )
        for each in (self._heart, self._watch):
            if each is not None:
                each.stop()


class _Troubles:
    """Why claims fail, said once, and how long to wait before the next."""

    def __init__(self, name: str, pause_poll_s: float, final: tuple[type[Exception], ...]) -> None:
        self._name = name
        self._final = final
        self._pause_poll_s = pause_poll_s
        self._paused = self._failing = False
        self._backoff_s = _BACKOFF_S_MIN

    def wait_s(self, error: Exception) -> float:
        """Return how long to wait. Raises the error if to wait would not help."""
        if isinstance(error, Paused):
            if not self._paused:
                logger.info("%s is paused", self._name)
            self._paused = True
            return self._pause_poll_s * random.uniform(*_PAUSE_SPREAD)
        if isinstance(error, self._final):
            raise error
        if not self._failing:
            logger.warning("cannot claim for %s, trying again: %s", self._name, error)
        self._failing = True
        backoff_s = self._backoff_s
        self._backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)
        return backoff_s

    def over(self) -> None:
        if self._paused or self._failing:
            logger.info("%s can be claimed from again", self._name)
        self._paused = self._failing = False
        self._backoff_s = _BACKOFF_S_MIN
