"""The embedded face, as its docstrings have it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    AlreadyExists,
    BackPressure,
    BlockQueue,
    BlockQueueError,
    DatabaseUnusable,
    Delivery,
    Duration,
    LeaseLost,
    ManualClock,
    Message,
    NoSubscribers,
    QueueClosed,
    State,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    ValidationError,
)
from blockqueue.actors import Claim, Publish, Settle
from blockqueue.storage import Ack, Batch, Handle, Outcome, Tx, pack_messages

from .embedded_helpers import MINUTE_MS, WAIT_S, background, eventually, open_queue, together
from .embedded_processes import environment

HOUR_MS = 60 * MINUTE_MS
YEAR_MS = 365 * 24 * HOUR_MS


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[BlockQueue, ManualClock]]:
    """Open a queue with topic "cart" and subscriber "worker", on a clock that stands still."""
    with open_queue(tmp_path, Subscriber("worker", retry_jitter=0)) as pair:
        yield pair


@pytest.fixture
def queue(opened: tuple[BlockQueue, ManualClock]) -> BlockQueue:
    """The queue alone."""
    return opened[0]


@pytest.fixture
def clock(opened: tuple[BlockQueue, ManualClock]) -> ManualClock:
    """Its clock."""
    return opened[1]


def claim(queue: BlockQueue, limit: int = 10, **options: Any) -> list[Delivery]:
    """Claim for the worker."""
    return queue.claim("cart", "worker", limit=limit, **options)


def counts(queue: BlockQueue) -> tuple[int, int, int]:
    """Return the worker's counters: waiting, leased, dead."""
    (status,) = (each for each in queue.subscribers("cart") if each.name == "worker")
    return status.waiting, status.leased, status.dead


# Topics and subscribers.


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
        lambda: queue.publish_many("cart", [Message("b", delay=duration)]),
        lambda: claim(queue, wait=duration),
        lambda: delivery.extend(duration),
        lambda: delivery.snooze(duration),
    ]
    if duration is not None:
        uses += [lambda: claim(queue, lease=duration), lambda: delivery.nack(delay=duration)]
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


def at(ms: int) -> datetime:
    """Return a time of the clock as the face gives it."""
    return datetime.fromtimestamp(ms / 1000, UTC)


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


# Publishing.


