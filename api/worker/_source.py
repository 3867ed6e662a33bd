"""Where a worker's jobs come from: a queue in this process, or a client of one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from pykka import ActorDeadError

from blockqueue.actors import Promise
from blockqueue.api._consuming import Consuming
from blockqueue.api._durations import Duration
from blockqueue.storage import Delivery as Stored
from blockqueue.storage import (
    Forbidden,
    NotFound,
    QueueClosed,
    Unauthorized,
    ValidationError,
    Withdrawn,
)

# How long a claim waits for a job. One of a queue in this process can be called off at any
# time; of another one we do not know, and a stop should not take longer than this.
_WAIT_HERE_S = 60.0
_WAIT_THERE_S = 5.0


class Source(Protocol):
    """What a worker needs of a queue. ``BlockQueue`` has it, and so has its HTTP client.

    Where some of the leases had ended, LeaseLost names them in ``lost``; the others are done.
    """

    def claim(
        self, topic: str, subscriber: str, *, limit: int, wait: Duration, lease: Duration
    ) -> Sequence[Any]: ...

    def ack(self, topic: str, subscriber: str, deliveries: Sequence[Any]) -> None: ...

    def nack(
        self,
        topic: str,
        subscriber: str,
        deliveries: Sequence[Any],
        *,
        delay: Duration | None,
        error: str,
    ) -> None: ...

    def extend(
        self, topic: str, subscriber: str, deliveries: Sequence[Any], *, by: Duration
    ) -> None: ...

    def snooze(
        self, topic: str, subscriber: str, deliveries: Sequence[Any], *, delay: Duration
    ) -> None: ...

    def cancel(
        self, topic: str, subscriber: str, deliveries: Sequence[Any], *, reason: str
    ) -> None: ...


class Claims:
    """Claims for one worker, one at a time."""

    #: What asking again does not change. A server that is closing will be there again.
    final: tuple[type[Exception], ...] = (NotFound, ValidationError, Unauthorized, Forbidden)

    def __init__(self, source: Source, topic: str, subscriber: str, lease_s: float) -> None:
        self._source = source
        self._topic = topic
        self._subscriber = subscriber
        self._lease_s = lease_s

    def claim(self, limit: int) -> Sequence[Any]:
        """Return up to ``limit`` deliveries, [] if none came for a while."""
        return self._source.claim(
            self._topic, self._subscriber, limit=limit, wait=_WAIT_THERE_S, lease=self._lease_s
        )

    def give_back(self, held: Sequence[Any]) -> None:
        """Let others have what no handler has seen. It is not a failure."""
        self._source.snooze(self._topic, self._subscriber, held, delay=0)

    def call_off(self) -> None:
        """Let a claim that waits end now, if that is possible, and all later ones at once."""


class ClaimsHere(Claims):
    """Claims of a queue in this process."""

    final = (*Claims.final, QueueClosed)

    def __init__(self, queue: Consuming, topic: str, subscriber: str, lease_s: float) -> None:
        super().__init__(queue, topic, subscriber, lease_s)
        self._queue = queue
        self._lock = threading.Lock()  # guards the two below
        self._promise: Promise[list[Stored]] | None = None
        self._off = False

    def claim(self, limit: int) -> Sequence[Any]:
        with self._lock:
            if self._off:
                return []
            tracing = self._queue.tracing
            span = None if tracing is None else tracing.claiming(self._topic, self._subscriber)
            promise = self._promise = self._queue.start_claim(
                self._topic,
                self._subscriber,
                limit=limit,
                wait=_WAIT_HERE_S,
                lease=self._lease_s,
            )
        try:
            found = promise.result(_WAIT_HERE_S + self._queue.timeout)
        except Withdrawn:
            return []
        except (NotFound, ActorDeadError):
            # Its actor has ended; whether the topic has too is seen by another one.
            return self._queue.claim(
                self._topic, self._subscriber, limit=limit, lease=self._lease_s
            )
        deliveries = self._queue.delivered(self._topic, self._subscriber, found)
        if span is not None:
            span.end(deliveries)
        return deliveries

    def give_back(self, held: Sequence[Any]) -> None:
        """As if it had not been claimed."""
        released = self._queue.system.release([each.stored(self._queue) for each in held])
        released.result(self._queue.timeout)

    def call_off(self) -> None:
        with self._lock:
            self._off = True
            if self._promise is not None:  # what it claims meanwhile is given back
                self._promise.fail(Withdrawn("the worker stops; nothing was claimed"))


def claims_of(source: Source, topic: str, subscriber: str, lease_s: float) -> Claims:
    if isinstance(source, Consuming):
        return ClaimsHere(source, topic, subscriber, lease_s)
    return Claims(source, topic, subscriber, lease_s)
