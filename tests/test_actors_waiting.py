"""Waiting: what answers a claim that found nothing, and what happens when nobody wants it."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    BlockQueue,
    Paused,
    QueueClosed,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    Unavailable,
    Withdrawn,
)
from blockqueue.actors import _subscriber as subscriber_module
from blockqueue.actors._job import JobActor
from blockqueue.storage import Subscriber as Stored
from blockqueue.storage import Tx, create_topic_in

from .embedded_helpers import (
    MINUTE_MS,
    WAIT_S,
    background,
    eventually,
    living_actors,
    messages,
    open_queue,
    park,
    settle_down,
    together,
)

QUICK = Subscriber("worker", visibility="10s", retry_initial="2s", retry_jitter=0)


# What answers a waiting claim.


def test_a_publish_answers_a_waiting_claim(tmp_path: Path) -> None:
    """The consumer has it without asking again."""
    with open_queue(tmp_path) as (queue, _):
        waiting = park(queue)
        assert not waiting.is_done

        queue.publish("cart", "a")

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


def test_a_waiting_claim_is_not_answered_by_a_delayed_message_before_its_time(
    tmp_path: Path,
) -> None:
    """But then it is."""
    with open_queue(tmp_path) as (queue, clock):
        waiting = park(queue)
        queue.publish("cart", "a", delay="5s")
        clock.advance(4_999)
        settle_down(queue)
        assert not waiting.is_done

        clock.advance(1)

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


def test_a_retry_that_comes_due_answers_a_waiting_claim(tmp_path: Path) -> None:
    """After the delay of the subscriber's policy."""
    with open_queue(tmp_path, QUICK) as (queue, clock):
        queue.publish("cart", "a")
        (delivery,) = queue.claim("cart", "worker")
        waiting = park(queue)
        delivery.nack(error="try again")
        clock.advance(1_999)
        settle_down(queue)
        assert not waiting.is_done

        clock.advance(1)

        (again,) = waiting.get(timeout=WAIT_S)
        assert (again.delivery_count, again.failure_count) == (2, 1)


def test_a_snooze_of_no_time_answers_a_waiting_claim(tmp_path: Path) -> None:
    """The message is given back for whoever wants it."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        (delivery,) = queue.claim("cart", "worker")
        waiting = park(queue)

        delivery.snooze(0)

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


def test_a_lease_that_runs_out_answers_a_waiting_claim(tmp_path: Path) -> None:
    """Its message is due again after the retry's delay."""
    with open_queue(tmp_path, QUICK) as (queue, clock):
        queue.publish("cart", "a")
        queue.claim("cart", "worker")
        waiting = park(queue)
        clock.advance(10_000)  # the lease ends
        settle_down(queue)
        assert not waiting.is_done

        clock.advance(2_000)  # the retry is due

        (again,) = waiting.get(timeout=WAIT_S)
        assert (again.delivery_count, again.failure_count) == (2, 1)


