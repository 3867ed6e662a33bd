"""A pytest plugin: a queue of its own for each test, on a clock that the test moves.

It is found by itself once blockqueue is installed beside pytest. It is used like this::

    def test_an_order_that_fails_is_tried_again(blockqueue_queue, blockqueue_clock):
        blockqueue_queue.create_topic("orders", [Subscriber("mail", retry_jitter=0)])
        blockqueue_queue.publish("orders", "42")
        (delivery,) = blockqueue_queue.claim("orders", "mail")
        delivery.nack(error="the mail server is away")
        assert blockqueue_queue.claim("orders", "mail") == []
        blockqueue_clock.advance(1_000)
        (again,) = blockqueue_queue.claim("orders", "mail")
        assert again.failure_count == 1
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, ManualClock

__all__ = ["blockqueue_clock", "blockqueue_queue"]


@pytest.fixture
def blockqueue_clock() -> ManualClock:
    """Return the clock of ``blockqueue_queue``: it stands still until the test moves it.

    Delays, leases, retries, schedules and the waiting of claims all follow it. So a claim
    with ``wait`` that finds nothing returns only once another thread has moved the clock on.
    """
    return ManualClock()


@pytest.fixture
def blockqueue_queue(tmp_path: Path, blockqueue_clock: ManualClock) -> Iterator[BlockQueue]:
    """Open an empty queue in the test's temporary folder, and close it after the test."""
    with BlockQueue(tmp_path / "blockqueue.db", clock=blockqueue_clock) as queue:
        yield queue
