"""The client, method by method, against a real server: what BlockQueue does, over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blockqueue import (
    AlreadyExists,
    BlockQueue,
    DeliveryNotFound,
    Finished,
    IdempotencyConflict,
    LeaseLost,
    Message,
    MessageNotFound,
    NoSubscribers,
    Paused,
    ScheduleNotFound,
    ScheduleSpec,
    StaleVersion,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    ValidationError,
)
from blockqueue.client import (
    AsyncClient,
    AsyncDelivery,
    AsyncSchedules,
    Client,
    Delivery,
    Schedules,
)

from .client_fixtures import client, opening, server, topic

__all__ = ["client", "opening", "server", "topic"]

NOWHERE = "0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61"
NEVER = ScheduleSpec("nightly", "0 0 1 1 *", "report")


def public(kind: type) -> dict[str, Any]:
    return {
        name: found
        for name, found in inspect.getmembers(kind, callable)
        if not name.startswith("_") and name not in {"run", "each"}
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [(Client, AsyncClient), (Delivery, AsyncDelivery), (Schedules, AsyncSchedules)],
)
def test_both_clients_have_the_same_methods_and_arguments(one: type, other: type) -> None:
    def arguments(kind: type) -> dict[str, list[str]]:
        return {
            name: [str(each) for each in inspect.signature(found).parameters.values()]
            for name, found in public(kind).items()
        }

    assert arguments(one) == arguments(other)


def test_every_method_of_the_client_takes_what_the_embedded_queues_takes() -> None:
    """So that code moves: a shared method may lack an option, and has none of another name."""
    own = {"active", "dead", "consume"}
    shared = [name for name in public(Client) if name not in own]
    assert len(shared) > 25
    for name in shared:
        ours = inspect.signature(getattr(Client, name)).parameters
        theirs = inspect.signature(getattr(BlockQueue, name)).parameters
        # A transaction is one of the caller's own process.
        missing = {"tx"} | {"create_topic": {"retention"}}.get(name, set())
        assert list(ours) == [each for each in theirs if each not in missing], name
        assert [each.kind for each in ours.values()] == [theirs[each].kind for each in ours], name


def test_a_message_makes_its_whole_way(client: Client, topic: str) -> None:
    published = client.publish(
        topic, "hi", headers={"from": "shop"}, priority=5, correlation_id="c-1"
    )
    (delivery,) = client.claim(topic, "worker", wait=5, lease="1m")
    assert delivery.id == published.id
    assert (delivery.message, delivery.headers) == ("hi", {"from": "shop"})
    assert (delivery.correlation_id, delivery.priority) == ("c-1", 5)
    assert (delivery.delivery_count, delivery.failure_count) == (1, 0)
    assert delivery.created_at == published.scheduled_at
    delivery.ack()
    delivery.ack()
    (status,) = client.message(topic, published.id).deliveries
    assert (status.subscriber, status.status) == ("worker", "processed")
    assert status.ended_ms
    assert client.claim(topic, "worker") == []


def test_topics_are_made_listed_paused_and_deleted(client: Client) -> None:
    made = client.create_topic("a topic: %2F?ü", [Subscriber("one", max_attempts=1), "two"])
    assert made.name == "a topic: %2F?ü"
    assert client.topic(made.name) == made
    assert made.name in client.topics()
    first = client.topic_page(1)
    assert len(first.items) == 1
    assert client.topic_page(1, first.after).items != first.items or first.after is None
    client.add_subscribers(made.name, ["three", Subscriber("four", retry_initial=0)])
    assert [each.name for each in client.subscribers(made.name)] == ["four", "one", "three", "two"]
    page = client.subscriber_page(made.name, 3)
    assert [each.name for each in client.subscriber_page(made.name, 3, page.after).items] == ["two"]
    client.pause(made.name)
    assert client.topic(made.name).paused
    client.resume(made.name)
    assert not client.topic(made.name).paused
    client.delete_subscriber(made.name, "two")
    client.delete_topic(made.name)
    with pytest.raises(TopicNotFound):
        client.topic(made.name)


def test_options_of_a_subscriber_count_even_if_they_are_zero(client: Client, topic: str) -> None:
    """Over HTTP zero stands for the default; here it is what it says, or it is refused."""
    client.add_subscribers(
        topic, [Subscriber("quick", max_attempts=2, visibility="40ms", retry_initial=0)]
    )
    client.publish(topic, "hi")
    (first,) = client.claim(topic, "quick", wait=5)
    (second,) = client.claim(topic, "quick", wait=5)
    assert (second.id, second.failure_count) == (first.id, 1)
    for wrong in (
        Subscriber("x", max_attempts=0),
        Subscriber("x", visibility=0),
        Subscriber("x", claim_limit=0),
        Subscriber("x", retry_multiplier=0),
    ):
        with pytest.raises(ValidationError):
            client.add_subscribers(topic, [wrong])


def test_a_batch_is_published_and_settled_by_batches(client: Client, topic: str) -> None:
    receipts = client.publish_many(
        topic, ["a", Message("b", priority=9), "c"], priority=1, delay="0s"
    )
    assert [each.duplicate for each in receipts] == [False, False, False]
    claimed = client.claim(topic, "worker", limit=3, wait=5)
    assert [each.message for each in claimed] == ["b", "a", "c"]
    client.ack(topic, "worker", claimed[:2])
    client.nack(topic, "worker", [(claimed[2].id, claimed[2].receipt_token)], error="no stock")
    assert (client.subscribers(topic)[0].waiting, client.subscribers(topic)[0].leased) == (1, 0)
    (failure,) = client.failure_page(topic, "worker", receipts[2].id).items
    assert (failure.error, failure.failure_count) == ("no stock", 1)


def test_a_lost_lease_is_named_and_the_others_are_settled(client: Client, topic: str) -> None:
    client.publish_many(topic, ["a", "b", "c"])
    claimed = client.claim(topic, "worker", limit=3, wait=5)
    claimed[1].snooze("1h")
    with pytest.raises(LeaseLost) as caught:
        client.ack(topic, "worker", claimed)
    assert caught.value.lost == (claimed[1].id,)
    assert [each.status for each in client.active(topic, "worker")] == ["pending"]


@pytest.mark.parametrize(
    "settle",
    [
        lambda d: d.ack(),
        lambda d: d.nack(delay=1),
        lambda d: d.extend(1),
        lambda d: d.snooze(1),
        lambda d: d.cancel("too late"),
    ],
)
def test_a_delivery_whose_lease_was_lost_settles_nothing(
    client: Client, topic: str, settle: Callable[[Delivery], None]
) -> None:
    """Its receipt was another claim's: cancelling is fenced as everything is."""
    client.publish(topic, "hi")
    (stale,) = client.claim(topic, "worker", wait=5)
    stale.nack(delay="1ms")
    (held,) = client.claim(topic, "worker", wait=5)
    with pytest.raises(LeaseLost) as caught:
        settle(stale)
    assert caught.value.lost == (stale.id,)
    held.ack()


