"""What a handler gets, and what becomes of its job by what it does."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from blockqueue import (
    BlockQueue,
    Cancel,
    Conflict,
    Delivery,
    Job,
    RetryAfter,
    State,
    Subscriber,
    ValidationError,
    Worker,
    WorkerStats,
)

from .embedded_helpers import WAIT_S, eventually


class Order(msgspec.Struct):
    """A payload."""

    item: str
    count: int = 1


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    """A queue in real time, whose failures are not tried again while a test runs."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("counter", max_attempts=2, retry_initial="1h")])
        yield queue


@contextmanager
def working(queue: BlockQueue, handler: Callable[..., Any], **options: Any) -> Iterator[Worker]:
    """Let a worker run that settles what is done at once."""
    with Worker(queue, "cart", "counter", handler, completion_flush=0, **options) as worker:
        yield worker


def stats_of(queue: BlockQueue, handler: Callable[..., Any], **options: Any) -> WorkerStats:
    """Let a handler do one job; return the counts once its outcome was told."""
    with working(queue, handler, **options) as worker:
        eventually(lambda: sum(outcomes(worker)) == 1)
    return worker.stats


def outcomes(worker: Worker) -> tuple[int, int, int]:
    stats = worker.stats
    return stats.processed, stats.nacked, stats.cancelled


def status(queue: BlockQueue, message_id: str) -> Any:
    (delivery,) = queue.message("cart", message_id).deliveries
    return delivery


def error_of(queue: BlockQueue, message_id: str) -> str:
    (failure,) = queue.failure_page("cart", "counter", message_id).items
    return failure.error


def test_a_handler_that_returns_acks_its_job(queue: BlockQueue) -> None:
    """It is never handed out again."""
    receipt = queue.publish("cart", "hi")
    seen: list[str] = []

    def handle(text: str) -> None:
        seen.append(text)

    assert stats_of(queue, handle) == WorkerStats(processed=1)
    assert seen == ["hi"]
    assert status(queue, receipt.id).state is State.PROCESSED


@pytest.mark.parametrize(
    ("raised", "text"),
    [(ValueError("no stock"), "ValueError: no stock"), (SystemExit(3), "SystemExit: 3")],
)
def test_a_handler_that_raises_nacks_its_job_with_the_text(
    queue: BlockQueue, raised: BaseException, text: str
) -> None:
    """Even to leave the program is a failure, and ends nothing but the job."""
    receipt = queue.publish("cart", "hi")

    def handle(text: str) -> None:
        raise raised

    assert stats_of(queue, handle) == WorkerStats(nacked=1)
    assert status(queue, receipt.id).state is State.WAITING
    assert error_of(queue, receipt.id) == text


def test_retry_after_says_when_the_job_comes_again(queue: BlockQueue) -> None:
    """The policy would say in an hour."""
    queue.publish("cart", "hi")
    counts: list[int] = []
    again = threading.Event()

    def handle(job: Job) -> None:
        counts.append(job.failure_count)
        if not again.is_set():
            again.set()
            raise RetryAfter("5ms", "not yet")

    with working(queue, handle) as worker:
        eventually(lambda: worker.stats.processed == 1)

    assert counts == [0, 1]
    assert worker.stats.nacked == 1


def test_a_retry_that_is_too_far_away_is_left_to_the_policy(queue: BlockQueue) -> None:
    """The delay may come from elsewhere, and the job's outcome is told all the same."""
    receipt = queue.publish("cart", "hi")

    def handle(job: Job) -> None:
        raise RetryAfter(10**12)

    assert stats_of(queue, handle) == WorkerStats(nacked=1)
    assert "delay must be" in error_of(queue, receipt.id)


def test_a_cancel_with_an_error_as_its_reason_is_one(queue: BlockQueue) -> None:
    """By the error's text."""
    receipt = queue.publish("cart", "hi")

    def handle(job: Job) -> None:
        raise Cancel(ValueError("sold out"))  # type: ignore[arg-type]

    assert stats_of(queue, handle) == WorkerStats(cancelled=1)
    assert status(queue, receipt.id).reason == "sold out"


