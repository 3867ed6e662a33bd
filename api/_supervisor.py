"""The parent of ``blockqueue serve --workers``: starts workers, replaces them, ends them.

It has one thread, no actors and no database. Whatever happens is a signal, or something on the
link of a worker, and is handled in one loop.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType

from ._lock_watch import LockWatch
from ._service_manager import ServiceManager
from ._worker_process import Worker

logger = logging.getLogger("blockqueue")

# How often the loop looks for what tells nobody: a lock that is held, a time that has come.
_LOOK_S = 0.25
# The first restart is at once; those of a crash loop come after these and more seconds.
_BACKOFF_S = 0.1
_BACKOFF_S_MAX = 5.0
# A worker that was ready for so long is not in a crash loop.
_RAN_WELL_S = 1.0
_DRAIN_S = 9.0
# How long a worker may hold the write lock. One that starts may be migrating the file.
_LOCK_S_MAX = 5.0
_LOCK_STARTING_S_MAX = 600.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SupervisorFailed(Exception):
    """The server could not start, or did not end in order. The text says why."""


class _Seat:
    """A place for one worker."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        #: How many have ended in a row without having run well.
        self.failures = 0
        #: When it may be taken again.
        self.due = 0.0

    def vacate(self, ran_well: bool) -> float:
        """Note that its worker has ended; return after how many seconds another is due."""
        self.worker = None
        self.failures = 1 if ran_well else self.failures + 1
        wait_s = 0.0 if self.failures == 1 else _BACKOFF_S * 2 ** (self.failures - 2)
        wait_s = min(wait_s, _BACKOFF_S_MAX)
        self.due = time.monotonic() + wait_s
        return wait_s


