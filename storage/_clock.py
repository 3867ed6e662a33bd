"""Time that never goes back: leases, delays and retention use nothing else.

``now_ms`` is milliseconds since the Unix epoch as the machine understood it when it
booted: CLOCK_BOOTTIME plus an offset. The offset is fixed once per boot, under the write
lock, and stored, so all processes of one boot agree, and setting the wall clock changes
nothing. A new boot takes the wall clock again, but never a time before the last one stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ._errors import DatabaseUnusable

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# How far the stored time may lag behind; a new boot starts that much later.
_STEP_MS = 1_000


class Clock(Protocol):
    """Where the queue gets its time from."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch. Never less than before."""
        raise NotImplementedError

    def wall_ms(self) -> int:
        """Return the time on the wall, which may be set: for cron and absolute times only."""
        raise NotImplementedError

    def wait_s(self, due_ms: int) -> float | None:
        """Return the real seconds until ``due_ms``; None when only ``on_change`` will tell."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the time jumps (only a clock that is set by hand does)."""


class BootClock:
    """The machine's time since boot plus an offset."""

    def __init__(self, offset_ms: int) -> None:
        self._offset_ns = offset_ms * 1_000_000

    def now_ms(self) -> int:
        return (time.clock_gettime_ns(_BOOTTIME) + self._offset_ns) // 1_000_000

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def wait_s(self, due_ms: int) -> float | None:
        return max(0.0, (due_ms - self.now_ms()) / 1000)

    def on_change(self, callback: Callable[[], None]) -> None:
        pass


class ManualClock:
    """A clock for tests: it stands still until ``advance``."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._lock = threading.Lock()  # guards all below
        self._now_ms = now_ms
        self._wall_shift_ms = 0
        self._callbacks: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        with self._lock:
            return self._now_ms

    def wall_ms(self) -> int:
        with self._lock:
            return self._now_ms + self._wall_shift_ms

    def set_wall(self, wall_ms: int) -> None:
        """Set the clock on the wall, in either direction; the queue's time is not moved."""
        with self._lock:
            self._wall_shift_ms = wall_ms - self._now_ms
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def wait_s(self, due_ms: int) -> float | None:
        return 0.0 if due_ms <= self.now_ms() else None

    def on_change(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._callbacks.append(callback)

    def advance(self, ms: int) -> None:
        """Move the clock on by ``ms`` milliseconds and tell everyone who waits on it."""
        if ms < 0:
            raise ValueError("time never goes back")
        with self._lock:
            self._now_ms += ms
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()


# The two clocks drift apart by the corrections of the wall's. Up to this is called the same,
# so that a time that was asked for is the time that is shown.
_SAME_MS = 1_000


def from_wall(clock: Clock, wall_ms: int) -> int:
    """Translate a time on the wall into the queue's time."""
    drift_ms = clock.wall_ms() - clock.now_ms()
    return wall_ms if abs(drift_ms) < _SAME_MS else wall_ms - drift_ms


class StoredClock(msgspec.Struct):
    """What the file knows of time: the boot it was told last, its offset, how far it came."""

    boot_id: str = ""
    offset_ms: int = 0
    last_now_ms: int = 0

    @classmethod
    def unpack(cls, packed: bytes) -> StoredClock:
        """Read what ``pack`` has made. Raises DatabaseUnusable."""
        try:
            return msgspec.json.decode(packed, type=cls)
        except msgspec.DecodeError as error:
            raise DatabaseUnusable(
                f"what the database knows of time is damaged ({error}): restore a backup"
            ) from error

    def pack(self) -> bytes:
        return msgspec.json.encode(self)

    def start(self) -> BootClock:
        """Return this boot's clock, with a new offset if it is not the boot that was stored."""
        clock = BootClock(self.offset_ms)
        # A container that was moved may keep the boot's id and start its time anew.
        if self.boot_id != boot_id() or clock.now_ms() < self.last_now_ms:
            self.boot_id = boot_id()
            self.last_now_ms += _STEP_MS
            self.offset_ms = boot_offset_ms(self.last_now_ms)
            clock = BootClock(self.offset_ms)
        self.last_now_ms = max(clock.now_ms(), self.last_now_ms)
        return clock

    def reach(self, now_ms: int) -> bool:
        """Note that time has come to ``now_ms``. Returns whether that is worth storing."""
        if now_ms < self.last_now_ms + _STEP_MS:
            return False
        self.last_now_ms = now_ms
        return True


def boot_id() -> str:
    """Return a text that is the same until the machine boots again."""
    try:
        with open(_BOOT_ID_FILE, encoding="ascii") as file:
            return file.read().strip()
    except OSError:  # not Linux: the boot's wall time, in minutes, is close enough
        booted_s = time.time() - time.clock_gettime(_BOOTTIME)
        return f"booted-{round(booted_s / 60)}"


def boot_offset_ms(last_now_ms: int) -> int:
    """Return this boot's offset, such that time does not fall behind ``last_now_ms``."""
    wall_ms = time.time_ns() // 1_000_000
    return max(wall_ms, last_now_ms) - time.clock_gettime_ns(_BOOTTIME) // 1_000_000
