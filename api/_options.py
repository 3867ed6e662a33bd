"""A subscriber's options as a caller writes them."""

from __future__ import annotations

import msgspec

from blockqueue import storage

from ._durations import Duration, milliseconds


class Subscriber(msgspec.Struct, frozen=True):
    """A subscriber to be made, with its delivery options.

    Args:
        name: 1 to 150 bytes of UTF-8 without "/", control characters or outer blanks.
        max_attempts: dead when that many failures (nacks, expired leases) have happened.
        visibility: how long a lease lasts unless the claim says otherwise, 1ms to 12h.
        claim_limit: how many messages a claim takes unless it says otherwise, 1 to 1000.
        retry_initial, retry_max, retry_multiplier: the delay before retry n is
            ``initial × multiplier^(n-1)``, at most ``max``.
        retry_jitter: spreads that delay by ± this part of itself, 0 to 1.
    """

    name: str
    max_attempts: int = 3
    visibility: Duration = "5m"
    claim_limit: int = 10
    retry_initial: Duration = "1s"
    retry_max: Duration = "1h"
    retry_multiplier: float = 2.0
    retry_jitter: float = 0.2

    def stored(self) -> storage.Subscriber:
        """Return it as the storage wants it. Raises ValidationError."""
        return storage.Subscriber(
            self.name,
            self.max_attempts,
            milliseconds("visibility", self.visibility),
            self.claim_limit,
            milliseconds("retry_initial", self.retry_initial),
            milliseconds("retry_max", self.retry_max),
            self.retry_multiplier,
            self.retry_jitter,
        )
