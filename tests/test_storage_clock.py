"""The clock on the wall is set: leases neither end at once nor last for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blockqueue.storage import (
    Ack,
    BootClock,
    Store,
    Subscriber,
    claim,
    create_topic,
    expire,
    pack_messages,
    publish,
    settle,
)
from blockqueue.storage import Batch as Messages
from blockqueue.storage import _clock as clock_module

from .storage_helpers import handles

_HOUR_MS = 3_600_000
_LEASE_MS = 60_000
_2038_MS = 2_147_483_648_000
# Where the clock on the wall is set to, from where it is.
_JUMPS: dict[str, Callable[[int], int]] = {
    "an hour back": lambda ms: ms - _HOUR_MS,
    "a day back": lambda ms: ms - 24 * _HOUR_MS,
    "to 1970": lambda ms: 0,
    "an hour on": lambda ms: ms + _HOUR_MS,
    "a day on": lambda ms: ms + 24 * _HOUR_MS,
    "to 2038": lambda ms: _2038_MS,
}
_BACK = [name for name in _JUMPS if "back" in name or name == "to 1970"]


class Machine:
    """Stands for the module ``time``: a wall clock that is set, and the time since the boot."""

    CLOCK_BOOTTIME = CLOCK_MONOTONIC = 7

    def __init__(self) -> None:
        self.wall_ms = 1_790_000_000_000
        self.since_boot_ms = 5_000_000
        self.boot = "first boot"

    def time_ns(self) -> int:
        return self.wall_ms * 1_000_000

    def clock_gettime_ns(self, which: int) -> int:
        return self.since_boot_ms * 1_000_000

    def pass_by(self, ms: int) -> None:
        self.wall_ms += ms
        self.since_boot_ms += ms

    def reboot(self) -> None:
        self.boot += "'"
        self.since_boot_ms = 10_000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(clock_module, "time", made)
    monkeypatch.setattr(clock_module, "boot_id", lambda: made.boot)
    return made


def lease_one(path: Path) -> tuple[Store, int]:
    """Lease one message for a minute; return the store and the subscriber's number."""
    store = Store(path)
    topic = create_topic(store, "cart", [Subscriber("worker")])
    publish(store, topic.id, [Messages(1, pack_messages(["a"]))])
    assert len(claim(store, 1, 1, _LEASE_MS)) == 1
    return store, 1


def check_lease(store: Store, machine: Machine, subscriber: int) -> None:
    """See that the lease holds now, and has ended a little more than a minute later."""
    assert expire(store) == []
    assert claim(store, subscriber, 1) == []
    machine.pass_by(_LEASE_MS + 2_000)
    assert expire(store) == [subscriber]


@pytest.mark.parametrize("jump", _JUMPS)
def test_a_live_queue_does_not_follow_the_clock_on_the_wall(
    tmp_path: Path, machine: Machine, jump: str
) -> None:
    """A lease of a minute lasts a minute."""
    store, subscriber = lease_one(tmp_path / "queue.db")
    machine.wall_ms = _JUMPS[jump](machine.wall_ms)

    check_lease(store, machine, subscriber)
    store.close()


@pytest.mark.parametrize("jump", _JUMPS)
def test_a_restart_does_not_follow_it_either(tmp_path: Path, machine: Machine, jump: str) -> None:
    """The same boot has the same offset, whatever the clock on the wall says by then."""
    store, subscriber = lease_one(tmp_path / "queue.db")
    store.close()
    machine.wall_ms = _JUMPS[jump](machine.wall_ms)

    store = Store(tmp_path / "queue.db")

    check_lease(store, machine, subscriber)
    store.close()


@pytest.mark.parametrize("jump", _BACK)
def test_a_reboot_with_a_clock_that_is_behind_makes_no_lease_eternal(
    tmp_path: Path, machine: Machine, jump: str
) -> None:
    """Time goes on from the last one that was stored: a dead battery holds nothing up."""
    store, subscriber = lease_one(tmp_path / "queue.db")
    store.close()
    machine.reboot()
    machine.wall_ms = _JUMPS[jump](machine.wall_ms)

    store = Store(tmp_path / "queue.db")

    check_lease(store, machine, subscriber)
    store.close()


def test_a_reboot_takes_the_time_that_has_passed(tmp_path: Path, machine: Machine) -> None:
    """Nobody was there to keep the lease, and its message is handed out again."""
    store, subscriber = lease_one(tmp_path / "queue.db")
    store.close()
    machine.reboot()
    machine.wall_ms += _HOUR_MS

    store = Store(tmp_path / "queue.db")

    assert expire(store) == [subscriber]
    store.close()


def test_a_clock_of_2038_at_a_boot_is_left_behind_without_harm(
    tmp_path: Path, machine: Machine
) -> None:
    """Time never goes back; it goes on from there, and leases last as long as ever."""
    right_ms = machine.wall_ms
    machine.wall_ms = _2038_MS
    store, subscriber = lease_one(tmp_path / "queue.db")
    store.close()
    machine.reboot()
    machine.wall_ms = right_ms

    store = Store(tmp_path / "queue.db")
    check_lease(store, machine, subscriber)
    machine.pass_by(_HOUR_MS)
    held = claim(store, subscriber, 1, _LEASE_MS)
    assert len(held) == 1
    machine.wall_ms = right_ms
    assert expire(store) == []
    assert settle(store, subscriber, Ack(), handles(held))[0].outcome.value == "done"
    store.close()


def test_a_clock_that_follows_the_wall_is_caught(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(BootClock, "now_ms", BootClock.wall_ms)
    store, subscriber = lease_one(tmp_path / "queue.db")
    machine.wall_ms += _HOUR_MS

    with pytest.raises(AssertionError):
        check_lease(store, machine, subscriber)
    store.close()