def test_a_receipt_names_the_message_and_says_when_it_is_visible(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """The consumer sees the same id."""
    receipt = queue.publish("cart", "now")
    later = queue.publish("cart", "later", delay="30s")
    assert receipt.scheduled_at == at(clock.now_ms())
    assert later.scheduled_at == at(clock.now_ms() + 30_000)
    assert [each.id for each in claim(queue)] == [receipt.id]
    clock.advance(30_000)
    assert [each.id for each in claim(queue)] == [later.id]


def test_everything_that_was_published_is_handed_out(queue: BlockQueue, clock: ManualClock) -> None:
    """Text and bytes as given, with all that came along."""
    queue.publish(
        "cart",
        b"\x00\xff",
        headers={"source": "checkout", "": "ü\0"},
        priority=-1000,
        correlation_id="c-1",
    )
    queue.publish("cart", "ü\0\U0001f6d2")
    text, binary = claim(queue)
    assert (text.message, text.headers, text.correlation_id, text.priority) == (
        *("ü\0\U0001f6d2", {}, None),
        0,
    )
    assert (binary.message, binary.headers, binary.correlation_id, binary.priority) == (
        *(b"\x00\xff", {"source": "checkout", "": "ü\0"}, "c-1"),
        -1000,
    )
    assert (binary.delivery_count, binary.failure_count) == (1, 0)
    assert binary.created_at == at(clock.now_ms())
    assert binary.lease_expires_at == at(clock.now_ms() + 5 * MINUTE_MS)
    assert binary.id in repr(binary)


def test_higher_priorities_are_handed_out_first(queue: BlockQueue) -> None:
    """And within one, what came first."""
    queue.publish_many("cart", ["c", "d"])
    queue.publish("cart", "e", priority=-1)
    queue.publish_many("cart", ["b"], priority=1)
    queue.publish_many("cart", [Message("a", priority=1000), "f"], priority=-1)
    assert [each.message for each in claim(queue)] == ["a", "b", "c", "d", "e", "f"]


def test_receipts_behave_like_a_sequence(queue: BlockQueue) -> None:
    """Made when looked at, in the order of the messages, whatever their options."""
    listed: list[str | bytes | Message] = [
        "a",
        Message("b", priority=5),
        b"c",
        Message("d", delay=1),
    ]
    receipts = queue.publish_many("cart", listed)
    assert len(receipts) == 4
    ids = [receipt.id for receipt in receipts]
    assert len(set(ids)) == 4
    assert [receipts[index].id for index in range(4)] == ids
    assert receipts[-1] == receipts[3]
    assert [receipt.id for receipt in receipts[1:3]] == ids[1:3]
    assert [receipt.id for receipt in receipts[::-1]] == ids[::-1]
    assert receipts[2] in receipts
    assert receipts.index(receipts[2]) == 2
    for index in (4, -5):
        with pytest.raises(IndexError):
            receipts[index]
    by_message = {each.message: each.id for each in claim(queue)}
    assert by_message == {"a": ids[0], "b": ids[1], b"c": ids[2]}


def test_many_large_messages_keep_their_order(queue: BlockQueue) -> None:
    """However many blocks they take."""
    texts = [f"{number}-" + "x" * 100_000 for number in range(12)]
    receipts = queue.publish_many("cart", texts)
    deliveries = claim(queue, 100)
    assert [each.message for each in deliveries] == texts
    assert [each.id for each in deliveries] == [each.id for each in receipts]


def test_a_message_may_have_a_mebibyte_and_not_a_byte_more(queue: BlockQueue) -> None:
    """Counted in UTF-8; alone or among others."""
    for largest in ("x" * 2**20, "é" * 2**19, b"x" * 2**20):
        queue.publish("cart", largest)
        assert [each.message for each in claim(queue)] == [largest]
    too_large: list[str | bytes | Message] = [
        *("x" * (2**20 + 1), "é" * 2**19 + "x", b"x" * (2**20 + 1)),
        Message("x" * (2**20 + 1), headers={"a": "b"}),
    ]
    for message in too_large:
        for messages in ([message], ["a", message], [message, "a"]):
            with pytest.raises(ValidationError, match="at most 1048576"):
                queue.publish_many("cart", messages)
    assert claim(queue) == []


@pytest.mark.parametrize(
    "message", [None, 1, 1.5, ["a"], {"a": 1}, bytearray(b"a"), memoryview(b"")]
)
def test_a_message_of_another_type_is_refused(queue: BlockQueue, message: Any) -> None:
    """What comes out must be what went in."""
    for messages in ([message], ["a", message], [Message(message)], [Message(message, {"a": "b"})]):
        with pytest.raises(ValidationError, match="str or bytes"):
            queue.publish_many("cart", messages)
    with pytest.raises(ValidationError):
        queue.publish("cart", message)


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"a": "x" * 16_384}},
        {"headers": {"a": 1}},
        {"headers": {1: "a"}},
        {"headers": {"a": "\ud800"}},
        {"correlation_id": "x" * 256},
        {"correlation_id": 7},
        {"correlation_id": "\ud800"},
        {"priority": 1001},
        {"priority": -1001},
        {"priority": True},
        {"priority": 0.5},
        {"priority": "high"},
        {"priority": 2**70},
        {"delay": 1_001 * YEAR_MS / 1000},
    ],
)
def test_an_option_of_a_message_out_of_range_is_refused(queue: BlockQueue, options: Any) -> None:
    """And nothing is published."""
    with pytest.raises(ValidationError):
        queue.publish("cart", "a", **options)
    with pytest.raises(ValidationError):
        queue.publish_many("cart", ["a", Message("b", **options)])
    assert queue.subscribers("cart")[0].waiting == 0


def test_a_message_that_is_not_unicode_is_refused(queue: BlockQueue) -> None:
    """A lone surrogate has no UTF-8."""
    with pytest.raises(ValidationError, match="surrogate"):
        queue.publish("cart", "a\ud800")
    with pytest.raises(ValidationError, match="surrogate"):
        queue.publish_many("cart", ["x" * 300_000, "a\ud800"])


def test_a_batch_has_1_to_1000_messages(queue: BlockQueue) -> None:
    """All or none are published."""
    for count in (0, 1_001):
        with pytest.raises(ValidationError, match="1 to 1000 messages"):
            queue.publish_many("cart", ["a"] * count)
    assert len(queue.publish_many("cart", ["a"] * 1_000)) == 1_000
    assert len(queue.publish_many("cart", (f"{number}" for number in range(3)))) == 3
    assert queue.subscribers("cart")[0].waiting == 1_003


