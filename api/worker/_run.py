"""A job in the hands of a worker, as the worker's own parts see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from blockqueue.api._trace_context import PARENT, trace_id

# Guards the making of a run's event, which few runs need.
_making = threading.Lock()


class Place(NamedTuple):
    """Whose jobs a worker does."""

    topic: str
    subscriber: str

    def said(self) -> dict[str, object]:
        """Return what the log records of the worker's threads have besides."""
        return self._asdict()


class Run:
    """One delivery from its claim until its handler has ended.

    Exactly one of the handler, the worker and its watch says what becomes of it: whoever
    takes the right to. That is a pop from a one-item list, which one thread can do.
    """

    __slots__ = (
        "_event",
        "_right",
        "beat_due_s",
        "begun_s",
        "cause",
        "claimed_s",
        "extended_s",
        "held",
        "interrupt",
        "place",
        "result",
        "timed_out",
    )

    def __init__(self, place: Place, held: Any, claimed_s: float, beat_due_s: float) -> None:
        self.place = place
        self.held = held
        self.claimed_s = claimed_s
        #: The lease ends one lease after this, or a little sooner. Monotonic, as all here.
        self.extended_s = claimed_s
        self.beat_due_s = beat_due_s
        #: When its handler was called.
        self.begun_s: float | None = None
        #: How its handler has ended, see RESULTS.
        self.result = "ok"
        #: Why its handler should end, once it should.
        self.cause: BaseException | None = None
        #: Ends its handler from outside, if that is possible.
        self.interrupt: Callable[[], object] | None = None
        self.timed_out = False
        self._right = [None]
        self._event: threading.Event | None = None

    def said(self) -> dict[str, object]:
        """Return what the log records of its job have besides."""
        said = {**self.place.said(), "message_id": self.held.id}
        # A source of somebody else's may know no headers, and a log must not fail.
        headers = getattr(self.held, "headers", None) or {}
        found = trace_id(headers.get(PARENT))
        return said if found is None else {**said, "trace_id": found}

    @property
    def is_open(self) -> bool:
        """Whether nobody has said yet what becomes of it."""
        return bool(self._right)

    def take(self) -> bool:
        """Take the right to say what becomes of it. False: somebody else has it."""
        try:
            self._right.pop()
        except IndexError:
            return False
        return True

    def give_back(self) -> None:
        """Return the right: what was to become of it was rolled back."""
        self._right.append(None)

    def cancel(self, cause: BaseException) -> None:
        """Tell its handler to end. The first cause stays."""
        self.cause = self.cause or cause
        if self._event is not None:
            self._event.set()
        if self.interrupt is not None:
            self.interrupt()

    def wait_cancelled(self, timeout_s: float) -> bool:
        """Wait until it is cancelled. Returns whether it is."""
        with _making:
            if self._event is None:
                self._event = threading.Event()
        return self.cause is not None or self._event.wait(timeout_s)