def test_a_lease_is_extended_by_what_is_said(client: Client, topic: str) -> None:
    client.publish(topic, "hi")
    (delivery,) = client.claim(topic, "worker", wait=5, lease="30s")
    before = delivery.lease_expires_at
    delivery.extend(timedelta(seconds=20))
    assert delivery.lease_expires_at - before == timedelta(seconds=20)


def test_a_delivery_is_cancelled_by_its_holder_or_by_its_id(client: Client, topic: str) -> None:
    client.publish_many(topic, ["a", "b", "c"])
    held, done, named = client.claim(topic, "worker", limit=3, wait=5)
    done.ack()
    held.cancel("void")
    held.cancel("again")
    assert client.message(topic, held.id).deliveries[0].reason == "void"
    client.cancel(topic, "worker", [named.id])
    with pytest.raises(LeaseLost):
        named.ack()
    with pytest.raises(Finished):
        client.cancel(topic, "worker", [done.id])
    with pytest.raises(DeliveryNotFound):
        client.cancel(topic, "worker", [NOWHERE])


def test_a_message_is_cancelled_for_all(client: Client, topic: str) -> None:
    published = client.publish(topic, "hi")
    (status,) = client.cancel_message(topic, published.id, "void")
    assert (status.status, status.reason) == ("cancelled", "void")


def test_dead_letters_are_listed_and_replayed(client: Client, topic: str) -> None:
    client.add_subscribers(topic, [Subscriber("strict", max_attempts=1)])
    client.publish_many(topic, ["a", "b", "c"])
    client.nack(topic, "strict", client.claim(topic, "strict", limit=3, wait=5), error="no")
    dead = list(client.dead(topic, "strict"))
    assert [each.status for each in dead] == ["dead_letter"] * 3
    page = client.dead_page(topic, "strict", 2)
    rest = client.dead_page(topic, "strict", 2, page.after)
    assert [*page.items, *rest.items] == dead
    assert rest.after is None
    assert client.replay(topic, "strict", [dead[0].message_id, NOWHERE]) == 1
    assert client.replay(topic, "strict") == 2
    assert len(client.claim(topic, "strict", limit=3, wait=5)) == 3
    assert len(client.active_page(topic, "strict", 2).items) == 2
    assert client.replay(topic, "strict") == 0


def test_a_key_of_ones_own_makes_a_duplicate(client: Client, topic: str) -> None:
    first = client.publish(topic, "hi", idempotency_key="k")
    again = client.publish(topic, "hi", idempotency_key="k")
    assert (again.id, first.duplicate, again.duplicate) == (first.id, False, True)
    with pytest.raises(IdempotencyConflict):
        client.publish(topic, "other", idempotency_key="k")
    (batch,) = client.publish_many(topic, [Message("hi", idempotency_key="k")])
    assert batch == again


def test_a_message_waits_for_its_time(client: Client, topic: str) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    assert abs(client.publish(topic, "a", schedule_at=at).scheduled_at - at) < timedelta(seconds=5)
    assert client.publish(topic, "b", delay="1h").scheduled_at > at - timedelta(minutes=1)
    assert client.claim(topic, "worker", wait=0) == []
    with pytest.raises(ValidationError, match="not both"):
        client.publish(topic, "c", delay=1, schedule_at=at)


