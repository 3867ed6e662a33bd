"""A worker's options, checked, in seconds."""

from __future__ import annotations

import msgspec

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.storage import ValidationError, limits

CONCURRENCY_MAX = 1000


class Settings(msgspec.Struct, frozen=True):
    """What ``Worker`` was asked for. Durations are seconds."""

    concurrency: int
    #: A claim takes no more.
    batch: int
    lease_s: float
    #: None: leases are not made longer.
    heartbeat_s: float | None
    #: None: a handler may take as long as it likes.
    timeout_s: float | None
    operation_timeout_s: float
    drain_s: float
    hard_stop_s: float
    pause_poll_s: float
    completion_batch: int
    completion_flush_s: float


def checked(
    *,
    concurrency: int,
    batch: int | None,
    lease: Duration,
    heartbeat: Duration | None,
    timeout: Duration | None,
    operation_timeout: Duration,
    drain: Duration,
    hard_stop: Duration,
    pause_poll: Duration,
    completion_batch: int,
    completion_flush: Duration,
) -> Settings:
    """Raise ValidationError naming the first option that is wrong."""
    limits.check_range("concurrency", concurrency, 1, CONCURRENCY_MAX)
    limits.check_range("batch", 1 if batch is None else batch, 1, limits.BATCH_MAX)
    limits.check_range("completion_batch", completion_batch, 1, limits.BATCH_MAX)
    lease_ms = milliseconds("lease", lease)
    limits.check_range("lease", lease_ms, 1, limits.LEASE_MS_MAX, " ms (12h)")
    return Settings(
        concurrency,
        limits.BATCH_MAX if batch is None else batch,
        lease_ms / 1000,
        _heartbeat_s(heartbeat, lease_ms),
        None if timeout is None else _positive("timeout", timeout),
        _positive("operation_timeout", operation_timeout),
        _positive("drain", drain, at_least_ms=0),
        _positive("hard_stop", hard_stop, at_least_ms=0),
        _positive("pause_poll", pause_poll),
        completion_batch,
        _positive("completion_flush", completion_flush, at_least_ms=0),
    )


def _heartbeat_s(heartbeat: Duration | None, lease_ms: int) -> float | None:
    if heartbeat is None:
        return lease_ms / 3000
    heartbeat_ms = milliseconds("heartbeat", heartbeat)
    if not 0 <= heartbeat_ms < lease_ms:
        raise ValidationError(
            f"heartbeat must be less than the lease of {lease_ms} ms, or 0 for none, "
            f"not {heartbeat_ms} ms"
        )
    return heartbeat_ms / 1000 or None


def _positive(what: str, value: Duration, at_least_ms: int = 1) -> float:
    ms = milliseconds(what, value)
    return limits.check_range(what, ms, at_least_ms, limits.DELAY_MS_MAX, " ms") / 1000
