"""How often a child may be started anew before its supervisor gives up on it."""

from __future__ import annotations

import time
from collections import deque

RESTARTS_MAX = 3
WITHIN_S = 5.0


class Restarts:
    """The restarts of one child: at most ``RESTARTS_MAX`` within ``WITHIN_S`` seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=RESTARTS_MAX)

    def allowed(self) -> bool:
        """Count one more restart. False: that is too many, the failure must escalate."""
        now = time.monotonic()
        if len(self._times) == RESTARTS_MAX and now - self._times[0] < WITHIN_S:
            return False
        self._times.append(now)
        return True
