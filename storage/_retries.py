"""What a failure leads to: another try after a delay, or the dead letters."""

from __future__ import annotations

import hashlib

from ._runs import Run, move
from ._states import Event
from ._subscriber import Subscriber


def failed(
    run: Run,
    event: Event,
    subscriber: Subscriber,
    now_ms: int,
    reason: str,
    delay_ms: int | None = None,
) -> Run:
    """Return a leased ``run`` after one more failure.

    ``event`` is NACK or EXPIRE. ``delay_ms``: exactly that long instead of the policy's.
    """
    failures = run.failure_count + 1
    if failures >= subscriber.max_attempts:
        return move(run, Event.BURY, now_ms, failure_count=failures, reason=reason)
    if delay_ms is None:
        delay_ms = retry_delay_ms(subscriber, run.first_seq, failures)
    return move(run, event, now_ms + delay_ms, failure_count=failures, reason=reason)


def retry_delay_ms(subscriber: Subscriber, first_seq: int, failures: int) -> int:
    """Return the delay before retry number ``failures``.

    The jitter comes from the run's first message and the number of failures, not from
    chance, so that a failure does not tear a run into one row per message.
    """
    top = float(subscriber.retry_max_ms)
    base = nominal_delay_ms(subscriber, failures)
    said = f"{subscriber.id},{first_seq},{failures}".encode()
    drawn = int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") / 2**64
    spread = 1 + subscriber.retry_jitter * (2 * drawn - 1)
    return round(min(base * spread, top))


def nominal_delay_ms(subscriber: Subscriber, failures: int) -> float:
    """Return the delay before retry number ``failures``, without its jitter."""
    top = float(subscriber.retry_max_ms)
    try:
        growth = subscriber.retry_multiplier ** (failures - 1)
    except OverflowError:
        growth = top
    return min(subscriber.retry_initial_ms * growth, top)
