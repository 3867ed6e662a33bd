"""What can become of a job, and how a handler says so."""

from __future__ import annotations

import traceback

import msgspec

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.storage import limits


class RetryAfter(Exception):
    """Raised by a handler: the job failed, and is to come again after ``delay``.

    It counts as a failure, like any other exception. A delay of 0 or less leaves it to the
    subscriber's retry policy. ``error`` is noted with the delivery. Raises ValidationError
    instead of itself, so that the job is nacked by the policy, if the delay is none.
    """

    def __init__(self, delay: Duration, error: str = "") -> None:
        delay_ms = max(0, milliseconds("delay", delay))
        limits.check_range("delay", delay_ms, 0, limits.DELAY_MS_MAX, " ms")
        self.delay_s = delay_ms / 1000
        super().__init__(error or f"to be tried again after {self.delay_s:g} s")


class Cancel(Exception):
    """Raised by a handler: the job is given up. It neither comes again nor is it dead."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        #: As text: a mistake here would leave the job with nobody, until its lease runs out.
        self.reason = str(reason)


class Acked(msgspec.Struct, frozen=True):
    """The handler returned."""


class Nacked(msgspec.Struct, frozen=True):
    """It failed: again after ``delay_s`` (None: by the subscriber's retry policy), or dead."""

    error: str
    delay_s: float | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """It is given up."""

    reason: str


Outcome = Acked | Nacked | Cancelled
ACKED = Acked()


def outcome_of(error: BaseException) -> Outcome:
    """Return what an exception of a handler means for its job."""
    if isinstance(error, Cancel):
        return Cancelled(error.reason)
    if isinstance(error, RetryAfter):
        return Nacked(str(error), error.delay_s if error.delay_s > 0 else None)
    return Nacked("".join(traceback.format_exception_only(error)).strip())
