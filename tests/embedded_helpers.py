"""What the tests of the actors and of the embedded face need: threads, waits, a look inside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pykka

import blockqueue
from blockqueue import BlockQueue, ManualClock, Subscriber
from blockqueue.actors import Claim, Promise, Settle
from blockqueue.actors import _signals as signals
from blockqueue.actors._job import JobActor
from blockqueue.actors._runtime import inbox_of
from blockqueue.actors._subscriber import SubscriberActor
from blockqueue.storage import Ack, Delivery, Handle

T = TypeVar("T")

#: How long anything may take before a test fails. Much more than a loaded machine needs.
WAIT_S = 30.0
MINUTE_MS = 60_000
#: Names a delivery that nobody ever had.
NOTHING = Handle(0, -1, 0)


def background(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` on a thread of its own; the future has what it returns or raises."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def together(count: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(0)`` to ``work(count - 1)`` at the same time; return what they return."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(WAIT_S)
        return work(number)

    futures = [background(partial(run, number)) for number in range(count)]
    return [future.result(WAIT_S) for future in futures]


def eventually(condition: Callable[[], bool], step: Callable[[], object] | None = None) -> None:
    """Wait until ``condition`` holds, doing ``step`` before each look."""
    pause = threading.Event()
    for _ in range(round(WAIT_S / 0.005)):
        if step is not None:
            step()
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to that in time")


@contextmanager
def open_queue(
    directory: Path, *subscribers: Subscriber | str, **options: Any
) -> Iterator[tuple[BlockQueue, ManualClock]]:
    """Open a queue on a clock that stands still, with one topic, and close it in the end."""
    clock = ManualClock()
    with BlockQueue(directory / "queue.db", clock=clock, **options) as queue:
        queue.create_topic("cart", subscribers or ("worker",))
        yield queue, clock


def park(
    queue: BlockQueue,
    subscriber: str = "worker",
    topic: str = "cart",
    *,
    limit: int | None = 1,
    wait_ms: int = MINUTE_MS,
    through_pause: bool = False,
) -> Promise[list[Delivery]]:
    """Start a claim and return once it waits, or has been answered."""
    claim = Claim(subscriber, limit, wait_ms=wait_ms, through_pause=through_pause)
    promise: Promise[list[Delivery]] = queue.system.ask(topic, claim)
    settle_down(queue, subscriber, topic)
    return promise


def settle_down(queue: BlockQueue, subscriber: str = "worker", topic: str = "cart") -> None:
    """Wait until a subscriber's actor has done what it was told before."""

    def has_settled() -> bool:
        try:
            # What was said before may still be with the topic's actor, which passes it on.
            queue.job(topic).ask(signals.Wake(), timeout=WAIT_S)
        except pykka.ActorDeadError:
            return False
        ref = subscriber_ref(queue, subscriber, topic)
        actor = inbox_of(ref).owner
        assert isinstance(actor, SubscriberActor)
        try:
            # The answer comes before the end of the turn, so the second one means that the
            # first turn has ended.
            for _ in range(2):
                ref.ask(signals.Wake(), timeout=WAIT_S)
        except pykka.ActorDeadError:
            return False
        return not actor._claiming and ref.is_alive()

    eventually(has_settled)


def subscriber_ref(
    queue: BlockQueue, subscriber: str = "worker", topic: str = "cart"
) -> pykka.ActorRef[Any]:
    """Return a subscriber's actor, started by a settlement that settles nothing."""
    job = queue.job(topic)
    actor = inbox_of(job).owner
    assert isinstance(actor, JobActor)
    ref = actor._subscribers.get(subscriber)
    if ref is None or not ref.is_alive():
        job.ask(Settle(subscriber, Ack(), [NOTHING]), timeout=WAIT_S)
        ref = actor._subscribers[subscriber]
    return ref


def messages(deliveries: list[Delivery]) -> list[object]:
    """Return what the deliveries of an actor's answer say."""
    return [each.body for each in deliveries]


def living_actors() -> int:
    """Count the topics' and subscribers' actors of this process."""
    return sum(
        issubclass(ref.actor_class, JobActor | SubscriberActor)
        for ref in pykka.ActorRegistry.get_all()
    )


def claim(queue: BlockQueue, limit: int = 10, **options: Any) -> list[blockqueue.Delivery]:
    """Claim for the worker."""
    return queue.claim("cart", "worker", limit=limit, **options)


def counts(queue: BlockQueue) -> tuple[int, int, int]:
    """Return the worker's counters: waiting, leased, dead."""
    (status,) = (each for each in queue.subscribers("cart") if each.name == "worker")
    return status.waiting, status.leased, status.dead


def at(ms: int) -> datetime:
    """Return a time of the clock as the face gives it."""
    return datetime.fromtimestamp(ms / 1000, UTC)