@pytest.mark.parametrize("subscriber", [None, "worker"])
def test_a_resume_answers_a_claim_that_waits_through_the_pause(
    tmp_path: Path, subscriber: str | None
) -> None:
    """Of the topic or of the subscriber."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        queue.pause("cart", subscriber)
        waiting = park(queue, through_pause=True)
        assert not waiting.is_done

        queue.resume("cart", subscriber)

        assert messages(waiting.get(timeout=WAIT_S)) == ["a"]


@pytest.mark.parametrize("subscriber", [None, "worker"])
def test_a_pause_refuses_claims_and_those_that_wait(tmp_path: Path, subscriber: str | None) -> None:
    """They are told why, unless they asked to wait through it."""
    with open_queue(tmp_path) as (queue, clock):
        waiting, patient = park(queue), park(queue, through_pause=True)

        queue.pause("cart", subscriber)

        with pytest.raises(Paused):
            waiting.get(timeout=WAIT_S)
        with pytest.raises(Paused):
            queue.claim("cart", "worker")
        assert not patient.is_done
        clock.advance(MINUTE_MS)
        assert patient.get(timeout=WAIT_S) == []


def test_the_deadline_answers_a_waiting_claim_with_nothing(tmp_path: Path) -> None:
    """Each at its own."""
    with open_queue(tmp_path) as (queue, clock):
        long, short = park(queue, wait_ms=2 * MINUTE_MS), park(queue, wait_ms=MINUTE_MS)
        clock.advance(MINUTE_MS - 1)
        settle_down(queue)
        assert not short.is_done

        clock.advance(1)
        assert short.get(timeout=WAIT_S) == []
        assert not long.is_done
        clock.advance(MINUTE_MS)
        assert long.get(timeout=WAIT_S) == []


def test_a_claim_that_does_not_wait_is_answered_at_once(tmp_path: Path) -> None:
    """With what is there, which may be nothing."""
    with open_queue(tmp_path) as (queue, _):
        assert park(queue, wait_ms=0).get(timeout=WAIT_S) == []
        queue.publish("cart", "a")
        assert messages(park(queue, wait_ms=-5).get(timeout=WAIT_S)) == ["a"]


def test_the_end_of_its_topic_answers_a_waiting_claim(tmp_path: Path) -> None:
    """With an error that says so."""
    with open_queue(tmp_path) as (queue, _):
        waiting = park(queue)
        queue.delete_topic("cart")
        with pytest.raises(TopicNotFound, match="'cart' was deleted"):
            waiting.get(timeout=WAIT_S)


def test_the_end_of_its_subscriber_answers_a_waiting_claim(tmp_path: Path) -> None:
    """And nobody else's."""
    with open_queue(tmp_path, "worker", "other") as (queue, _):
        waiting, other = park(queue, "worker"), park(queue, "other")
        queue.delete_subscriber("cart", "worker")
        with pytest.raises(SubscriberNotFound, match="'worker' was deleted"):
            waiting.get(timeout=WAIT_S)
        queue.publish("cart", "a")
        assert messages(other.get(timeout=WAIT_S)) == ["a"]


def test_closing_the_queue_answers_a_waiting_claim(tmp_path: Path) -> None:
    """At once: the queue does not wait for its consumers' deadlines."""
    with open_queue(tmp_path) as (queue, _):
        waiting = background(lambda: queue.claim("cart", "worker", wait=3600))
        parked = park(queue)
        assert queue.close()

        assert parked.get(timeout=WAIT_S) == []
        try:
            assert waiting.result(WAIT_S) == []
        except QueueClosed:
            pass  # it had not been heard yet


def test_draining_answers_all_who_wait_and_lets_nobody_wait(tmp_path: Path) -> None:
    """What is there can still be had."""
    with open_queue(tmp_path) as (queue, _):
        waiting = [park(queue) for _ in range(3)]
        queue.drain()
        assert [promise.get(timeout=WAIT_S) for promise in waiting] == [[], [], []]
        assert queue.claim("cart", "worker", wait=3600) == []
        queue.publish("cart", "a")
        assert [each.message for each in queue.claim("cart", "worker", wait=3600)] == ["a"]


