"""The log as it lies on the disk, looked through before SQLite opens it.

SQLite takes the log up to the first frame that is wrong and drops the rest without a word.
That is right for a tail that a power cut has torn, and wrong for a flipped bit in the middle:
every commit after it would be gone. The two can be told apart, because a commit is on the disk
before the next one begins: only the last one can be torn.

Frames are summed up many at a time. The sum is linear, so the weighted sum of their words must
give the weighted sum of their checksums; the words lie in the lanes of long numbers, which
Python adds as fast as C does.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from ._errors import DatabaseUnusable

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682  # the next number: sums are over words in big-endian order
_M32 = 0xFFFFFFFF
_GROUP = 256
# Odd, so that no difference vanishes, and different, so that two do not cancel out.
_WEIGHTS = [(40503 * number & 0xFFFF) | 1 for number in range(1, _GROUP + 1)]

_Sums = tuple[int, int]


class Log(NamedTuple):
    """What a look at a log has found. ``bad``: the first wrong frame, from 1; 0 is the header."""

    nbytes: int
    #: Frames of this log; those of earlier ones that lie behind it do not count.
    frames: int = 0
    bad: int | None = None
    #: How many commits after the wrong frame are whole.
    commits_after: int = 0
    #: Commits were lost that had been answered: no crash leaves that behind.
    is_corrupt: bool = False


class _Frame(NamedTuple):
    commit: int  # the database's size in pages after this commit; 0: more follows
    salts: tuple[int, int]
    sums: _Sums
    summed: bytes


@lru_cache(maxsize=4)
def _coefficients(pairs: int) -> tuple[list[int], list[int], list[int]]:
    """Return the factors of first and second words in each sum: neighbours of Fibonacci's."""
    numbers = [0, 1]
    while len(numbers) < 2 * pairs + 2:
        numbers.append(numbers[-1] + numbers[-2] & _M32)
    even = numbers[0 : 2 * pairs : 2][::-1]
    odd = numbers[1 : 2 * pairs : 2][::-1]
    return even, odd, numbers


def _holds(before: _Sums, frames: Sequence[_Frame]) -> bool:
    """Say whether the sums of neighbouring frames are right. ``before``: those they start from."""
    size = len(frames[0].summed)
    pairs = size // 8
    mask = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * pairs, "little")
    firsts = seconds = 0
    said0 = said1 = start0 = start1 = 0
    for weight, frame in zip(_WEIGHTS, frames, strict=False):
        words = int.from_bytes(frame.summed, "little")
        firsts += (words & mask) * weight
        seconds += (words >> 32 & mask) * weight
        said0 += frame.sums[0] * weight
        said1 += frame.sums[1] * weight
        start0 += before[0] * weight
        start1 += before[1] * weight
        before = frame.sums
    a = struct.unpack(f"<{pairs}Q", firsts.to_bytes(8 * pairs, "little"))
    b = struct.unpack(f"<{pairs}Q", seconds.to_bytes(8 * pairs, "little"))
    even, odd, numbers = _coefficients(pairs)
    sum_a_odd, sum_a_even = _dot(a, odd), _dot(a, even)
    sum0 = sum_a_odd + _dot(b, even)
    sum1 = sum_a_odd + sum_a_even + _dot(b, odd)
    before_last, last = numbers[2 * pairs - 1], numbers[2 * pairs]
    sum0 += before_last * start0 + last * start1
    sum1 += last * start0 + (last + before_last) * start1
    return (sum0 - said0) & _M32 == 0 and (sum1 - said1) & _M32 == 0


def _dot(left: Sequence[int], right: Sequence[int]) -> int:
    return sum(map(int.__mul__, left, right))


def _in_order(data: bytes, big: bool) -> bytes:
    """Return the words of ``data`` in little-endian order."""
    if not big:
        return data
    words = array("I", data)
    words.byteswap()
    return words.tobytes()