def test_a_delay_may_be_as_long_as_anybody_lives(queue: BlockQueue) -> None:
    """A thousand years, and those who wait for it are still answered in time."""
    receipt = queue.publish("cart", "a", delay=timedelta(days=365_000))
    assert receipt.scheduled_at.year > 3_000
    assert claim(queue, wait=0) == []
    assert queue.subscribers("cart")[0].waiting == 1


def test_too_much_waiting_to_be_written_is_refused(tmp_path: Path) -> None:
    """Until there is room again; what was taken is written."""
    entered, let_go = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert let_go.wait(WAIT_S)

    with open_queue(tmp_path, messages_max=3, bytes_max=1_000) as (queue, _):
        queue.publish_many("cart", ["a"] * 10)  # alone it may be larger than the budget
        queue.system._engine.change(hold)
        assert entered.wait(WAIT_S)
        taken = background(lambda: queue.publish_many("cart", ["b", "c"]))
        eventually(lambda: queue.system.admission.waiting()[0] == 2)
        with pytest.raises(BackPressure, match="try again later") as caught:
            queue.publish_many("cart", ["d", "e"])
        assert caught.value.code == "buffer_pressure"
        with pytest.raises(BackPressure):
            queue.publish("cart", "x" * 1_000)
        let_go.set()
        assert len(taken.result(WAIT_S)) == 2
        queue.publish_many("cart", ["d", "e"])
        assert queue.system.admission.waiting() == (0, 0)
        assert queue.subscribers("cart")[0].waiting == 14


def test_a_publish_that_fails_frees_its_part_of_the_budget(tmp_path: Path) -> None:
    """Or a queue would fill up with what is not there."""
    with open_queue(tmp_path, messages_max=3) as (queue, _):
        for _ in range(5):
            with pytest.raises(TopicNotFound):
                queue.publish_many("nowhere", ["a", "b"])
        assert queue.system.admission.waiting() == (0, 0)


# Claiming.


@pytest.mark.parametrize("limit", [0, -1, 1_001, True, 1.0, "1", 2**70])
def test_a_claims_limit_out_of_range_is_refused(queue: BlockQueue, limit: Any) -> None:
    """It is 1 to 1000."""
    with pytest.raises(ValidationError, match="limit must be a whole number from 1 to 1000"):
        claim(queue, limit)


def test_a_claim_takes_at_most_its_limit_or_the_subscribers(queue: BlockQueue) -> None:
    """10 unless said otherwise."""
    queue.add_subscribers("cart", [Subscriber("few", claim_limit=2)])
    queue.publish_many("cart", ["a"] * 20)
    assert len(queue.claim("cart", "few")) == 2
    assert len(queue.claim("cart", "worker")) == 10
    assert len(queue.claim("cart", "worker", limit=1)) == 1
    assert len(queue.claim("cart", "worker", limit=1_000)) == 9


@pytest.mark.parametrize("lease", [0, "499us", "12h1ms", "1000h"])
def test_a_lease_out_of_range_is_refused(queue: BlockQueue, lease: Duration) -> None:
    """It is 1ms to 12h, also when it is made longer."""
    queue.publish("cart", "a")
    with pytest.raises(ValidationError, match="lease must be a whole number from 1 to"):
        claim(queue, lease=lease)
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="by must be a whole number from 1 to"):
        delivery.extend(lease)


# Settling.


def test_what_is_acked_never_comes_back(queue: BlockQueue, clock: ManualClock) -> None:
    """And acking it again is fine."""
    queue.publish_many("cart", ["a", "b"])
    first, second = claim(queue)
    first.ack()
    queue.ack("cart", "worker", [first, second])
    queue.ack("cart", "worker", [first, first])
    clock.advance(24 * HOUR_MS)
    assert claim(queue) == []
    assert counts(queue) == (0, 0, 0)


def test_an_id_and_its_token_settle_from_anywhere(queue: BlockQueue) -> None:
    """As text that was kept, or sent to another process; mixed with deliveries too."""
    queue.publish_many("cart", ["a", "b", "c"])
    first, second, third = claim(queue)
    queue.ack("cart", "worker", [first, (second.id, second.receipt_token), third])
    assert queue.subscribers("cart")[0].leased == 0


