"""Supervision: an actor that fails is replaced and nobody who waits is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from blockqueue import BlockQueue
from blockqueue.actors import Claim, Promise, Publish, Settle
from blockqueue.actors import _signals as signals
from blockqueue.actors._job import JobActor
from blockqueue.actors._queue import QueueActor
from blockqueue.actors._restarts import RESTARTS_MAX, Restarts
from blockqueue.actors._subscriber import SubscriberActor
from blockqueue.storage import (
    Ack,
    Batch,
    BlockQueueError,
    Delivery,
    QueueClosed,
    Unavailable,
    ValidationError,
    pack_messages,
)
from blockqueue.storage._connections import READERS_MAX

from .embedded_helpers import (
    MINUTE_MS,
    NOTHING,
    WAIT_S,
    eventually,
    messages,
    open_queue,
    park,
    settle_down,
    subscriber_ref,
)


class Fault(Exception):
    """A bug, as it were."""


def break_method(
    monkeypatch: pytest.MonkeyPatch, kind: type, name: str, times: int = 1
) -> Callable[[], int]:
    """Let a method raise Fault the next times it is called; return how often it has."""
    works = getattr(kind, name)
    lock, raised = threading.Lock(), 0

    def method(*args: Any) -> Any:
        nonlocal raised
        with lock:
            if raised < times:
                raised += 1
                raise Fault(f"{name} failed")
        return works(*args)

    monkeypatch.setattr(kind, name, method)
    return lambda: raised


@pytest.fixture(autouse=True)
def slow_is_not_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count restarts over an hour, so that a loaded machine does not forgive any."""
    monkeypatch.setattr("blockqueue.actors._restarts.WITHIN_S", 3600.0)


# A subscriber's actor.


def test_the_waiting_consumers_of_a_failed_subscriber_actor_still_get_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are carried over to the next one, in their order."""
    with open_queue(tmp_path) as (queue, _):
        first, second = park(queue), park(queue)
        failed = subscriber_ref(queue)
        raised = break_method(monkeypatch, SubscriberActor, "_serve")

        queue.publish_many("cart", ["a", "b"])

        assert messages(first.get(timeout=WAIT_S)) == ["a"]
        assert messages(second.get(timeout=WAIT_S)) == ["b"]
        assert raised() == 1
        assert not failed.is_alive()
        assert subscriber_ref(queue) is not failed


def test_the_deadline_of_a_carried_consumer_still_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its empty answer when its own wait is over."""
    with open_queue(tmp_path) as (queue, clock):
        break_method(monkeypatch, SubscriberActor, "_serve")
        waiting = park(queue, wait_ms=MINUTE_MS)
        assert not waiting.is_done

        clock.advance(MINUTE_MS)

        assert waiting.get(timeout=WAIT_S) == []


def test_messages_in_the_inbox_of_a_failed_actor_are_handled_by_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came while it was busy failing."""
    entered, let_go = threading.Event(), threading.Event()
    serve = SubscriberActor._serve

    def fail_later(actor: SubscriberActor) -> None:
        monkeypatch.setattr(SubscriberActor, "_serve", serve)
        entered.set()
        assert let_go.wait(WAIT_S)
        raise Fault("at last")

    with open_queue(tmp_path) as (queue, _):
        queue.publish_many("cart", ["a", "b"])
        (leased,) = queue.claim("cart", "worker", limit=1)
        monkeypatch.setattr(SubscriberActor, "_serve", fail_later)
        claim = Claim("worker", 1)
        first = queue.system.ask("cart", claim)
        assert entered.wait(WAIT_S)
        second = queue.system.ask("cart", claim)
        # Answered once the topic's actor has passed on what came before.
        queue.job("cart").ask(Settle("worker", Ack(), [NOTHING]), timeout=WAIT_S)
        let_go.set()

        assert messages(first.get(timeout=WAIT_S)) == ["b"]
        assert second.get(timeout=WAIT_S) == []
        leased.ack()


def test_a_claim_on_its_way_while_the_actor_fails_is_not_handed_out_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old actor's claim and its successor's may both serve a consumer; one is undone."""
    with open_queue(tmp_path) as (queue, _):
        waiting = park(queue)
        raised = break_method(monkeypatch, SubscriberActor, "_wait_on")

        queue.publish_many("cart", ["a", "b"])

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]
        eventually(lambda: raised() == 1)
        settle_down(queue)
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased) == (1, 1)


