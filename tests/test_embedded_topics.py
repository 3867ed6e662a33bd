"""The embedded face: topics, subscribers, and what their options may be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from blockqueue import (
    AlreadyExists,
    BlockQueue,
    Duration,
    ManualClock,
    Message,
    NoSubscribers,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    ValidationError,
)
from blockqueue.storage import Ack, Handle

from .embedded_helpers import (
    MINUTE_MS,
    at,
    claim,
)

HOUR_MS = 60 * MINUTE_MS
YEAR_MS = 365 * 24 * HOUR_MS


def test_topics_are_made_listed_and_deleted(queue: BlockQueue) -> None:
    """In the order of their names."""
    queue.create_topic("box", ["worker"])
    assert queue.topics() == ["box", "cart"]
    queue.delete_topic("cart")
    assert queue.topics() == ["box"]
    with pytest.raises(TopicNotFound):
        queue.delete_topic("cart")


def test_a_topic_made_anew_is_empty(queue: BlockQueue) -> None:
    """It has the name of the old one and nothing else."""
    queue.publish("cart", "old")
    queue.delete_topic("cart")
    queue.create_topic("cart", ["worker"])
    assert claim(queue) == []


def test_subscribers_are_made_listed_and_deleted(queue: BlockQueue) -> None:
    """With their counters, in the order of their names."""
    queue.publish_many("cart", ["a", "b", "c"])
    queue.add_subscribers("cart", ["later", Subscriber("also", max_attempts=1)])
    claim(queue, 1)[0].nack(delay="1h")
    claim(queue, 1)
    found = {
        each.name: (each.waiting, each.leased, each.dead) for each in queue.subscribers("cart")
    }
    assert found == {"also": (0, 0, 0), "later": (0, 0, 0), "worker": (2, 1, 0)}
    assert list(found) == ["also", "later", "worker"]

    queue.delete_subscriber("cart", "worker")
    assert [each.name for each in queue.subscribers("cart")] == ["also", "later"]
    with pytest.raises(SubscriberNotFound):
        queue.delete_subscriber("cart", "worker")


def test_what_is_there_already_is_not_made_again(queue: BlockQueue) -> None:
    """Nor is anything that came with it: all or none."""
    with pytest.raises(AlreadyExists):
        queue.create_topic("cart", ["worker"])
    with pytest.raises(AlreadyExists):
        queue.create_topic("box", ["one", "one"])
    assert queue.topics() == ["cart"]
    with pytest.raises(AlreadyExists):
        queue.add_subscribers("cart", ["new", "worker"])
    assert [each.name for each in queue.subscribers("cart")] == ["worker"]


def test_a_topic_needs_a_subscriber(queue: BlockQueue) -> None:
    """A message would reach nobody."""
    with pytest.raises(ValidationError):
        queue.create_topic("box", [])
    queue.delete_subscriber("cart", "worker")
    with pytest.raises(NoSubscribers):
        queue.publish("cart", "a")


@pytest.mark.parametrize(
    "use",
    [
        lambda queue, topic, subscriber: queue.claim(topic, subscriber),
        lambda queue, topic, subscriber: queue.pause(topic, subscriber),
        lambda queue, topic, subscriber: queue.resume(topic, subscriber),
        lambda queue, topic, subscriber: queue.delete_subscriber(topic, subscriber),
        lambda queue, topic, subscriber: list(queue.bucket(topic, subscriber).entries()),
        lambda queue, topic, subscriber: queue.settle(topic, subscriber, Ack(), [Handle(0, 0, 0)]),
    ],
)
def test_what_does_not_exist_is_not_found(
    queue: BlockQueue, use: Callable[[BlockQueue, str, str], object]
) -> None:
    """Also if its name could not exist."""
    for name in ("nobody", "\ud800", "a/b", "x" * 1_000, "\0", ""):
        with pytest.raises(TopicNotFound):
            use(queue, name, "worker")
        with pytest.raises(SubscriberNotFound):
            use(queue, "cart", name)
    assert queue.topics() == ["cart"]
    with pytest.raises(TopicNotFound):
        queue.publish("\ud800", "a")
    with pytest.raises(TopicNotFound):
        queue.subscribers("nobody")
    with pytest.raises(TopicNotFound):
        queue.job("nobody")


BAD_NAMES = [
    *("", " ", " a", "a ", ".", "..", "a/b", "/", "a\0b", "\x7f", "a\nb", "\x1b[0m", "\x85"),
    *("x" * 151, "é" * 76, "\ud800", "a\udfffb", "\ufffd"),
    *(None, 1, b"cart", ["cart"]),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_with_what_is_allowed(queue: BlockQueue, name: Any) -> None:
    """For topics as for subscribers; nothing is made."""
    with pytest.raises(ValidationError, match="1 to 150 bytes of UTF-8"):
        queue.create_topic(name, ["worker"])
    with pytest.raises(ValidationError, match="1 to 150 bytes of UTF-8"):
        queue.add_subscribers("cart", [Subscriber(name)])
    assert queue.topics() == ["cart"]


@pytest.mark.parametrize(
    "name", ["a", "x" * 150, "é" * 75, "a b", "...", "a.b", "カート", "%2F", "'"]
)
def test_any_other_name_works(queue: BlockQueue, name: str) -> None:
    """It only has to be readable."""
    queue.create_topic(name, [name])
    queue.publish(name, "a")
    assert [each.message for each in queue.claim(name, name)] == ["a"]


BAD_DURATIONS = [
    *("", "5", "5 s", "s", "1d", "1e3s", "５s", "1h-5m", "9" * 30 + "h", "x" * 10_000, "infs"),
    *(float("nan"), float("inf"), float("-inf"), 1e308, 10**400, True, None, b"5s", [5]),
]


@pytest.mark.parametrize("duration", BAD_DURATIONS)
def test_a_bad_duration_is_refused_wherever_there_is_one(queue: BlockQueue, duration: Any) -> None:
    """By ValidationError, never another one."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    uses: list[Callable[[], object]] = [
        lambda: queue.create_topic("box", ["worker"], retention=duration),
        lambda: queue.create_topic("box", [Subscriber("worker", visibility=duration)]),
        lambda: queue.create_topic("box", [Subscriber("worker", retry_initial=duration)]),
        lambda: queue.create_topic("box", [Subscriber("worker", retry_max=duration)]),
        lambda: claim(queue, wait=duration),
        lambda: delivery.extend(duration),
        lambda: delivery.snooze(duration),
    ]
    if duration is not None:
        uses += [
            lambda: queue.publish_many("cart", [Message("b", delay=duration)]),
            lambda: claim(queue, lease=duration),
            lambda: delivery.nack(delay=duration),
        ]
    for use in uses:
        with pytest.raises(ValidationError):
            use()
    delivery.ack()


