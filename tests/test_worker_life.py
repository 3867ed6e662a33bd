"""How workers start, claim, pause, drain and end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from blockqueue import (
    BlockQueue,
    DiskFull,
    Job,
    LeaseLost,
    QueueClosed,
    State,
    Subscriber,
    TopicNotFound,
    Unauthorized,
    Unavailable,
    ValidationError,
    Worker,
    WorkerGroup,
)
from blockqueue.worker._slots import Slots

from .embedded_helpers import WAIT_S, background, eventually


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("counter", max_attempts=9, retry_initial=0)])
        yield queue


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


class Held:
    """A delivery of the source below."""

    def __init__(self, number: int) -> None:
        self.id = str(number)
        self.message = str(number)

    def __repr__(self) -> str:
        return f"<Held {self.id}>"


class FakeSource:
    """A queue that a test plays: it notes what it is asked, and does what it is told."""

    def __init__(self, count: int = 0) -> None:
        self.lock = threading.Lock()
        self.left = [Held(number) for number in range(count)]
        self.limits: list[int] = []
        self.acked: list[str] = []
        self.given_back: list[str] = []
        #: To be raised, one a call.
        self.claim_errors: list[Exception] = []
        self.ack_errors: list[Exception] = []
        self.asked = threading.Semaphore(0)

    def claim(self, topic: str, subscriber: str, *, limit: int, **_: Any) -> Sequence[Held]:
        with self.lock:
            self.limits.append(limit)
            self.asked.release()
            if self.claim_errors:
                raise self.claim_errors.pop(0)
            found, self.left = self.left[:limit], self.left[limit:]
            return found

    def ack(self, topic: str, subscriber: str, deliveries: Sequence[Held]) -> None:
        with self.lock:
            if self.ack_errors:
                raise self.ack_errors.pop(0)
            self.acked += [each.id for each in deliveries]

    def snooze(self, topic: str, subscriber: str, deliveries: Sequence[Held], **_: Any) -> None:
        with self.lock:
            self.given_back += [each.id for each in deliveries]

    def nack(self, topic: str, subscriber: str, deliveries: Sequence[Held], **_: Any) -> None: ...

    def extend(self, topic: str, subscriber: str, deliveries: Sequence[Held], **_: Any) -> None: ...

    def cancel(self, topic: str, subscriber: str, deliveries: Sequence[Held], **_: Any) -> None: ...


def nothing(payload: str) -> None: ...


# Claiming.


def test_as_many_handlers_run_as_asked_for_and_no_more_is_claimed() -> None:
    """With no slot free nothing is claimed; with one free, one job of handlers that are slow."""
    source = FakeSource(100)
    running = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def handle(payload: str) -> None:
        running.release()
        assert go_on.acquire(timeout=WAIT_S)

    with Worker(source, "cart", "counter", handle, concurrency=3) as worker:
        for _ in range(3):
            assert running.acquire(timeout=WAIT_S)
        assert not running.acquire(timeout=0.05)
        assert source.limits == [3]
        go_on.release()
        assert running.acquire(timeout=WAIT_S)
        eventually(lambda: source.limits == [3, 1])
        assert worker.stats.active == 3
        go_on.release(200)
        eventually(lambda: worker.stats.processed == 100)

    assert sorted(map(int, source.acked)) == list(range(100))


def test_a_claim_takes_no_more_than_the_batch() -> None:
    """Though more slots are free."""
    source = FakeSource(10)
    with Worker(source, "cart", "counter", nothing, concurrency=8, batch=2) as worker:
        eventually(lambda: worker.stats.processed == 10)
    assert max(source.limits) == 2


def test_jobs_claimed_ahead_are_given_back_when_handlers_get_slow() -> None:
    """Quick handlers get several at a time; then one hangs, and others may have the rest."""
    source = FakeSource(200)
    hang, go_on = threading.Event(), threading.Event()

    def handle(payload: str) -> None:
        if hang.is_set():
            assert go_on.wait(WAIT_S)

    with Worker(source, "cart", "counter", handle, concurrency=1) as worker:
        eventually(lambda: worker.stats.processed == 200)
        assert max(source.limits) > 1
        hang.set()
        with source.lock:
            source.left = [Held(number) for number in range(200, 203)]
        eventually(lambda: sorted(source.given_back) == ["201", "202"])
        go_on.set()
        eventually(lambda: worker.stats.processed == 201)


def test_a_source_that_does_not_wait_is_not_asked_in_a_tight_loop() -> None:
    """An empty answer at once is followed by a pause."""
    source = FakeSource()
    with Worker(source, "cart", "counter", nothing):
        for _ in range(3):
            assert source.asked.acquire(timeout=WAIT_S)
    assert len(source.limits) <= 5


def test_errors_of_claims_are_ridden_out(caplog: pytest.LogCaptureFixture) -> None:
    """A server that restarts, say: said once, tried again with growing pauses."""
    source = FakeSource(1)
    source.claim_errors = [Unavailable("starting"), OSError("refused"), DiskFull("full")]
    caplog.set_level(logging.INFO, "blockqueue.worker")

    with Worker(source, "cart", "counter", nothing) as worker:
        eventually(lambda: worker.stats.processed == 1)

    said = [each.getMessage() for each in caplog.records]
    assert said[:2] == [
        "cannot claim for cart/counter, trying again: starting",
        "cart/counter can be claimed from again",
    ]


@pytest.mark.parametrize("error", [TopicNotFound("gone"), Unauthorized("x"), ValidationError("x")])
def test_what_asking_again_does_not_change_ends_the_worker(error: Exception) -> None:
    """With that error."""
    source = FakeSource()
    source.claim_errors = [error]
    with pytest.raises(type(error)):
        Worker(source, "cart", "counter", nothing).start().join()


def test_a_deleted_topic_ends_its_workers(queue: BlockQueue) -> None:
    """Also one that waits."""
    worker = Worker(queue, "cart", "counter", nothing).start()
    queue.delete_topic("cart")
    with pytest.raises(TopicNotFound):
        background(worker.join).result(WAIT_S)


def test_a_queue_that_is_closed_ends_its_workers(tmp_path: Path) -> None:
    """A server that closes will be there again; a queue of this process will not."""
    queue = BlockQueue(tmp_path / "other.db")
    queue.create_topic("cart", ["counter"])
    worker = Worker(queue, "cart", "counter", nothing).start()
    queue.close()
    with pytest.raises(QueueClosed):
        background(worker.join).result(WAIT_S)


def test_a_paused_subscriber_is_looked_at_now_and_then(
    queue: BlockQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; it goes on when the subscriber is resumed."""
    caplog.set_level(logging.INFO, "blockqueue.worker")
    queue.pause("cart", "counter")
    queue.publish("cart", "hi")
    paused = [each.getMessage() for each in caplog.records]

    with Worker(queue, "cart", "counter", nothing, pause_poll="5ms") as worker:
        eventually(lambda: "cart/counter is paused" in caplog.messages)
        queue.resume("cart", "counter")
        eventually(lambda: worker.stats.processed == 1)

    assert paused == []
    assert caplog.messages.count("cart/counter is paused") == 1