def test_schedules_do_what_the_embedded_ones_do(client: Client, topic: str) -> None:
    schedules = client.schedules(topic)
    made = schedules.create(NEVER)
    assert (made.name, made.cron, made.message, made.version) == (*_said(NEVER), 1)
    assert schedules.get(made.uid) == made
    assert schedules.page(10).items == list(schedules.all()) == [made]
    with pytest.raises(AlreadyExists):
        schedules.create(NEVER)
    with pytest.raises(StaleVersion):
        schedules.update(made.uid, NEVER, 7)
    changed = schedules.update(made.uid, ScheduleSpec("n", "0 0 2 1 *", "new", priority=3), 1)
    assert (changed.version, changed.message, changed.priority) == (2, "new", 3)
    schedules.pause(made.uid)
    assert schedules.get(made.uid).paused
    schedules.resume(made.uid)
    run = schedules.run_now(made.uid)
    assert run.status == "running"
    assert schedules.run_now(made.uid).status == "skipped"
    assert [each.status for each in schedules.runs(made.uid)] == ["skipped", "running"]
    assert len(schedules.run_page(made.uid, 1).items) == 1
    schedules.delete(made.uid)
    with pytest.raises(ScheduleNotFound):
        schedules.get(made.uid)


def _said(spec: ScheduleSpec) -> tuple[str, str, str]:
    assert isinstance(spec.message, str)
    return spec.name, spec.cron, spec.message


@pytest.mark.parametrize(
    ("expected", "call"),
    [
        (TopicNotFound, lambda c, t: c.publish("nowhere", "x")),
        (TopicNotFound, lambda c, t: c.delete_topic("nowhere")),
        (SubscriberNotFound, lambda c, t: c.claim(t, "nobody")),
        (SubscriberNotFound, lambda c, t: c.ack(t, "nobody", [(NOWHERE, NOWHERE)])),
        (SubscriberNotFound, lambda c, t: c.delete_subscriber(t, "nobody")),
        (MessageNotFound, lambda c, t: c.message(t, NOWHERE)),
        (DeliveryNotFound, lambda c, t: c.failure_page(t, "worker", NOWHERE)),
        (AlreadyExists, lambda c, t: c.create_topic(t, ["a"])),
        (AlreadyExists, lambda c, t: c.add_subscribers(t, ["worker"])),
        (LeaseLost, lambda c, t: c.ack(t, "worker", [(NOWHERE, NOWHERE)])),
        (LeaseLost, lambda c, t: c.extend(t, "worker", [(NOWHERE, NOWHERE)], by=1)),
        (ValidationError, lambda c, t: c.create_topic("new", [])),
        (ValidationError, lambda c, t: c.create_topic("bad/name", ["a"])),
        (ValidationError, lambda c, t: c.topic_page(0)),
        (ValidationError, lambda c, t: c.topic_page(1, "no cursor")),
        (ValidationError, lambda c, t: c.publish("", "x")),
        (ValidationError, lambda c, t: c.publish(t, b"bytes")),
        (ValidationError, lambda c, t: c.publish(t, "\ud800")),
        (ValidationError, lambda c, t: c.publish(t, "x", priority=1001)),
        (ValidationError, lambda c, t: c.publish(t, "x", delay="soon")),
        (ValidationError, lambda c, t: c.publish(t, "x", headers={"a": object()})),
        (ValidationError, lambda c, t: c.publish(t, "x" * 1_048_577)),
        (ValidationError, lambda c, t: c.publish_many(t, [])),
        (ValidationError, lambda c, t: c.claim(t, "worker", limit=0)),
        (ValidationError, lambda c, t: c.claim(t, "worker", lease="13h")),
        (ValidationError, lambda c, t: c.ack(t, "worker", [("id", "")])),
        (ValidationError, lambda c, t: c.nack(t, "worker", [(NOWHERE, NOWHERE)], error=b"no")),
        (ValidationError, lambda c, t: c.schedules(t).create(ScheduleSpec("n", "soon", "x"))),
    ],
)
def test_each_mistake_raises_what_the_embedded_queue_raises(
    client: Client, topic: str, expected: type[Exception], call: Callable[[Any, str], object]
) -> None:
    with pytest.raises(expected) as caught:
        call(client, topic)
    assert type(caught.value) is expected
    assert str(caught.value)


def test_paused_and_without_subscribers_are_errors_of_their_own(client: Client, topic: str) -> None:
    client.pause(topic, "worker")
    with pytest.raises(Paused):
        client.claim(topic, "worker")
    client.resume(topic, "worker")
    client.delete_subscriber(topic, "worker")
    with pytest.raises(NoSubscribers):
        client.publish(topic, "x")


def test_nothing_is_sent_for_no_deliveries(client: Client) -> None:
    """As with the embedded queue."""
    for settle in (client.ack, client.nack, client.cancel):
        settle("nowhere", "nobody", [])