def test_the_caller_whose_message_makes_an_actor_fail_gets_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next call is served by the next actor."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        break_method(monkeypatch, SubscriberActor, "_queue_claim")

        with pytest.raises(Fault):
            queue.claim("cart", "worker")

        assert [each.message for each in queue.claim("cart", "worker")] == ["a"]


# A topic's actor.


def test_a_new_topic_actor_adopts_the_subscribers_of_the_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait with them notice nothing, and hear of the next publish."""
    with open_queue(tmp_path, "worker", "other") as (queue, _):
        waiting = park(queue, "worker")
        failed, child = queue.job("cart"), subscriber_ref(queue, "worker")
        break_method(monkeypatch, JobActor, "_forward")
        with pytest.raises(Fault):
            queue.claim("cart", "other")

        queue.publish("cart", "a")

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]
        assert queue.job("cart") is not failed
        assert subscriber_ref(queue, "worker") is child
        assert [each.message for each in queue.claim("cart", "other")] == ["a"]


def test_a_publish_that_a_failed_topic_actor_had_begun_wakes_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit comes after the actor's end; the successor's consumers must hear of it."""
    entered, let_go = threading.Event(), threading.Event()

    def hold(tx: object) -> None:
        entered.set()
        assert let_go.wait(WAIT_S)

    with open_queue(tmp_path, "worker", "other") as (queue, _):
        waiting = park(queue, "worker")
        open_readers(queue)  # a new one would wait for the writer
        queue.system._engine.change(hold)
        assert entered.wait(WAIT_S)
        failed = queue.job("cart")
        published: Promise[Any] = queue.system.ask("cart", publish("a"))
        break_method(monkeypatch, JobActor, "_forward")
        with pytest.raises(Fault):
            queue.system.ask("cart", Claim("other")).get(timeout=WAIT_S)
        eventually(lambda: queue.job("cart") is not failed)
        settle_down(queue, "worker")
        let_go.set()

        assert len(published.get(timeout=WAIT_S)) == 1
        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


def open_readers(queue: BlockQueue) -> None:
    """Open all the connections for reading."""
    with ExitStack() as stack:
        for _ in range(READERS_MAX):
            stack.enter_context(queue.system.reading())


def publish(text: str) -> Any:
    """Make the message that publishes one text."""
    return Publish([Batch(1, pack_messages([text]), 0, 0)])


def test_what_nobody_can_handle_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    """Anybody may send to a topic's actor; however often, it lives."""
    with open_queue(tmp_path) as (queue, _):
        job = queue.job("cart")
        for _ in range(2 * RESTARTS_MAX):
            job.tell("nonsense")
            job.tell(Claim("nobody"))
            with pytest.raises(ValidationError):
                job.ask("nonsense", timeout=WAIT_S)
        assert queue.job("cart") is job


def test_a_claim_that_is_wrong_spares_the_others_of_its_subscriber(tmp_path: Path) -> None:
    """It is refused before it is joined with theirs."""
    with open_queue(tmp_path) as (queue, _):
        waiting = park(queue)
        for wrong in (
            Claim("worker", limit=0),
            Claim("worker", limit=1001),
            Claim("worker", lease_ms=0),
            Claim("worker", limit="many"),  # type: ignore[arg-type]
            Claim("worker", wait_ms="long"),  # type: ignore[arg-type]
        ):
            with pytest.raises(ValidationError):
                queue.job("cart").ask(wrong, timeout=WAIT_S)
        queue.publish("cart", "a")
        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


# Giving up.