# Telling the outcomes.


def test_outcomes_that_could_not_be_told_are_told_again() -> None:
    """Each by itself, until the operation timeout."""
    source = FakeSource(4)
    source.ack_errors = [Unavailable("away"), OSError("reset")]
    with Worker(source, "cart", "counter", nothing, concurrency=4) as worker:
        eventually(lambda: worker.stats.processed == 4)
    assert sorted(source.acked) == numbers(4)


def test_an_outcome_that_can_never_be_told_is_counted_and_dropped() -> None:
    """The job comes again when its lease has run out."""
    source = FakeSource(1)
    source.ack_errors = [Unavailable("away")] * 1000
    options: dict[str, Any] = {"operation_timeout": "50ms"}
    with Worker(source, "cart", "counter", nothing, **options) as worker:
        eventually(lambda: worker.stats.completion_failed == 1)
    assert source.acked == []


def test_a_lost_lease_among_others_concerns_nobody_else() -> None:
    """The others of its batch are done."""
    source = FakeSource(3)
    source.ack_errors = [LeaseLost("one of them", ["1"])]
    options: dict[str, Any] = {"concurrency": 3, "completion_flush": "5s"}
    with Worker(source, "cart", "counter", nothing, **options) as worker:
        eventually(lambda: worker.stats.processed == 2)
    assert worker.stats.lease_lost == 1


