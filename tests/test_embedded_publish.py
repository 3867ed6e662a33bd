"""The embedded face: publishing, and what comes out of a claim."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    BackPressure,
    BlockQueue,
    Duration,
    ManualClock,
    Message,
    Subscriber,
    TopicNotFound,
    ValidationError,
)
from blockqueue.storage import Tx

from .embedded_helpers import (
    MINUTE_MS,
    WAIT_S,
    at,
    background,
    claim,
    eventually,
    open_queue,
)

HOUR_MS = 60 * MINUTE_MS
YEAR_MS = 365 * 24 * HOUR_MS


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
