"""Calling a handler, whatever it does, and finding out what becomes of its job."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockqueue.api._log_context import busy_with

from ._outcomes import ACKED, Cancel, Nacked, Outcome, RetryAfter, outcome_of
from ._payload import Arguments, Undecodable
from ._run import Run

if TYPE_CHECKING:
    from blockqueue.otel import Tracing

logger = logging.getLogger("blockqueue.worker")


class Handling:
    """A handler with its arguments. Both ways of calling it return what becomes of the job.

    None: somebody else has said so already: the handler itself, or whoever gave it up.
    """

    def __init__(
        self, handler: Callable[..., Any], arguments: Arguments, tracing: Tracing | None
    ) -> None:
        self._handler = handler
        self._arguments = arguments
        self._tracing = tracing

    def call(self, run: Run) -> Outcome | None:
        busy_with(run)
        try:
            if self._tracing is None:
                _check_finished(self._handler(*self._arguments.of(run)))
            else:
                with self._tracing.processing(*run.place, run.held, Cancel):
                    _check_finished(self._handler(*self._arguments.of(run)))
        except BaseException as error:  # sys.exit, too, would only end the thread
            return self._failed(run, error)
        finally:
            busy_with(None)
        return ACKED if run.take() else None

    async def call_async(self, run: Run) -> Outcome | None:
        busy_with(run)  # until the task ends
        try:
            if self._tracing is None:
                _check_finished(await self._handler(*self._arguments.of(run)))
            else:
                with self._tracing.processing(*run.place, run.held, Cancel):
                    _check_finished(await self._handler(*self._arguments.of(run)))
        except asyncio.CancelledError as error:
            return self._failed(run, run.cause or error)
        except BaseException as error:
            return self._failed(run, error)
        return ACKED if run.take() else None

    def _failed(self, run: Run, error: BaseException) -> Outcome | None:
        run.result = "cancel_requested" if isinstance(error, Cancel) else "error"
        if not run.take():
            if not isinstance(error, Cancel | RetryAfter) and error is not run.cause:
                logger.warning(
                    "the handler of %r failed after it was completed or given up",
                    run.held,
                    exc_info=error,
                )
            return None
        if isinstance(error, Undecodable):
            logger.warning("%r: %s", run.held, error)
            return Nacked(str(error))
        if not isinstance(error, Cancel | RetryAfter):
            logger.warning("the handler of %r failed", run.held, exc_info=error)
        return outcome_of(error)


def _check_finished(returned: object) -> None:
    """Raise if a handler has only returned what would do the job, but has not done it."""
    if returned is None or not (
        inspect.isawaitable(returned)
        or inspect.isgenerator(returned)
        or inspect.isasyncgen(returned)
    ):
        return
    if inspect.iscoroutine(returned):
        returned.close()  # or Python would warn as well, of what nobody has awaited
    raise TypeError(
        f"the handler returned a {type(returned).__name__} instead of doing the job: "
        "what calls an async function must be 'async def' itself, and await it"
    )
