"""Several workers that run and end together."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from blockqueue.storage import ValidationError

from ._exposition import exposition
from ._signals import Signals
from .worker import Worker


class WorkerGroup:
    """Workers that are started and stopped together. When one of them ends, all do.

    Used once, like its workers.
    """

    def __init__(self, workers: Iterable[Worker]) -> None:
        self.workers = tuple(workers)
        if not self.workers:
            raise ValidationError("a group needs a worker")

    def run(self) -> None:
        """Work until SIGTERM or Ctrl-C, or until one fails; see ``Worker.run``."""
        with Signals() as signals:
            for worker in self.workers:
                worker.on_end(signals.end)
            self.start()
            signals.serve(self.begin_stop, self.force_stop)
            self.begin_stop()
            for _ in self.workers[1:]:
                signals.serve(self.begin_stop, self.force_stop)
        self.join()

    def start(self) -> Self:
        """Begin to work: all of them, or none if one cannot be started."""
        try:
            for worker in self.workers:
                worker.start()
            for worker in self.workers:  # only now: before its start none can be stopped
                worker.on_end(self.begin_stop)
        except BaseException:
            self.begin_stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all and wait for it. Raises the first one's error, if any has failed."""
        self.begin_stop()
        self.join()

    def begin_stop(self) -> None:
        for worker in self.workers:
            worker.begin_stop()

    def force_stop(self) -> None:
        for worker in self.workers:
            worker.force_stop()

    def join(self) -> None:
        """Wait until all have ended. Raises as ``stop``."""
        errors: list[Exception] = []
        for worker in self.workers:
            try:
                worker.join()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def exposition(self) -> str:
        """Return what all have done, as Prometheus reads it; see ``Worker.exposition``."""
        return exposition(self.workers)