@pytest.mark.parametrize("token", [None, 1, True, b"x", ("a",)])
def test_a_token_that_is_not_text_is_refused(queue: BlockQueue, token: Any) -> None:
    """Least of all may it pass for the claim's number."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="receipt token"):
        queue.ack("cart", "worker", [(delivery.id, token)])
    assert queue.subscribers("cart")[0].leased == 1


def test_a_wrong_id_or_token_settles_nothing(queue: BlockQueue) -> None:
    """Nor does the right token of another message."""
    queue.publish_many("cart", ["a", "b"])
    first, second = claim(queue)
    with pytest.raises(ValidationError, match="is not a message id"):
        queue.ack("cart", "worker", [("nonsense", first.receipt_token)])
    for token in ("", "nonsense", "\ud800", second.receipt_token):
        with pytest.raises(LeaseLost):
            queue.ack("cart", "worker", [(first.id, token)])
    assert queue.subscribers("cart")[0].leased == 2


def test_a_stale_delivery_is_reported_and_the_others_are_done(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """``lost`` names it."""
    queue.publish_many("cart", ["a", "b"])
    (stale,) = claim(queue, 1, lease="1s")
    (good,) = claim(queue, 1, lease="1h")
    clock.advance(10_000)
    with pytest.raises(LeaseLost, match="1 of 2 leases had ended") as caught:
        queue.ack("cart", "worker", [stale, good])
    assert caught.value.lost == (stale.id,)
    eventually(lambda: counts(queue) == (1, 0, 0))  # the sweeper has seen that it ran out
    clock.advance(10_000)
    (again,) = claim(queue)
    assert again.id == stale.id
    with pytest.raises(LeaseLost):
        stale.ack()
    again.ack()


def test_a_delivery_settles_nobody_elses_lease(queue: BlockQueue, tmp_path: Path) -> None:
    """Not another subscriber's, not that of a topic made anew, not that of another queue."""
    queue.add_subscribers("cart", ["other"])
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    (others,) = queue.claim("cart", "other")
    with pytest.raises(LeaseLost):
        queue.ack("cart", "other", [delivery])
    with open_queue(make_folder(tmp_path)) as (second, _):
        second.publish("cart", "a")
        (theirs,) = claim(second)
        with pytest.raises(LeaseLost):
            second.ack("cart", "worker", [delivery])
        theirs.ack()
    others.ack()
    queue.delete_topic("cart")
    queue.create_topic("cart", ["worker"])
    queue.publish("cart", "b")
    (new,) = claim(queue)
    with pytest.raises(LeaseLost):
        delivery.ack()
    new.ack()


def make_folder(directory: Path) -> Path:
    """Make a folder for a second queue."""
    folder = directory / "second"
    folder.mkdir()
    return folder


def test_extending_moves_the_end_of_the_lease(queue: BlockQueue, clock: ManualClock) -> None:
    """From where it was, at most until 12 hours from now; also if others were lost."""
    queue.publish_many("cart", ["a", "b"])
    (stale,) = claim(queue, 1, lease="1s")
    (delivery,) = claim(queue, 1, lease="1m")
    start_ms = clock.now_ms()
    delivery.extend("1m")
    assert delivery.lease_expires_at == at(start_ms + 2 * MINUTE_MS)
    clock.advance(MINUTE_MS + 1)
    with pytest.raises(LeaseLost):
        queue.extend("cart", "worker", [stale, delivery], by=timedelta(minutes=1))
    assert delivery.lease_expires_at == at(start_ms + 3 * MINUTE_MS)
    assert stale.lease_expires_at == at(start_ms + 1_000)
    delivery.extend("12h")
    assert delivery.lease_expires_at == at(clock.now_ms() + 12 * HOUR_MS)
    delivery.ack()


def test_a_snooze_gives_back_without_a_failure(queue: BlockQueue, clock: ManualClock) -> None:
    """However often, it never leads to the dead letters."""
    queue.publish("cart", "a")
    for turn in range(10):
        (delivery,) = claim(queue)
        assert (delivery.delivery_count, delivery.failure_count) == (turn + 1, 0)
        delivery.snooze("10s")
        clock.advance(9_999)
        assert claim(queue) == []
        clock.advance(1)