def test_cancel_gives_the_job_up(queue: BlockQueue) -> None:
    """It neither comes again nor is it dead, and the reason is kept."""
    receipt = queue.publish("cart", "hi")

    def handle(job: Job) -> None:
        raise Cancel("sold out")

    assert stats_of(queue, handle) == WorkerStats(cancelled=1)
    found = status(queue, receipt.id)
    assert (found.state, found.reason) == (State.CANCELLED, "sold out")


def struct(order: Order) -> object:
    return order


def text(payload: str) -> object:
    return payload


def raw(payload: bytes) -> object:
    return payload


def both(payload: str | bytes) -> object:
    return payload


def anything(payload: Any) -> object:
    return payload


def listed(payload: list[Order], job: Job) -> object:
    return payload, job.headers


def untyped(job):  # type: ignore[no-untyped-def]
    return job.message


def delivery(held: Delivery) -> object:
    return held.message, held.priority, held.delivery_count, held.correlation_id


class Callee:
    """A handler with a memory."""

    def __call__(self, order: Order) -> object:
        return order


@pytest.mark.parametrize(
    ("handler", "message", "expected"),
    [
        (struct, '{"item": "sku-1", "count": 2}', Order("sku-1", 2)),
        (struct, b'{"item": "sku-1"}', Order("sku-1")),
        (Callee(), '{"item": "sku-1"}', Order("sku-1")),
        (functools.partial(struct), '{"item": "sku-1"}', Order("sku-1")),
        (text, b"caf\xc3\xa9", "café"),
        (raw, "café", b"caf\xc3\xa9"),
        (both, b"\xff", b"\xff"),
        (anything, '{"a": [1]}', {"a": [1]}),
        (listed, '[{"item": "sku-1"}]', ([Order("sku-1")], {})),
        (untyped, "hi", "hi"),
        (delivery, "hi", ("hi", 0, 1, None)),
    ],
)
def test_the_annotation_says_what_a_handler_gets(
    queue: BlockQueue, handler: Callable[..., object], message: str | bytes, expected: object
) -> None:
    """Text, bytes and the job as they are; anything else is decoded from JSON."""
    queue.publish("cart", message)
    seen: list[object] = []

    @functools.wraps(handler if not isinstance(handler, functools.partial) else struct)
    def spy(*args: Any) -> None:
        seen.append(handler(*args))

    if isinstance(handler, Callee | functools.partial):
        assert stats_of(queue, handler).processed == 1
        return
    assert stats_of(queue, spy).processed == 1
    assert seen == [expected]


@pytest.mark.parametrize(
    ("handler", "message"), [(struct, "hi"), (struct, '{"item": 3}'), (text, b"\xff")]
)
def test_what_cannot_be_decoded_is_nacked(
    queue: BlockQueue, handler: Callable[..., object], message: str | bytes
) -> None:
    """The handler does not see it, and the error says what was expected."""
    receipt = queue.publish("cart", message)

    assert stats_of(queue, handler) == WorkerStats(nacked=1)
    assert error_of(queue, receipt.id).startswith("the payload is not ")


def test_type_overrules_the_annotation(queue: BlockQueue) -> None:
    """For handlers that are not ours to annotate."""
    queue.publish("cart", '{"item": "sku-1"}')
    seen: list[object] = []

    assert stats_of(queue, seen.append, type=Order).processed == 1
    assert seen == [Order("sku-1")]


def test_a_handler_may_be_async(queue: BlockQueue) -> None:
    """All run on one thread, side by side up to the concurrency and not beyond."""
    queue.publish_many("cart", [str(number) for number in range(20)])
    running: set[str] = set()
    most: list[int] = []
    threads: set[int] = set()

    async def handle(payload: str) -> None:
        running.add(payload)
        most.append(len(running))
        threads.add(threading.get_ident())
        await asyncio.sleep(0.001)
        running.remove(payload)

    with working(queue, handle, concurrency=4) as worker:
        eventually(lambda: worker.stats.processed == 20)

    assert max(most) == 4
    assert len(threads) == 1


def test_an_async_handler_fails_as_any_other(queue: BlockQueue) -> None:
    """Its exception is the error of the delivery."""
    receipt = queue.publish("cart", "hi")

    async def handle(payload: str) -> None:
        raise KeyError("sku")

    assert stats_of(queue, handle) == WorkerStats(nacked=1)
    assert error_of(queue, receipt.id) == "KeyError: 'sku'"