# Ending.


def test_stop_lets_the_handlers_end_and_tells_their_outcomes(queue: BlockQueue) -> None:
    """No job is begun meanwhile, and none is lost."""
    queue.publish_many("cart", numbers(50))
    begun, go_on = threading.Semaphore(0), threading.Event()

    def handle(payload: str) -> None:
        begun.release()
        assert go_on.wait(WAIT_S)

    worker = Worker(queue, "cart", "counter", handle, concurrency=2).start()
    for _ in range(2):
        assert begun.acquire(timeout=WAIT_S)
    stopped = background(worker.stop)
    assert not stopped.done()
    go_on.set()
    stopped.result(WAIT_S)

    (status,) = queue.subscribers("cart")
    assert (worker.stats.processed, worker.stats.active) == (2, 0)
    assert (status.waiting, status.leased) == (48, 0)


def test_a_worker_that_waits_stops_at_once(queue: BlockQueue) -> None:
    """Its claim is called off; what it takes meanwhile is given back."""
    for _ in range(20):
        worker = Worker(queue, "cart", "counter", nothing).start()
        published = background(lambda: queue.publish("cart", "hi"))
        worker.stop()
        published.result(WAIT_S)
        with Worker(queue, "cart", "counter", nothing):
            eventually(lambda: left(queue) == 0)


def left(queue: BlockQueue) -> int:
    (status,) = queue.subscribers("cart")
    return status.waiting + status.leased


def test_handlers_that_do_not_end_are_cancelled_after_the_drain(queue: BlockQueue) -> None:
    """One that heeds it says itself how it ended; that is no error."""
    queue.publish("cart", "hi")
    begun = threading.Event()

    def handle(job: Job) -> None:
        begun.set()
        assert job.wait_cancelled(WAIT_S)

    worker = Worker(queue, "cart", "counter", handle, drain="10ms").start()
    assert begun.wait(WAIT_S)
    worker.stop()
    assert worker.stats.processed == 1


def test_an_async_handler_cancelled_by_the_stop_gives_its_job_back(queue: BlockQueue) -> None:
    """As a failure with the reason, at once, instead of when the lease runs out."""
    receipt = queue.publish("cart", "hi")
    begun = threading.Event()

    async def handle(job: Job) -> None:
        begun.set()
        await asyncio.sleep(WAIT_S)

    worker = Worker(queue, "cart", "counter", handle, drain="10ms").start()
    assert begun.wait(WAIT_S)
    worker.stop()
    (failure,) = queue.failure_page("cart", "counter", receipt.id).items
    assert failure.error.endswith("the worker stops")


def test_handlers_that_never_end_make_the_stop_an_error(queue: BlockQueue) -> None:
    """Their jobs stay leased: the handlers may still be at it."""
    receipt = queue.publish("cart", "hi")
    begun, go_on = threading.Event(), threading.Event()

    def handle(job: Job) -> None:
        begun.set()
        assert go_on.wait(WAIT_S)

    worker = Worker(queue, "cart", "counter", handle, drain="10ms", hard_stop="10ms").start()
    assert begun.wait(WAIT_S)
    with pytest.raises(Unavailable, match="1 handlers did not end in time"):
        worker.stop()
    (delivery,) = queue.message("cart", receipt.id).deliveries
    assert delivery.state is State.LEASED
    go_on.set()


def test_no_handler_begins_once_the_worker_stops() -> None:
    """What a claim still brings, as one over HTTP may, goes back at once."""
    source = FakeSource()
    begun: list[str] = []
    worker = Worker(source, "cart", "counter", begun.append, type=str)

    def claim(*_: Any, **__: Any) -> list[Held]:
        worker.begin_stop()
        return [Held(1), Held(2)]

    source.claim = claim  # type: ignore[method-assign]
    worker.start().join()
    assert (begun, source.given_back) == ([], ["1", "2"])


def test_what_an_async_handler_leaves_behind_ends_with_its_worker(queue: BlockQueue) -> None:
    """Tasks of its own are cancelled, and can clean up."""
    queue.publish("cart", "hi")
    tasks: list[asyncio.Task[None]] = []
    cleaned: list[str] = []

    async def refresh() -> None:
        try:
            await asyncio.sleep(WAIT_S)
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    async def handle(payload: str) -> None:
        tasks.append(asyncio.create_task(refresh()))
        await asyncio.sleep(0)

    with Worker(queue, "cart", "counter", handle) as worker:
        eventually(lambda: worker.stats.processed == 1)
    assert cleaned == ["up"]


