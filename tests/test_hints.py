"""The hints beside the database may be damaged: nothing that anybody needs comes from them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockqueue import BlockQueue, QueueClosed
from blockqueue.storage import _hints

_NUMBERS = 512
_WORST = [2**63 - 1, -(2**63), -1, 1, 2, 2**23, 2**32 << 1]


def work_with(numbers: dict[int, int]) -> None:
    """Use a queue whose hints hold these numbers, by their places, in two processes' ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.db"
        page = memoryview(bytearray(8 * _NUMBERS)).cast("q")
        for place, number in numbers.items():
            page[place] = number
        Path(f"{path}-hints").write_bytes(page.tobytes())
        with BlockQueue(path) as queue, BlockQueue(path) as other:
            queue.create_topic("cart", ["counter"])
            queue.publish("cart", "hi")
            (delivery,) = other.claim("cart", "counter", wait=5)
            delivery.ack()
            assert not other.claim("cart", "counter")


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 70) | st.integers(0, _NUMBERS - 1),
        st.sampled_from(_WORST) | st.integers(-(2**63), 2**63 - 1),
        max_size=80,
    )
)
def test_a_queue_works_whatever_its_hints_hold(numbers: dict[int, int]) -> None:
    work_with(numbers)


@pytest.mark.parametrize("number", _WORST)
def test_a_queue_works_though_each_hint_is_wrong(number: int) -> None:
    work_with(dict.fromkeys(range(_NUMBERS), number))


@pytest.mark.parametrize("bound", ["_PID_MAX", "_LAST"])
def test_control_without_its_bounds_it_fails(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process number that no system gives, or a count that cannot rise."""
    monkeypatch.setattr(_hints, bound, 2**64)
    with pytest.raises((OverflowError, QueueClosed)):
        work_with(dict.fromkeys(range(_NUMBERS), 2**63 - 1))


def test_a_slot_of_no_process_is_free(tmp_path: Path) -> None:
    """Number 0 is the caller's own group to the kernel, a negative one another group."""
    path = tmp_path / "hints"
    for pid in (0, -1, -os.getpgrp(), 2**22 + 1, 2**40):
        page = memoryview(bytearray(8 * _NUMBERS)).cast("q")
        page[64] = pid << 1 | 1
        path.write_bytes(page.tobytes())
        hints = _hints.Hints(str(path), os.getpid())
        assert hints.slot == 0
        hints.close()
