"""How much one token asks for at the moment, and whether that is too much."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from blockqueue.storage import RateLimited, TokenLimits


class Bucket:
    """A token bucket: ``rate`` flows in each second, up to a second's worth.

    What is larger than the bucket passes when it is full, and is paid for afterwards: until
    then there is less than nothing in it. Not thread-safe.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._room = max(1.0, rate)
        self._level = self._room
        self._filled_s = now()

    def take(self, amount: float) -> float:
        """Take it and return 0, or return in how many seconds there will be enough."""
        now_s = self._now()
        self._level = min(self._room, self._level + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        missing = min(amount, self._room) - self._level
        if missing > 0:
            return missing / self._rate
        self._level -= amount
        return 0.0


class Quota:
    """The limits of one token in this process. Thread-safe."""

    def __init__(self, limits: TokenLimits, now: Callable[[], float]) -> None:
        self.limits = limits
        self._lock = threading.Lock()  # guards all below
        self._requests = None if (rate := limits.requests_per_s) is None else Bucket(rate, now)
        self._bytes = None if (rate := limits.bytes_per_s) is None else Bucket(rate, now)
        self._in_flight = 0
        self._polls = 0
        self._is_limited = limits != TokenLimits()
        #: Whether it matters how many requests and polls there are at the moment.
        self.counts = limits.in_flight is not None or limits.polls is not None

    def enter(self, nbytes: int) -> None:
        """Count a request in, or raise RateLimited."""
        if not self._is_limited:
            return
        with self._lock:
            _check("requests in flight", self._in_flight, self.limits.in_flight)
            _take("requests", self._requests, 1)
            _take("bytes", self._bytes, nbytes)
            self._in_flight += self.counts

    def leave(self) -> None:
        if self.counts:
            with self._lock:
                self._in_flight -= 1

    def park(self) -> None:
        """Count a poll in that has to wait, or raise RateLimited."""
        if self.counts:
            with self._lock:
                _check("polls that wait", self._polls, self.limits.polls)
                self._polls += 1

    def unpark(self) -> None:
        if self.counts:
            with self._lock:
                self._polls -= 1


def _check(what: str, count: int, most: int | None) -> None:
    if most is not None and count >= most:
        raise RateLimited(f"the token may have {most} {what} at a time")


def _take(what: str, bucket: Bucket | None, amount: int) -> None:
    wait_s = 0.0 if bucket is None else bucket.take(amount)
    if wait_s > 0:
        raise RateLimited(f"the token has asked for too many {what} a second", math.ceil(wait_s))