def test_a_nack_counts_a_failure_and_comes_back_after_its_delay(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """Or after the policy's; the last one goes to the dead letters with its reason."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    delivery.nack(delay="10s", error="first")
    clock.advance(9_999)
    assert claim(queue) == []
    clock.advance(1)
    (delivery,) = claim(queue)
    assert delivery.failure_count == 1
    delivery.nack(error="second")  # the second retry: 1s × 2
    clock.advance(1_999)
    assert claim(queue) == []
    clock.advance(1)
    (delivery,) = claim(queue)
    delivery.nack(error="third")
    assert counts(queue) == (0, 0, 1)
    (entry,) = queue.bucket("cart", "worker").entries()
    assert (entry.state, entry.reason, entry.failure_count) == (State.DEAD, "third", 3)


@pytest.mark.parametrize("error", [None, 7, b"bytes", ValueError("x")])
def test_a_nacks_reason_must_be_text(queue: BlockQueue, error: Any) -> None:
    """It is refused where it concerns nobody else."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="error must be text"):
        delivery.nack(error=error)
    delivery.nack(error="\ud800\0" + "x" * 100_000)


def test_one_settlement_has_at_most_1000_deliveries(queue: BlockQueue) -> None:
    """As a claim. None is fine, as a claim may find none."""
    queue.publish("cart", "a")
    (delivery,) = claim(queue)
    with pytest.raises(ValidationError, match="number of deliveries"):
        queue.ack("cart", "worker", [delivery] * 1_001)
    queue.ack("cart", "worker", [])
    assert counts(queue) == (0, 1, 0)
    queue.ack("cart", "worker", [delivery] * 1_000)
    assert counts(queue) == (0, 0, 0)


# The bucket.


def test_the_bucket_lists_newest_first_and_replays_and_drops(
    queue: BlockQueue, clock: ManualClock
) -> None:
    """What waits for a retry, and what has failed for good."""
    queue.add_subscribers("cart", [Subscriber("once", max_attempts=1)])
    for text in ("a", "b", "c", "d"):
        queue.publish("cart", text, priority=ord(text) % 2)
        clock.advance(1_000)
    queue.nack("cart", "once", queue.claim("cart", "once"), error="broken")
    bucket = queue.bucket("cart", "once")
    entries = list(bucket.entries())
    created = [entry.created_ms or 0 for entry in entries]
    assert len(entries) == 4
    assert created == sorted(created, reverse=True)
    assert {entry.reason for entry in entries} == {"broken"}
    assert list(bucket.entries([State.WAITING])) == []

    assert bucket.replay(entries[:1]) == 1
    assert bucket.drop(entries[1:3]) == 2
    assert bucket.drop(entries[:3]) == 1  # the one that waits again now; the others are gone
    assert [entry.handle for entry in bucket.entries()] == [entries[3].handle]
    assert bucket.replay(entries[3:]) == 1
    (again,) = queue.claim("cart", "once")
    assert (again.message, again.delivery_count, again.failure_count) == ("a", 1, 0)
    assert bucket.replay(entries) == 0


def test_a_replay_reaches_who_waits(queue: BlockQueue) -> None:
    """At once."""
    queue.publish("cart", "a")
    claim(queue)[0].nack(delay="10h")
    waiting = background(lambda: claim(queue, wait=3600))
    bucket = queue.bucket("cart", "worker")
    assert bucket.replay(list(bucket.entries())) == 1
    (delivery,) = waiting.result(WAIT_S)
    assert delivery.message == "a"


# The actors.


def test_a_topics_actor_answers_its_messages(queue: BlockQueue) -> None:
    """For those who build on them."""
    job = queue.job("cart")
    answer: Any = job.ask(Publish([Batch(2, pack_messages(["a", "b"]), 0, 0)]), timeout=5)
    assert [published.count for published in answer] == [2]
    answer = job.ask(Claim("worker", limit=1), timeout=5)
    assert [each.body for each in answer] == ["a"]
    handles = [Handle(each.priority, each.seq, each.tag, each.generation) for each in answer]
    answer = job.ask(Settle("worker", Ack(), handles), timeout=5)
    assert [settled.outcome for settled in answer] == [Outcome.DONE]
    with pytest.raises(SubscriberNotFound):
        job.ask(Claim("nobody"), timeout=5)


def test_many_threads_lose_nothing_and_get_nothing_twice(tmp_path: Path) -> None:
    """16 of them publish, claim and ack on one queue."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("worker", claim_limit=3)])

        def work(number: int) -> list[str | bytes]:
            found: list[str | bytes] = []
            for turn in range(20):
                queue.publish_many("cart", [f"{number}-{turn}-a", f"{number}-{turn}-b"])
                deliveries = queue.claim("cart", "worker")
                found += [each.message for each in deliveries]
                if deliveries:
                    queue.ack("cart", "worker", deliveries)
            return found

        found = [text for texts in together(16, work) for text in texts]
        while deliveries := queue.claim("cart", "worker", limit=1_000):
            found += [each.message for each in deliveries]
            queue.ack("cart", "worker", deliveries)

        expected = {f"{n}-{t}-{part}" for n in range(16) for t in range(20) for part in "ab"}
        assert Counter(found) == Counter(expected)
        assert counts(queue) == (0, 0, 0)


# Opening and closing.


def test_a_closed_queue_refuses_everything_and_can_be_closed_again(tmp_path: Path) -> None:
    """And what it has was kept."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish_many("cart", ["a", "b"])
        delivery = claim(queue, 1)[0]
        bucket = queue.bucket("cart", "worker")
        assert queue.close()
        assert queue.close()
    uses: list[Callable[[], object]] = [
        lambda: queue.publish("cart", "c"),
        lambda: claim(queue),
        lambda: queue.create_topic("box", ["worker"]),
        lambda: queue.delete_topic("cart"),
        lambda: queue.topics(),
        lambda: queue.subscribers("cart"),
        lambda: queue.pause("cart"),
        lambda: queue.job("cart"),
        lambda: list(bucket.entries()),
        lambda: delivery.ack(),
    ]
    for use in uses:
        with pytest.raises(QueueClosed):
            use()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("queue.db", "queue.db-hints", "queue.db-lock")
    ]
    with BlockQueue(path) as queue:
        assert [each.message for each in claim(queue)] == ["b"]