@pytest.mark.parametrize("kind", ["topic", "subscriber"])
def test_what_another_process_has_deleted_and_made_anew_is_the_new_one(
    tmp_path: Path, kind: str
) -> None:
    """The actors of the old one end when that comes to light."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "old")
        (held,) = queue.claim("cart", "worker")
        waiting = park(queue)
        # Another process has actors of its own, and does not tell those here.
        with BlockQueue(tmp_path / "queue.db", clock=queue.system.clock) as other:
            if kind == "topic":
                other.delete_topic("cart")
                other.create_topic("cart", ["worker"])
            else:
                other.delete_subscriber("cart", "worker")
                other.add_subscribers("cart", ["worker"])

        queue.publish("cart", "new")
        assert [each.message for each in queue.claim("cart", "worker")] == ["new"]
        with pytest.raises((TopicNotFound, SubscriberNotFound)):
            waiting.get(timeout=WAIT_S)
        with pytest.raises(Exception, match="leases had ended"):
            held.ack()


# Who is served.


def test_waiting_consumers_are_served_in_their_order(tmp_path: Path) -> None:
    """First come, first served, each with its own limit."""
    with open_queue(tmp_path) as (queue, _):
        waiting = [park(queue, limit=limit) for limit in (2, 1, 5)]
        queue.publish_many("cart", ["a", "b", "c", "d"])
        found = [messages(promise.get(timeout=WAIT_S)) for promise in waiting]
        assert found == [["a", "b"], ["c"], ["d"]]


def test_whom_a_claim_did_not_serve_stays_in_front(tmp_path: Path) -> None:
    """One message serves one of two; the other is next, before who came later."""
    with open_queue(tmp_path) as (queue, _):
        first, second = park(queue), park(queue)
        queue.publish("cart", "a")
        assert messages(first.get(timeout=WAIT_S)) == ["a"]
        third = park(queue)
        queue.publish("cart", "b")
        assert messages(second.get(timeout=WAIT_S)) == ["b"]
        assert not third.is_done


def test_one_publish_serves_a_consumer_of_each_of_200_subscribers(tmp_path: Path) -> None:
    """All that wait, wherever they wait."""
    names = [f"worker-{number}" for number in range(200)]
    with open_queue(tmp_path, *names) as (queue, _):
        waiting = [park(queue, name) for name in names]
        queue.publish("cart", "a")
        found = [messages(promise.get(timeout=WAIT_S)) for promise in waiting]
        assert found == [["a"]] * 200


# Who has gone.


def test_a_claim_whose_caller_gave_up_leaves_nothing_leased(tmp_path: Path) -> None:
    """The messages are visible again at once, and it does not count as a delivery."""
    with open_queue(tmp_path) as (queue, _):
        entered, let_go = threading.Event(), threading.Event()

        def hold(tx: Tx) -> None:
            entered.set()
            assert let_go.wait(WAIT_S)

        gone = park(queue, limit=10)
        patient = park(queue, limit=10)
        queue.system._engine.change(hold)
        assert entered.wait(WAIT_S)
        published = background(lambda: queue.publish_many("cart", ["a", "b"]))
        assert gone.withdraw("the client has hung up")
        let_go.set()

        assert len(published.result(WAIT_S)) == 2
        deliveries = patient.get(timeout=WAIT_S)
        assert messages(deliveries) == ["a", "b"]
        assert [each.delivery_count for each in deliveries] == [1, 1]


def test_what_was_claimed_for_somebody_who_has_gone_meanwhile_goes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He goes between the claim and its answer: it is undone, and who waits hears of that."""
    claim_for = subscriber_module._claim_for
    with open_queue(tmp_path) as (queue, _):
        gone, patient = park(queue), park(queue)

        def claim_then_go(subscriber_id: int, waiters: Any, tx: Tx) -> Any:
            found = claim_for(subscriber_id, waiters, tx)
            gone.withdraw("the client has hung up")
            return found

        monkeypatch.setattr(subscriber_module, "_claim_for", claim_then_go)
        queue.publish("cart", "a")

        (delivery,) = patient.get(timeout=WAIT_S)
        assert (delivery.body, delivery.delivery_count, delivery.failure_count) == ("a", 1, 0)
        with pytest.raises(Withdrawn):
            gone.get(timeout=0)
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased) == (0, 1)