def test_a_handler_can_say_itself_what_becomes_of_its_job(queue: BlockQueue) -> None:
    """Nothing follows, whatever it does then; and to say it twice is an error."""
    receipt = queue.publish("cart", "hi")
    errors: list[Exception] = []
    ended = threading.Event()

    def handle(job: Job) -> None:
        job.ack()
        try:
            job.nack()
        except Conflict as error:
            errors.append(error)
        ended.set()
        raise ValueError("too late to matter")

    with working(queue, handle) as worker:
        assert ended.wait(WAIT_S)
        eventually(lambda: worker.stats.active == 0)

    assert len(errors) == 1
    assert worker.stats == WorkerStats()
    assert status(queue, receipt.id).state is State.PROCESSED


def test_a_handler_that_could_not_say_it_is_settled_by_the_worker(queue: BlockQueue) -> None:
    """An error of its own call leaves the right to say it with the worker."""
    queue.publish("cart", "hi")

    def handle(job: Job) -> None:
        with pytest.raises(ValidationError):
            job.snooze("no duration")

    assert stats_of(queue, handle) == WorkerStats(processed=1)


def test_the_decorator_returns_the_function_as_it_is(queue: BlockQueue) -> None:
    """So it can be called, and tested, by itself."""
    worker = Worker(queue, "cart", "counter", completion_flush=0)

    @worker.handler
    def double(order: Order) -> int:
        return 2 * order.count

    assert double(Order("sku-1", 4)) == 8
    queue.publish("cart", '{"item": "sku-1"}')
    with worker:
        eventually(lambda: worker.stats.processed == 1)
    with pytest.raises(ValidationError, match="has a handler already"):
        worker.handler(double)


async def work(payload: str) -> None:
    raise AssertionError("nobody awaits it")


def steps(payload: str) -> Iterator[str]:
    yield payload


async def passes_on(payload: str) -> object:
    return work(payload)


@pytest.mark.parametrize(
    "handler", [lambda payload: work(payload), lambda payload: steps(payload), passes_on]
)
def test_a_handler_that_only_returns_what_would_do_the_job_has_failed(
    queue: BlockQueue, handler: Callable[..., object]
) -> None:
    """A forgotten await does not lose messages: the job is not acked, and says why."""
    receipt = queue.publish("cart", "hi")

    assert stats_of(queue, handler, type=str) == WorkerStats(nacked=1)
    assert "instead of doing the job" in error_of(queue, receipt.id)


def no_parameter() -> None: ...


def three(a: str, b: Job, c: int) -> None: ...


def by_name_only(a: str, *, database: object) -> None: ...


async def async_steps(payload: str) -> AsyncIterator[str]:
    yield payload


def of_a_type_that_nobody_can_decode(a: threading.Thread) -> None: ...


def forward(order: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (no_parameter, "takes a payload"),
        (three, "takes a payload"),
        (by_name_only, "its argument 'database'"),
        (steps, "has a 'yield'"),
        (functools.partial(async_steps), "has a 'yield'"),
        (type, "is not known"),
        (of_a_type_that_nobody_can_decode, "cannot be decoded"),
        (forward, "give it as type="),
        ("module:function", "a handler is a function"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_at_once(
    queue: BlockQueue, handler: Any, message: str
) -> None:
    """Not when the first job comes."""
    with pytest.raises(ValidationError, match=message):
        Worker(queue, "cart", "counter", handler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to 1000"),
        ({"batch": 1001}, "batch must be"),
        ({"lease": "13h"}, "lease must be"),
        ({"lease": "1m", "heartbeat": "1m"}, "heartbeat must be less than the lease"),
        ({"timeout": 0}, "timeout must be"),
        ({"drain": "soon"}, "drain 'soon' is not a duration"),
    ],
)
def test_an_option_that_is_wrong_is_named(
    queue: BlockQueue, options: dict[str, Any], message: str
) -> None:
    """With what is allowed."""
    with pytest.raises(ValidationError, match=message):
        Worker(queue, "cart", "counter", text, **options)


def test_importing_the_queue_does_not_load_the_worker() -> None:
    """Those who only publish need not wait for it."""
    import subprocess

    script = "import sys, blockqueue; sys.exit('blockqueue.worker' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WAIT_S)