def test_restarts_are_allowed_three_times_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is too many; later it counts anew."""
    now = 100.0
    monkeypatch.setattr("blockqueue.actors._restarts.WITHIN_S", 5.0)
    monkeypatch.setattr("blockqueue.actors._restarts.time.monotonic", lambda: now)
    restarts = Restarts()

    assert [restarts.allowed() for _ in range(RESTARTS_MAX + 1)] == [True, True, True, False]
    now = 104.9
    assert not restarts.allowed()
    now = 105.1
    assert restarts.allowed()


def test_a_subscriber_that_keeps_failing_costs_its_topic_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits there is told so; the topic's other subscribers go on."""
    with open_queue(tmp_path, "worker", "other") as (queue, _):
        neighbour = park(queue, "other")
        waiting = park(queue, "worker")
        failed = queue.job("cart")
        raised = break_method(monkeypatch, SubscriberActor, "_serve", RESTARTS_MAX + 1)
        subscriber_ref(queue, "worker").tell(signals.Wake())

        with pytest.raises(Unavailable, match="'worker' keeps failing"):
            waiting.get(timeout=WAIT_S)

        assert raised() == RESTARTS_MAX + 1
        eventually(lambda: queue.job("cart") is not failed)
        queue.publish("cart", "a")
        assert messages(neighbour.get(timeout=WAIT_S)) == ["a"]
        assert [each.message for each in queue.claim("cart", "worker")] == ["a"]


def test_failures_without_end_stop_the_queue_and_nobody_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscriber, topic, queue: each gives up in turn, and everybody gets a clear error."""
    fatal: list[BlockQueueError] = []
    with open_queue(tmp_path, "worker", "other", on_fatal=fatal.append) as (queue, _):
        queue.create_topic("quiet", ["worker"])
        waiting = [park(queue, "other"), park(queue, topic="quiet")]
        break_only(monkeypatch, "worker")

        outcomes = claim_until_closed(queue)

        # A claim that comes in while the queue gives up may get one of these, too.
        assert RESTARTS_MAX <= len(outcomes) <= RESTARTS_MAX + 5
        assert all(isinstance(error, Unavailable) for error in outcomes)
        for promise in waiting:
            with pytest.raises(Unavailable):
                promise.get(timeout=WAIT_S)
        for use in (
            lambda: queue.publish("cart", "a"),
            lambda: queue.publish("quiet", "a"),
            lambda: queue.claim("quiet", "worker"),
            lambda: queue.topics(),
        ):
            with pytest.raises(QueueClosed, match="gave up after repeated failures"):
                use()
        assert queue.close()
        assert len(fatal) == 1
    monkeypatch.undo()
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.publish("cart", "a")
        assert [each.message for each in queue.claim("cart", "worker")] == ["a"]


def break_only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one subscriber's actor fail whenever it serves."""
    serve = SubscriberActor._serve

    def fail(actor: SubscriberActor) -> None:
        if actor.subscriber.name == name and actor._waiters:
            raise Fault("always")
        serve(actor)

    monkeypatch.setattr(SubscriberActor, "_serve", fail)


def claim_until_closed(queue: BlockQueue) -> list[BlockQueueError]:
    """Claim until the queue refuses; return what the claims before ended with."""
    outcomes: list[BlockQueueError] = []
    for _ in range(50):
        try:
            queue.claim("cart", "worker")
        except QueueClosed:
            if queue.system.failed is not None:
                return outcomes
        except BlockQueueError as error:
            outcomes.append(error)
    raise AssertionError("it never gave up")


def test_a_failure_of_the_root_stops_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody supervises it: all who wait are told, and the queue refuses work."""
    fatal: list[BlockQueueError] = []
    with open_queue(tmp_path, on_fatal=fatal.append) as (queue, _):
        waiting: Promise[list[Delivery]] = park(queue)
        break_method(monkeypatch, QueueActor, "_tell_all")
        queue.system._queue.tell(signals.Wake())

        with pytest.raises(Unavailable):
            waiting.get(timeout=WAIT_S)
        with pytest.raises(QueueClosed):
            queue.publish("cart", "a")
        assert queue.close()
        assert len(fatal) == 1
