"""How a consumer goes on from claim to claim: without end, and never in a hurry."""

from __future__ import annotations

import logging
import random
from typing import Protocol

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.storage import BlockQueueError, Paused

logger = logging.getLogger("blockqueue")

_PAUSED_S = 5.0
_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 5.0
# What a server that is stopped, overworked or out of reach answers; all else stays as it is.
_PASSING = frozenset({429, 503, 507})


class Stop(Protocol):
    """What can be set to end a consumer: an event of threading, asyncio or anyio."""

    def is_set(self) -> bool: ...


class Rounds:
    """What to do between two claims of one consumer."""

    def __init__(self, wait: Duration, stop_when_paused: bool) -> None:
        self._wait_s = milliseconds("wait", wait) / 1000
        self._stop_when_paused = stop_when_paused
        self._failures = 0
        self._paused = False

    def claimed(self, count: int, spent_s: float) -> float:
        """Return how long to pause after a claim that took so long.

        A server that is stopping answers at once that there is nothing.
        """
        if count == 0 and spent_s < self._wait_s / 2:
            self._failures += 1
            return self._pause_s()
        self._failures, self._paused = 0, False
        # Without a wait nothing else would hold a consumer up.
        return _PAUSE_S_MIN if count == 0 and self._wait_s < _PAUSE_S_MIN else 0.0

    def failed(self, error: BlockQueueError) -> float | None:
        """Return how long to pause after an error, None to end; else raise it again."""
        if isinstance(error, Paused):
            if self._stop_when_paused:
                return None
            if not self._paused:
                logger.info("waiting, because %s", error)
            self._paused = True
            return _PAUSED_S * random.uniform(0.8, 1.2)
        if error.status not in _PASSING:
            raise error
        if self._failures == 0:
            logger.warning("claiming again after: %s", error)
        self._failures += 1
        return self._pause_s()

    def _pause_s(self) -> float:
        most_s = min(_PAUSE_S_MAX, _PAUSE_S_MIN * 2 ** min(self._failures, 10))
        return random.uniform(most_s / 2, most_s)


def give_back_failed(error: BlockQueueError) -> None:
    """Tell that messages could not be given back; that is late, and not wrong."""
    logger.warning("claimed messages come again only when their leases run out: %s", error)
