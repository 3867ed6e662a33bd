"""Telling the queue what becomes of jobs: many at once, and again if it could not be told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from blockqueue.api._log_context import busy_with
from blockqueue.storage import LeaseLost, NotFound

from ._outcomes import Acked, Cancelled, Nacked, Outcome
from ._run import Place
from ._slots import Done, Slots
from ._source import Source
from ._stats import Counts

logger = logging.getLogger("blockqueue.worker")

_RETRY_S_MIN, _RETRY_S_MAX = 0.010, 0.250
_LOOK_S = 5.0


class _Retry(msgspec.Struct):
    """A job whose outcome could not be told yet. Times are monotonic."""

    done: Done
    due_s: float
    delay_s: float
    deadline_s: float


class Settler:
    """A thread that settles what is done, all that has the same outcome by one call."""

    def __init__(
        self,
        source: Source,
        topic: str,
        subscriber: str,
        slots: Slots,
        counts: Counts,
        operation_timeout_s: float,
        final: tuple[type[Exception], ...],
    ) -> None:
        self._source = source
        self._topic = topic
        self._subscriber = subscriber
        self._slots = slots
        self._counts = counts
        self._operation_timeout_s = operation_timeout_s
        self._final = final
        self._retries: list[_Retry] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="blockqueue-settler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> bool:
        """Settle what is left, and end. Handlers that still run are not waited for.

        Returns whether it has ended: a call that hangs is not waited for either.
        """
        self._slots.close()
        self._ending.set()
        self._thread.join(2 * self._operation_timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        busy_with(Place(self._topic, self._subscriber))
        while True:
            done = self._slots.take_done(self._wait_s(), until_closed=not self._retries)
            if done:
                self._settle_all(done)
                self._slots.durations.sort()
            self._retry()
            if not done and not self._retries and self._ending.is_set():
                return

    def _wait_s(self) -> float:
        if not self._retries:
            return _LOOK_S
        return max(0.0, min(each.due_s for each in self._retries) - time.monotonic())

    def _settle_all(self, done: Sequence[Done]) -> None:
        alike: dict[Outcome, list[Done]] = {}
        for each in done:
            alike.setdefault(each.outcome, []).append(each)
        for outcome, group in alike.items():
            error = self._settle(outcome, group)
            if error is not None:
                logger.warning("%d outcomes could not be told: %s", len(group), error)
                deadline_s = time.monotonic() + self._operation_timeout_s
                self._retries += [
                    _Retry(each, time.monotonic() + _RETRY_S_MIN, _RETRY_S_MIN, deadline_s)
                    for each in group
                ]

    def _retry(self) -> None:
        """Try those again that are due, each by itself."""
        now_s = time.monotonic()
        for retry in [each for each in self._retries if each.due_s <= now_s]:
            error = self._settle(retry.done.outcome, [retry.done])
            retry.delay_s = min(2 * retry.delay_s, _RETRY_S_MAX)
            retry.due_s = time.monotonic() + retry.delay_s
            if error is not None and retry.due_s > retry.deadline_s:
                run = retry.done.run
                text = "%r comes again: its outcome is lost: %s"
                logger.error(text, run.held, error, extra=run.said())
                self._end("completion_failed", 1)
            elif error is not None:
                continue
            self._retries.remove(retry)

    def _settle(self, outcome: Outcome, group: Sequence[Done]) -> Exception | None:
        """Tell the queue. Returns the error if it is worth trying again."""
        try:
            self._call_for(outcome)([each.run.held for each in group])
        except LeaseLost as error:  # comes again, or has come: there is nothing more to do
            lost = min(len(error.lost), len(group)) or len(group)
            self._end("lease_lost", lost)
            self._end(_COUNTED[type(outcome)], len(group) - lost)
        except NotFound:
            self._end("lease_lost", len(group))
        except self._final as error:
            logger.error("%d jobs come again, their outcome is lost: %s", len(group), error)
            self._end("completion_failed", len(group))
        except Exception as error:
            return error
        else:
            self._end(_COUNTED[type(outcome)], len(group))
        return None

    def _call_for(self, outcome: Outcome) -> Callable[[Sequence[object]], None]:
        source, topic, subscriber = self._source, self._topic, self._subscriber
        match outcome:
            case Acked():
                return lambda held: source.ack(topic, subscriber, held)
            case Nacked(error, delay_s):
                return lambda held: source.nack(topic, subscriber, held, delay=delay_s, error=error)
            case Cancelled(reason):
                return lambda held: source.cancel(topic, subscriber, held, reason=reason)

    def _end(self, name: str, count: int) -> None:
        if count:
            self._counts.add(name, count)
            self._slots.settled(count)


_COUNTED: dict[type[Outcome], str] = {
    Acked: "processed",
    Nacked: "nacked",
    Cancelled: "cancelled",
}