class Supervisor:
    """Keeps ``count`` workers serving on ``listener`` until SIGTERM or SIGINT.

    ``run`` belongs to the main thread, and calls ``on_serving`` once when all are ready.
    """

    def __init__(
        self,
        count: int,
        listener: socket.socket,
        db: str,
        on_serving: Callable[[], None],
        manager: ServiceManager,
    ) -> None:
        self._listener = listener
        self._db = db
        self._manager = manager
        self._on_serving: Callable[[], None] | None = on_serving
        self._seats = [_Seat(number) for number in range(1, count + 1)]
        #: Known once the first worker is ready: only then are there files to look at.
        self._watch: LockWatch | None = None
        self._selector = selectors.DefaultSelector()
        self._received: deque[int] = deque()
        self._stopping = False
        #: Who is still to be replaced after SIGHUP, and who comes for whom at the moment.
        self._to_replace: deque[Worker] = deque()
        self._successor: tuple[_Seat, Worker] | None = None
        self._untidy: list[str] = []

    def run(self) -> None:
        """Serve. Raises SupervisorFailed."""
        with self._signals():
            try:
                while not self._stopping or self._workers():
                    for key, _ in self._selector.select(_LOOK_S):
                        if isinstance(key.data, Worker):
                            self._hear(key.data)
                    self._obey()
                    self._fill_seats()
                    self._replace_next()
                    self._kill_the_stuck()
                    self._manager.tell_alive()
            finally:
                for worker in self._workers():
                    worker.kill()
                    worker.reap()
        if self._untidy:
            raise SupervisorFailed("; ".join(self._untidy))

    def _workers(self) -> list[Worker]:
        keys = self._selector.get_map().values()
        return [key.data for key in keys if isinstance(key.data, Worker)]

    # Signals.

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Note signals, and let them end a wait."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            self._selector.register(reading, selectors.EVENT_READ, reading)
            signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            before = {number: signal.signal(number, self._note) for number in _SIGNALS}
            self._wakeup = reading
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(-1)
                self._selector.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(1024)
        while self._received:
            number = self._received.popleft()
            if number == signal.SIGHUP:
                self._restart_all()
            elif self._stopping:
                for worker in self._workers():
                    worker.kill()
                raise SystemExit(128 + number)
            else:
                self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._manager.tell_stopping()
        self._to_replace.clear()
        self._listener.close()
        for worker in self._workers():
            worker.drain(_DRAIN_S)

    # Workers that come and go.

    def _start(self, *, is_replacement: bool) -> Worker | None:
        """Start a worker; None if the system starts no process at the moment.

        That is no reason to end those that serve: it may be short of memory or of processes.
        """
        try:
            worker = Worker(self._listener, is_replacement=is_replacement)
        except OSError as error:
            text = f"no worker can be started: {error}"
            if self._watch is None:
                raise SupervisorFailed(text) from error
            logger.error(text)
            return None
        self._selector.register(worker.link, selectors.EVENT_READ, worker)
        return worker

    def _fill_seats(self) -> None:
        """Start a worker on each seat that is free. The first one alone: it makes the file."""
        if self._stopping:
            return
        for seat in self._seats if self._watch is not None else self._seats[:1]:
            if seat.worker is None and seat.due <= time.monotonic():
                seat.worker = self._start(is_replacement=seat.failures > 0)
                if seat.worker is None:
                    seat.vacate(ran_well=False)

    def _hear(self, worker: Worker) -> None:
        was_ready = worker.ready_at is not None
        if not worker.hear():
            self._selector.unregister(worker.link)
            self._on_ended(worker, worker.reap())
        elif worker.ready_at is not None and not was_ready:
            self._on_ready(worker)

    def _on_ready(self, worker: Worker) -> None:
        if self._watch is None:
            self._watch = LockWatch(self._db)
        if self._successor is not None and self._successor[1] is worker:
            seat, self._successor = self._successor[0], None
            old, seat.worker = seat.worker, worker
            if old is not None:
                old.drain(_DRAIN_S)
        ready = [seat.worker is not None and bool(seat.worker.ready_at) for seat in self._seats]
        if self._on_serving is not None and all(ready):
            self._on_serving()
            self._on_serving = None

    def _on_ended(self, worker: Worker, how: str) -> None:
        if self._stopping:
            if how and worker.ready_at is not None:
                self._untidy.append(f"worker {worker.pid} did not end in order: {how}")
            return
        if self._watch is None:
            raise SupervisorFailed(worker.reason or f"the first worker did not start: {how}")
        if self._successor is not None and self._successor[1] is worker:
            logger.error("the restart stops: worker %d could not start: %s", worker.pid, how)
            self._successor = None
            self._to_replace.clear()
        for seat in self._seats:
            if seat.worker is worker:
                wait_s = seat.vacate(worker.ran_s >= _RAN_WELL_S)
                level = logging.ERROR if how else logging.INFO
                text = "worker %d has ended: %s; another starts in %g s"
                logger.log(level, text, worker.pid, how or "in order", wait_s)

    # Restarting one by one.

    def _restart_all(self) -> None:
        """Note that all that serve now are to be replaced; done by ``_replace_next``."""
        if not self._stopping:
            serving = [seat.worker for seat in self._seats if seat.worker is not None]
            self._to_replace = deque(serving)
            logger.info("restarting %d workers, one by one", len(serving))

    def _replace_next(self) -> None:
        """Start the next one's successor, once the one before it has ended."""
        if self._stopping or self._successor is not None or not self._to_replace:
            return
        if any(worker.end_by is not None for worker in self._workers()):
            return
        old = self._to_replace.popleft()
        for seat in self._seats:
            if seat.worker is old:  # or it has ended by itself, and was replaced
                successor = self._start(is_replacement=False)
                if successor is None:
                    logger.error("the restart stops")
                    self._to_replace.clear()
                    return
                self._successor = seat, successor

    # Workers that do not obey.

    def _kill_the_stuck(self) -> None:
        for worker in self._workers():
            if worker.end_by is not None and worker.end_by < time.monotonic():
                logger.error("worker %d does not end in time and is killed", worker.pid)
                worker.kill()
        found = self._watch.look() if self._watch is not None else None
        if found is None:
            return
        holder, held_s = found
        for worker in self._workers():
            limit_s = _LOCK_S_MAX if worker.ready_at is not None else _LOCK_STARTING_S_MAX
            if worker.pid == holder and held_s >= limit_s:
                logger.error(
                    "worker %d has held the write lock for %.1f s and is killed", holder, held_s
                )
                worker.kill()