def test_what_is_released_goes_to_who_waits(tmp_path: Path) -> None:
    """As when the answer could not be sent."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        lost = park(queue).get(timeout=WAIT_S)
        waiting = park(queue)
        queue.system.release(lost)
        (delivery,) = waiting.get(timeout=WAIT_S)
        assert (delivery.body, delivery.delivery_count) == ("a", 1)


# Who is idle.


def test_idle_actors_stop_and_start_again_when_they_are_needed(tmp_path: Path) -> None:
    """Those with a waiting consumer do not."""
    with open_queue(tmp_path, idle_s=0.0) as (queue, clock):
        queue.create_topic("busy", ["worker"])
        waiting = park(queue, topic="busy", wait_ms=10 * 3600 * 1000)
        queue.publish("cart", "a")
        (delivery,) = queue.claim("cart", "worker")
        before = queue.job("cart")

        eventually(lambda: not before.is_alive(), step=lambda: clock.advance(1_000))

        assert living_actors() == 2
        delivery.extend("1h")
        delivery.ack()
        queue.publish("cart", "b")
        assert [each.message for each in queue.claim("cart", "worker")] == ["b"]
        assert queue.job("cart") is not before
        queue.publish("busy", "c")
        assert messages(waiting.get(timeout=WAIT_S)) == ["c"]


def test_a_thousand_topics_used_once_leave_nothing_behind(tmp_path: Path) -> None:
    """No actor, and none of the memory of one."""
    names = [f"topic-{number}" for number in range(1_000)]

    def create(tx: Tx) -> None:
        for name in names:
            create_topic_in(tx, name, [Stored("worker")])

    with open_queue(tmp_path, idle_s=0.0) as (queue, clock):
        queue.system.change(create, WAIT_S)
        for name in names:
            assert queue.claim(name, "worker") == []

        eventually(lambda: living_actors() == 0, step=lambda: clock.advance(1_000))

        # The root may still have to read that they stopped, and each thread of the pool may
        # hold the last one that it pumped.
        eventually(lambda: len(queue.system._jobs) < 10, step=gc.collect)
        eventually(lambda: sum(isinstance(each, JobActor) for each in gc.get_objects()) < 10)


def test_actors_that_keep_stopping_lose_no_message(tmp_path: Path) -> None:
    """Threads use a topic again just as its actors stop."""
    with BlockQueue(tmp_path / "queue.db", idle_s=0.002) as queue:
        queue.create_topic("cart", ["worker", "other"])
        claimed: list[str | bytes] = []

        def work(number: int) -> None:
            pause = threading.Event()
            for turn in range(30):
                queue.publish("cart", f"{number}-{turn}")
                (delivery,) = queue.claim("cart", "worker", limit=1, wait=WAIT_S)
                claimed.append(delivery.message)
                delivery.ack()
                if turn % 5 == 0:
                    pause.wait(0.01)  # so that they have the time to stop

        together(6, work)

        assert Counter(claimed) == Counter(f"{n}-{t}" for n in range(6) for t in range(30))
        status = {each.name: each for each in queue.subscribers("cart")}
        assert (status["worker"].waiting, status["worker"].leased) == (0, 0)
        assert status["other"].waiting == 180


def test_consumers_that_wait_while_actors_stop_hear_of_every_publish(tmp_path: Path) -> None:
    """A publish may be on its way to the disk when its topic's actor stops as idle."""
    with BlockQueue(tmp_path / "queue.db", idle_s=0.001) as queue:
        queue.create_topic("cart", ["worker"])
        for number in range(60):
            # One is published as the other begins to wait, each time on actors just started.
            waiting = background(partial(queue.claim, "cart", "worker", wait=WAIT_S))
            queue.publish("cart", f"{number}")
            (delivery,) = waiting.result(WAIT_S / 2)
            assert delivery.message == f"{number}"
            delivery.ack()


def test_an_actor_that_someone_stops_is_started_again(tmp_path: Path) -> None:
    """``queue.job`` hands out refs, and who has one may stop the actor."""
    with open_queue(tmp_path) as (queue, _):
        waiting = park(queue)
        job = queue.job("cart")
        job.stop(timeout=WAIT_S)
        with pytest.raises(Unavailable):
            waiting.get(timeout=WAIT_S)
        queue.publish("cart", "a")
        assert queue.job("cart") is not job
        assert [each.message for each in queue.claim("cart", "worker")] == ["a"]