def _groups(file: BinaryIO, page_bytes: int, big: bool) -> Iterator[list[_Frame]]:
    step = _FRAME.size + page_bytes
    while data := file.read(step * _GROUP):
        frames: list[_Frame] = []
        for start in range(0, len(data) - step + 1, step):
            _, commit, salt1, salt2, sum1, sum2 = _FRAME.unpack_from(data, start)
            page = data[start + _FRAME.size : start + step]
            summed = _in_order(data[start : start + 8] + page, big)
            frames.append(_Frame(commit, (salt1, salt2), (sum1, sum2), summed))
        if not frames:
            return
        yield frames


class _Scan:
    """One look through a log."""

    def __init__(self, salts: tuple[int, int], sums: _Sums, bad: int | None) -> None:
        self._salts = salts
        self._sums = sums  # those that the next frame starts from
        self._number = 0
        self._last = 0  # the last frame of this log
        self._bad = bad
        self._commits = 0  # whole ones after the wrong frame
        self._ended = False  # the commit that the wrong frame belongs to
        self._later = False  # something whole came after that commit

    def take(self, frames: list[_Frame]) -> None:
        ours = all(frame.salts == self._salts for frame in frames)
        if self._bad is None and ours and _holds(self._sums, frames):
            self._number += len(frames)
            self._last = self._number
            self._sums = frames[-1].sums
            return
        for frame in frames:
            self._take_one(frame)

    def _take_one(self, frame: _Frame) -> None:
        self._number += 1
        # Another log's frame has neither of the two; one that is damaged there has one.
        ours = frame.salts[0] == self._salts[0] or frame.salts[1] == self._salts[1]
        good = frame.salts == self._salts and _holds(self._sums, [frame])
        self._sums = frame.sums
        if ours:
            self._last = self._number
        if good and self._bad is not None:
            self._later = self._later or self._ended
            self._commits += frame.commit != 0
            self._ended = self._ended or frame.commit != 0
        elif not good and self._bad is None:
            self._bad = self._number
            self._ended = ours and frame.commit != 0

    def result(self, nbytes: int) -> Log:
        if self._bad is None or self._bad > self._last:
            return Log(nbytes, self._last)
        corrupt = self._later if self._bad else self._commits > 0
        return Log(nbytes, self._last, self._bad, self._commits, corrupt)


def scan_log(path: str) -> Log:
    """Look through the log of the database at ``path``. Nobody may write to it meanwhile."""
    if not os.path.exists(path + "-wal"):
        return Log(0)
    with open(path + "-wal", "rb") as file:
        nbytes = os.fstat(file.fileno()).st_size
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return Log(nbytes)
        magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = _HEADER.unpack(head)
        big = magic == _MAGIC + 1
        header = _Frame(0, (salt1, salt2), (sum1, sum2), _in_order(head[:24], big))
        scan = _Scan(header.salts, header.sums, None)
        if magic not in (_MAGIC, _MAGIC + 1) or not _holds((0, 0), [header]):
            # Written before any frame is: what follows tells whether there was a log.
            big, page_bytes = False, 4096
            scan = _Scan(_salts_of_first(file), (0, 0), 0)
        for frames in _groups(file, page_bytes, big):
            scan.take(frames)
        return scan.result(nbytes)


def _salts_of_first(file: BinaryIO) -> tuple[int, int]:
    head = file.read(_FRAME.size)
    file.seek(_HEADER.size)
    return _FRAME.unpack(head)[2:4] if len(head) == _FRAME.size else (0, 0)


def check_log(path: str) -> Log:
    """Raise DatabaseUnusable if opening the database would drop commits from its log."""
    log = scan_log(path)
    if log.is_corrupt:
        raise DatabaseUnusable(
            f"the log {path}-wal is damaged at frame {log.bad} of {log.frames}: opening it would "
            f"drop {log.commits_after} or more commits that were answered. Keep a copy of "
            f"{path} and {path}-wal, run 'blockqueue doctor --db {path}', and restore a backup; "
            f"or give those commits up by removing {path}-wal"
        )
    return log
