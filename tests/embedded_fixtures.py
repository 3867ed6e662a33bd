"""The queue that most tests of the embedded face use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, ManualClock, Subscriber

from .embedded_helpers import open_queue


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
