"""A subscriber with its options, and what they may be."""

from __future__ import annotations

import math

import msgspec

from . import limits
from ._errors import ValidationError

__all__ = ["Subscriber"]


class Subscriber(msgspec.Struct, frozen=True):
    """A subscriber of a topic.

    ``max_attempts``: dead when that many failures (nacks, expired leases) have happened.
    ``visibility_ms``: how long a lease lasts unless the claim says otherwise, 1 ms to 12 h.
    ``claim_limit``: how many messages a claim takes unless it says otherwise, 1 to 1000.
    The delay before retry n is ``initial × multiplier^(n-1)``, at most ``max``, spread by
    ± ``jitter`` (0 to 1) of itself. Defaults are those of the HTTP contract.
    """

    name: str
    max_attempts: int = 3
    visibility_ms: int = 300_000
    claim_limit: int = 10
    retry_initial_ms: int = 1_000
    retry_max_ms: int = 3_600_000
    retry_multiplier: float = 2.0
    retry_jitter: float = 0.2
    paused: int = 0
    id: int = 0
    topic_id: int = 0

    def check(self) -> None:
        """Raise ValidationError naming the first option that is out of range."""
        limits.check_name("subscriber", self.name)
        limits.check_range("max_attempts", self.max_attempts, 1, limits.ATTEMPTS_MAX)
        limits.check_range("visibility", self.visibility_ms, 1, limits.LEASE_MS_MAX, " ms (12h)")
        limits.check_range("claim limit", self.claim_limit, 1, limits.BATCH_MAX)
        limits.check_range("retry initial", self.retry_initial_ms, 0, limits.DELAY_MS_MAX, " ms")
        limits.check_range(
            "retry max", self.retry_max_ms, self.retry_initial_ms, limits.DELAY_MS_MAX, " ms"
        )
        if not (math.isfinite(self.retry_multiplier) and self.retry_multiplier >= 1):
            raise ValidationError("the retry multiplier must be 1 or more")
        if not 0 <= self.retry_jitter <= 1:
            raise ValidationError("the retry jitter must be from 0 to 1")
