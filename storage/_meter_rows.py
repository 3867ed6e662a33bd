"""The numbers of all meters, of all processes of one database together.

Each process has a row in the mapped file of the hints, and alone writes it. A row outlives its
process: who takes the slot next counts on from there. So sums over all rows only rise, whoever
was killed, and there is nothing to collect or to clean up. A process that is killed takes with
it at most what its last commit has counted, and the times of its last half second: these are
only noted on the way, as sorting them into buckets after each commit would slow it down by 5 %.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from . import meters
from ._buckets import bucketed
from ._hints import SLOTS, Hints

_BYTES = 8
# What a place can hold. Numbers go round there: nobody checks the file, and counting comes after
# the commit, where nothing may fail.
_MAX = 2**63 - 1
_SIZE = SLOTS * meters.ROW * _BYTES
# So much is noted at most: should nobody sort it, the oldest goes.
_NOTES_MAX = 65_536


class Meters:
    """This process's row, and a look at all of them. Safe for any thread."""

    def __init__(self, path: str, hints: Hints) -> None:
        """Map the rows behind the hints; needs the write lock.

        Where all slots are taken the process counts for itself alone.
        """
        self._hints = hints
        self._lock = threading.Lock()  # guards _row
        self._map: mmap.mmap | None = None
        self._row = _empty_row()
        # Not sorted yet. Numbers only: what the garbage collector looks through would cost more.
        self._noted: dict[int, deque[float]] = {
            meter.place: deque(maxlen=_NOTES_MAX) for meter in meters.METERS if meter.bounds
        }
        if hints.slot is None:
            return
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < mmap.PAGESIZE + _SIZE:
                os.posix_fallocate(fd, 0, mmap.PAGESIZE + _SIZE)
            self._map = mmap.mmap(fd, _SIZE, offset=mmap.PAGESIZE)
        finally:
            os.close(fd)
        self._numbers = memoryview(self._map).cast("q")
        start = hints.slot * meters.ROW
        row = self._numbers[start : start + meters.ROW]
        if row[0] != meters.LAYOUT:  # nobody's yet, or of another version
            row[:] = self._row
            row[0] = meters.LAYOUT
        for gauge in meters.GAUGES:
            row[gauge] = 0
        self._row = row

    def add(self, place: int, count: int = 1) -> None:
        """Count."""
        with self._lock:
            self._row[place] = self._row[place] + count & _MAX

    def own(self, place: int) -> int:
        """Return a number of this process's row."""
        with self._lock:
            return self._row[place]

    def set(self, values: Mapping[int, int]) -> None:
        """Set what is not added to, and sort what was noted."""
        with self._lock:
            self._sort()
            for place, value in values.items():
                self._row[place] = value & _MAX

    def time(self, place: int, seconds: Sequence[float]) -> None:
        """Note how long something took, each time."""
        self._noted[place].extend(seconds)

    def note_commit(
        self, tally: Mapping[int, int], pages: int, waited_s: float, took_s: float
    ) -> None:
        """Note what a transaction has done, how long it waited for others, and how long it took.

        With no ``pages`` written to the log it was no commit, and only what it counted is noted.
        """
        with self._lock:
            row = self._row
            for place, count in tally.items():
                row[place] = row[place] + count & _MAX
            if not pages:
                return
            row[meters.PAGES_WRITTEN] = row[meters.PAGES_WRITTEN] + pages & _MAX
            row[meters.FLUSHED] = row[meters.FLUSHED] + 1 & _MAX
        if published := tally.get(meters.PERSISTED):
            self._noted[meters.FLUSH_SIZE].append(published)
        self._noted[meters.LOCK_SECONDS].append(waited_s)
        self._noted[meters.FLUSH_SECONDS].append(took_s)

    def _sort(self) -> None:
        """Put what was noted where it belongs. Under the lock."""
        for meter in meters.METERS:
            if noted := self._noted.get(meter.place):
                self._put(meter, [noted.popleft() for _ in range(len(noted))])

    def _put(self, meter: meters.Meter, noted: list[float]) -> None:
        numbers = *bucketed(noted, meter.bounds), round(sum(noted) * meter.scale)
        for place, number in enumerate(numbers, meter.place):
            self._row[place] = self._row[place] + number & _MAX

    def total(self) -> tuple[list[int], int]:
        """Return the row that all processes make together, and how many of them live."""
        with self._lock:
            self._sort()
            own = list(self._row)
            rows = [] if self._map is None else self._numbers.tolist()
        if not rows:
            return own, 1
        living = self._hints.living()
        whole = [rows[start : start + meters.ROW] for start in range(0, len(rows), meters.ROW)]
        known = [row for row in whole if row[0] == meters.LAYOUT]
        total = list(map(sum, zip(*known, strict=True)))
        for gauge in meters.GAUGES:
            values = [whole[slot][gauge] for slot in living if whole[slot][0] == meters.LAYOUT]
            total[gauge] = max(values) if gauge == meters.PERSISTENCE_LAG else sum(values)
        return total, len(living)

    def close(self) -> None:
        """Let go of the file; what is still counted is lost."""
        with self._lock:
            self._sort()
            if self._map is None:
                return
            self._row.release()
            self._row = _empty_row()
            self._numbers.release()
            self._map.close()
            self._map = None


def _empty_row() -> memoryview[int]:
    return memoryview(bytearray(meters.ROW * _BYTES)).cast("q")
