"""The future of our actors: one value, whoever is first, and callbacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import pykka

from blockqueue.storage import CommitUnknown, Withdrawn

logger = logging.getLogger("blockqueue")

T = TypeVar("T")
_Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

# How long a caller still waits for work that began before its deadline.
_BEGUN_WAIT_S = 30.0


class Promise(pykka.Future[T]):
    """A result that somebody waits for.

    Whoever completes it first wins; later attempts are told so by False. The caller may
    ``withdraw`` it until the work says ``begin``: then it will never happen. These two and
    the completion are each a pop from a one-item list, which exactly one thread can do.
    """

    _get_hook = None

    def __init__(self) -> None:  # what Pykka's does is left to ``set_get_hook``: few need it
        #: When it was made, by time.monotonic.
        self.made = time.monotonic()
        self._open = [None]
        self._not_begun = [None]
        self._done = False  # set once the value is there, before the callbacks run
        self._completed = threading.Lock()
        self._completed.acquire()
        self._callbacks: list[Callable[[Promise[T]], object]] = []
        self._value: Any = None
        self._error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return not self._open

    @property
    def error(self) -> BaseException | None:
        """The error it ended with, if it did."""
        return self._error

    @property
    def value(self) -> T:
        """The value it ended with; only meaningful once it is done without an error."""
        value: T = self._value
        return value

    def begin(self) -> bool:
        """Say that the work starts now. False: it was withdrawn and must not be done."""
        return self._take(self._not_begun)

    def withdraw(self, why: str) -> bool:
        """Give up waiting. True: the work did not begin and never will."""
        return self._take(self._not_begun) and self.fail(Withdrawn(f"{why}; nothing was written"))

    def complete(self, value: T) -> bool:
        """End it with a value. False: it had ended already, nobody gets this value."""
        return self.finish(value, None)

    def fail(self, error: BaseException) -> bool:
        """End it with an error. False: it had ended already."""
        return self.finish(None, error)

    @staticmethod
    def _take(token: list[None]) -> bool:
        try:
            token.pop()
        except IndexError:
            return False
        return True

    def finish(self, value: T | None, error: BaseException | None) -> bool:
        """End it with an error if there is one, else with a value. False: it had ended."""
        if not self._take(self._open):
            return False
        self._value, self._error = value, error
        self._done = True
        self._completed.release()
        self._run_callbacks()
        return True

    def on_done(self, callback: Callable[[Promise[T]], object]) -> None:
        """Call ``callback`` once when it is done, on the thread that completes it, or now."""
        self._callbacks.append(callback)
        if self._done:  # not the lock: whoever waits holds it for a moment, too
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:  # another thread took the last one
                return
            try:
                callback(self)
            except Exception:  # it must not harm the actor that completes this
                logger.exception("a promise's callback failed")

    def result(self, timeout: float) -> T:
        """Wait for the value as a caller with a deadline.

        Raises:
            Withdrawn: the work had not begun after ``timeout`` seconds, and never will.
            CommitUnknown: it began, and has not ended long after that.
            BlockQueueError: what the work ended with.
        """
        try:
            return self.get(timeout=timeout)
        except pykka.Timeout:
            self.withdraw(f"no answer within {timeout:g} s")
        try:
            return self.get(timeout=_BEGUN_WAIT_S)
        except pykka.Timeout:
            raise CommitUnknown(
                f"no answer within {timeout + _BEGUN_WAIT_S:g} s: it may still be written"
            ) from None

    # What Pykka expects of a future.

    def get(self, *, timeout: float | None = None) -> T:
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        bounded = -1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        if not self._completed.acquire(timeout=bounded):
            raise pykka.Timeout(f"{timeout} seconds")
        self._completed.release()
        if self._error is not None:
            raise self._error
        return self.value

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        super().__init__()
        super().set_get_hook(func)

    def set(self, value: T | None = None) -> None:
        self.finish(value, None)

    def set_exception(self, exc_info: _Raised | None = None) -> None:
        error = exc_info[1] if exc_info is not None else None
        self.finish(None, error or pykka.ActorDeadError("the actor is gone"))
