"""Workers: a handler is given one job after the other, and what it says becomes of them.

    def count(order: Order) -> None: ...

    Worker(queue, "cart", "counter", count, concurrency=16).run()

They need nothing of a queue but ``claim``, ``ack``, ``nack``, ``extend`` and ``cancel``, so
they work inside the process and over HTTP alike.
"""

from ._job import Job
from ._outcomes import Cancel, RetryAfter
from ._source import Source
from ._stats import WorkerStats
from .group import WorkerGroup
from .worker import Worker

__all__ = ["Cancel", "Job", "RetryAfter", "Source", "Worker", "WorkerGroup", "WorkerStats"]
