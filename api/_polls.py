"""How many polls may wait at once, whoever they are for."""

from __future__ import annotations

import threading

from blockqueue.storage import BackPressure


class Polls:
    """Counts the polls that wait. May be used from any thread."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._lock = threading.Lock()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def enter(self) -> None:
        """Count one more. Raises BackPressure if that is more than may wait."""
        with self._lock:
            if self._size >= self.size_max:
                raise BackPressure(f"{self.size_max} polls wait already: try again later")
            self._size += 1

    def leave(self) -> None:
        """Count one less: one that ``enter`` has counted."""
        with self._lock:
            self._size -= 1