def test_closing_while_others_work_answers_every_one_of_them(tmp_path: Path) -> None:
    """Each has its result or QueueClosed, and what was confirmed is there afterwards."""
    path = tmp_path / "queue.db"
    queue = BlockQueue(path)
    queue.create_topic("cart", ["worker"])
    confirmed: list[str] = []
    started = threading.Semaphore(0)

    def work(number: int) -> None:
        for turn in range(100_000):
            try:
                queue.publish("cart", f"{number}-{turn}")
            except QueueClosed:
                return
            confirmed.append(f"{number}-{turn}")
            started.release()

    workers = [background(partial(work, number)) for number in range(4)]
    for _ in range(40):
        assert started.acquire(timeout=WAIT_S)
    assert queue.close()
    for worker in workers:
        worker.result(WAIT_S)

    with BlockQueue(path) as queue:
        found: list[str | bytes] = []
        while deliveries := claim(queue, 1_000):
            found += [each.message for each in deliveries]
        assert sorted(confirmed) == sorted(map(str, found))


def test_a_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """In words, and nothing is left running."""
    before = threading.active_count()
    (tmp_path / "text").write_text("this is no database, and long enough to be sure of that" * 10)
    for path in (tmp_path, tmp_path / "missing" / "queue.db", tmp_path / "text"):
        with pytest.raises(DatabaseUnusable, match=r"cannot open|not a database"):
            BlockQueue(path)
    assert threading.active_count() == before


def test_a_closed_queue_leaves_no_thread(tmp_path: Path) -> None:
    """Nor an open file."""
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with open_queue(tmp_path) as (queue, _):
            queue.publish("cart", "a")
            claim(queue)
            queue.delete_topic("cart")
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files


def test_every_error_has_a_code_and_is_one_of_ours(queue: BlockQueue) -> None:
    """One root to catch, and a code that stays."""
    codes: dict[str, Callable[[], object]] = {
        "topic_not_found": lambda: queue.publish("nowhere", "a"),
        "resource_not_found": lambda: queue.claim("cart", "nobody"),
        "conflict": lambda: queue.create_topic("cart", ["worker"]),
        "validation_error": lambda: queue.create_topic("", ["worker"]),
    }
    for code, use in codes.items():
        with pytest.raises(BlockQueueError) as caught:
            use()
        assert caught.value.code == code


def test_importing_the_package_loads_no_server(tmp_path: Path) -> None:
    """Whoever embeds a queue does not pay for HTTP or the command line."""
    script = (
        "import sys, blockqueue\n"
        "found = {'falcon', 'waitress', 'click', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {found}' if found else 0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
