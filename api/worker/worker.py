"""A worker: claims jobs, lets a handler do them, and tells the queue what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from blockqueue.api._durations import Duration
from blockqueue.api._samples import Timing
from blockqueue.storage import BlockQueueError, Unavailable, ValidationError

from ._exposition import exposition
from ._payload import Arguments
from ._settings import checked
from ._shift import Shift
from ._signals import Signals
from ._source import Source
from ._stats import Durations, WorkerStats

H = TypeVar("H", bound=Callable[..., Any])


class Worker:
    """Lets a handler do a subscriber's jobs. Used once.

    The handler's first parameter says by its type what it wants: ``str``, ``bytes`` or a
    ``Job`` as it is, anything else decoded from JSON. A second one gets the ``Job``. When it
    returns the job is acked; when it raises, nacked with the text, unless it is a
    ``RetryAfter`` or a ``Cancel``. It may be ``async``: then all run on one thread.

    Args:
        source: a ``BlockQueue``, or a client of one.
        handler: or none, to give it by ``@worker.handler``.
        type: what payloads are decoded as, if the annotation does not say.
        concurrency: how many handlers run at once, 1 to 1000.
        batch: how many jobs a claim takes at most; default: as many as may run.
        lease: how long jobs are leased; see ``heartbeat``.
        heartbeat: how often leases are extended while handlers run; default: a third of the
            lease; 0: never.
        timeout: how long a handler may take; then its job is nacked, and ``Job.cancelled``
            or a CancelledError tells it to end. One that still hangs after ``hard_stop``
            loses its place; when ``concurrency`` of them hang the worker fails.
        operation_timeout: how long an outcome is tried to be told to the queue.
        drain: how long ``stop`` waits for handlers before it cancels them.
        hard_stop: how long cancelled handlers are waited for.
        pause_poll: how often a paused subscriber is looked at.
        completion_batch, completion_flush: so many outcomes are told together, if they come
            within so long.

    Raises:
        ValidationError: an option is wrong, or the handler's type cannot be decoded.
    """

    def __init__(
        self,
        source: Source,
        topic: str,
        subscriber: str,
        handler: Callable[..., Any] | None = None,
        *,
        type: Any = None,
        concurrency: int = 1,
        batch: int | None = None,
        lease: Duration = "1m",
        heartbeat: Duration | None = None,
        timeout: Duration | None = None,
        operation_timeout: Duration = "10s",
        drain: Duration = "30s",
        hard_stop: Duration = "1s",
        pause_poll: Duration = "5s",
        completion_batch: int = 100,
        completion_flush: Duration = "1ms",
    ) -> None:
        self._settings = checked(
            concurrency=concurrency,
            batch=batch,
            lease=lease,
            heartbeat=heartbeat,
            timeout=timeout,
            operation_timeout=operation_timeout,
            drain=drain,
            hard_stop=hard_stop,
            pause_poll=pause_poll,
            completion_batch=completion_batch,
            completion_flush=completion_flush,
        )
        self.topic = topic
        self.subscriber = subscriber
        #: What ended it, if it was not asked to end.
        self.error: BlockQueueError | None = None
        self._source = source
        self._kind = type
        self._lock = threading.Lock()  # guards all below
        self._handler: Callable[..., Any] | None = None
        self._arguments: Arguments | None = None
        self._shift: Shift | None = None
        self._on_end: list[Callable[[], object]] = []
        self._ended = threading.Event()
        if handler is not None:
            self.handler(handler)

    def __repr__(self) -> str:
        return f"<Worker of {self.topic!r} for {self.subscriber!r}>"

    def handler(self, handler: H) -> H:
        """Give it its handler; a decorator, which returns the function as it is."""
        arguments = Arguments(handler, self._kind)
        with self._lock:
            if self._handler is not None:
                raise ValidationError(f"{self!r} has a handler already: {self._handler!r}")
            self._handler, self._arguments = handler, arguments
        return handler

    def run(self) -> None:
        """Work until SIGTERM or Ctrl-C, then drain; a second signal does not wait for that.

        Raises what ended it otherwise: the topic or the subscriber is gone, the queue is
        closed, handlers hang. A drain that was not finished in time is an error, too.
        """
        with Signals() as signals:
            self.on_end(signals.end)
            self.start()
            signals.serve(self.begin_stop, self.force_stop)
        self.join()

    def start(self) -> Self:
        """Begin to work, on threads of its own."""
        with self._lock:
            if self._handler is None or self._arguments is None:
                raise ValidationError(f"{self!r} has no handler")
            if self._shift is not None:
                raise Unavailable(f"{self!r} was started before: make a new one")
            self._shift = Shift(
                self._source,
                self.topic,
                self.subscriber,
                self._handler,
                self._arguments,
                self._settings,
                self._end,
            )
        self._shift.start()
        return self

    def stop(self) -> None:
        """Claim nothing more, let the handlers end, and wait for that. Raises as ``run``."""
        self.begin_stop()
        self.join()

    def begin_stop(self) -> None:
        """Claim nothing more; it ends when its handlers have."""
        if self._shift is not None:
            self._shift.begin_stop()

    def force_stop(self) -> None:
        """Cancel the handlers now, without waiting for them to end by themselves."""
        if self._shift is not None:
            self._shift.force()

    def join(self) -> None:
        """Wait until it has ended. Raises as ``run``."""
        if self._shift is not None:
            self._ended.wait(threading.TIMEOUT_MAX)
        if self.error is not None:
            raise self.error

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, when it has ended."""
        with self._lock:
            if not self._ended.is_set():
                self._on_end.append(callback)
                return
        callback()

    def _end(self, error: BlockQueueError | None) -> None:
        with self._lock:
            self.error = error
            self._ended.set()
            callbacks, self._on_end = self._on_end, []
        for callback in callbacks:
            callback()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def stats(self) -> WorkerStats:
        """What it has done so far."""
        return WorkerStats() if self._shift is None else self._shift.stats

    @property
    def durations(self) -> dict[str, Timing]:
        """How long its handlers took, by how they ended: "ok", "error", "cancel_requested"."""
        return Durations().timings() if self._shift is None else self._shift.durations

    def exposition(self) -> str:
        """Return both as Prometheus reads it, in its text format 0.0.4.

        For a route of your own; ``blockqueue work --metrics-port`` has one.
        """
        return exposition([self])