def test_outcomes_are_tried_again_in_peace_while_the_worker_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With pauses: a server that is away does not cost a processor meanwhile."""
    looks: list[float] = []
    take_done = Slots.take_done

    def counted(self: Slots, timeout_s: float, **options: Any) -> Any:
        looks.append(timeout_s)
        return take_done(self, timeout_s, **options)

    monkeypatch.setattr(Slots, "take_done", counted)
    source = FakeSource(1)
    source.ack_errors = [Unavailable("away")] * 1000
    worker = Worker(source, "cart", "counter", nothing, operation_timeout="500ms").start()
    eventually(lambda: len(source.ack_errors) < 1000)
    worker.stop()
    assert worker.stats.completion_failed == 1
    assert len(looks) < 50


def test_an_outcome_that_could_not_be_told_by_the_end_makes_the_stop_an_error() -> None:
    """A call that hangs keeps nobody from stopping, but it is no good end."""
    source = FakeSource(1)
    asked, go_on = threading.Event(), threading.Event()

    def ack(*_: Any) -> None:
        asked.set()
        assert go_on.wait(WAIT_S)

    source.ack = ack  # type: ignore[method-assign, assignment]
    worker = Worker(source, "cart", "counter", nothing, operation_timeout="10ms").start()
    assert asked.wait(WAIT_S)
    with pytest.raises(Unavailable, match="could not be told in time"):
        worker.stop()
    go_on.set()


def test_a_worker_is_used_once(queue: BlockQueue) -> None:
    """Stopping it again is fine, starting it is not; one without a handler cannot start."""
    worker = Worker(queue, "cart", "counter", nothing)
    worker.stop()
    with worker:
        pass
    worker.stop()
    with pytest.raises(Unavailable, match="was started before"):
        worker.start()
    with pytest.raises(ValidationError, match="has no handler"):
        Worker(queue, "cart", "counter").start()


def test_starts_and_stops_at_the_same_time_end_well(queue: BlockQueue) -> None:
    """Whoever comes first."""
    for _ in range(20):
        worker = Worker(queue, "cart", "counter", nothing)
        started = background(worker.start)
        stops = [background(worker.stop) for _ in range(3)]
        started.result(WAIT_S)
        worker.stop()
        for stop in stops:
            stop.result(WAIT_S)


def test_a_group_ends_with_its_first_member_that_fails(queue: BlockQueue) -> None:
    """The others drain, and the error is the group's."""
    queue.create_topic("mail", ["sender"])
    group = WorkerGroup([Worker(queue, topic, name, nothing) for topic, name in _PLACES]).start()
    queue.delete_topic("mail")
    with pytest.raises(TopicNotFound):
        background(group.join).result(WAIT_S)
    with pytest.raises(ValidationError, match="needs a worker"):
        WorkerGroup([])


_PLACES = (("cart", "counter"), ("mail", "sender"))


def test_a_group_whose_first_member_fails_at_once_does_not_start_the_others_for_good() -> None:
    """Though that was before the others had started."""
    source = FakeSource()
    source.claim_errors = [TopicNotFound("gone")]
    first = Worker(source, "cart", "counter", nothing)

    class Late(Worker):
        def start(self) -> Self:
            ended = threading.Event()
            first.on_end(ended.set)
            assert ended.wait(WAIT_S)
            return super().start()

    group = WorkerGroup([first, Late(FakeSource(), "cart", "counter", nothing)]).start()
    with pytest.raises(TopicNotFound):
        background(group.join).result(WAIT_S)


def test_a_group_stops_all_of_its_members(queue: BlockQueue) -> None:
    """That is no error."""
    queue.create_topic("mail", ["sender"])
    queue.publish("cart", "hi")
    queue.publish("mail", "hi")
    workers = [Worker(queue, topic, name, nothing) for topic, name in _PLACES]
    with WorkerGroup(workers):
        eventually(lambda: all(each.stats.processed == 1 for each in workers))