@pytest.mark.parametrize("duration", [-1, -0.5, "-1s", timedelta(seconds=-1)])
def test_a_negative_duration_is_refused_unless_it_is_how_long_to_wait(
    queue: BlockQueue, duration: Duration
) -> None:
    """A wait below nothing is none."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue, wait=duration)
    uses: list[Callable[[], object]] = [
        lambda: queue.create_topic("box", ["worker"], retention=duration),
        lambda: queue.create_topic("box", [Subscriber("worker", visibility=duration)]),
        lambda: queue.create_topic("box", [Subscriber("worker", retry_initial=duration)]),
        lambda: queue.publish("cart", "b", delay=duration),
        lambda: claim(queue, lease=duration),
        lambda: delivery.extend(duration),
        lambda: delivery.snooze(duration),
        lambda: delivery.nack(delay=duration),
    ]
    for use in uses:
        with pytest.raises(ValidationError):
            use()
    assert queue.topics() == ["cart"]


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        *((1, 1_000), (0.25, 250), ("1h30m", 90 * MINUTE_MS), ("1.5s", 1_500), (".5s", 500)),
        *(("1ms", 1), ("1000us", 1), ("1000µs", 1), ("+2m", 2 * MINUTE_MS)),
        *((timedelta(minutes=3), 3 * MINUTE_MS), ("12h", 12 * HOUR_MS)),
    ],
)
def test_a_duration_is_seconds_a_timedelta_or_text(
    queue: BlockQueue, clock: ManualClock, duration: Duration, ms: int
) -> None:
    """Text is as in Go."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue, lease=duration)
    assert delivery.lease_expires_at == at(clock.now_ms() + ms)


@pytest.mark.parametrize(
    "options",
    [
        *({"max_attempts": value} for value in (0, -1, 2**31, True, 1.5, "3", None)),
        *({"claim_limit": value} for value in (0, 1_001, True, "10")),
        *({"visibility": value} for value in (0, "499us", "12h1ms")),
        *({"retry_multiplier": value} for value in (0.5, float("nan"), float("inf"))),
        *({"retry_jitter": value} for value in (-0.1, 1.1, float("nan"))),
        {"retry_initial": "2h", "retry_max": "1h"},
        {"retry_max": 1_001 * YEAR_MS / 1000},
    ],
)
def test_a_subscribers_option_out_of_range_is_refused(queue: BlockQueue, options: Any) -> None:
    """By name; nothing is made."""
    with pytest.raises(ValidationError):
        queue.add_subscribers("cart", [Subscriber("new", **options)])
    assert [each.name for each in queue.subscribers("cart")] == ["worker"]
