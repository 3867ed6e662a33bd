"""The text format of Prometheus, version 0.0.4.

By hand, as it is short: 6,000 samples take 9 ms, and 150 ms by the library ``prometheus-client``,
which would hold up everybody else. The tests read it with that library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Self

import msgspec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "blockqueue_"

Labels = tuple[tuple[str, str], ...]


class Timing(msgspec.Struct, frozen=True):
    """How long something took, or how much it was, over all times.

    ``buckets`` tells how often it was at most so much, for rising bounds; ``count`` is how
    often it was at all, and ``total`` all of it together. In seconds, or in messages.
    """

    count: int
    total: float
    buckets: dict[float, int]

    @classmethod
    def of(cls, bounds: Sequence[float], numbers: Sequence[int], total: float) -> Self:
        """Make one of the numbers in each bucket: up to each bound, and above the last."""
        *below, count = accumulate(numbers)
        return cls(count, total, dict(zip(bounds, below, strict=True)))

    @property
    def mean(self) -> float:
        """The average; 0 if there was none."""
        return self.total / self.count if self.count else 0.0


def sample(name: str, labels: Labels) -> str:
    """Return a sample's name as Prometheus writes it."""
    told = ",".join(f'{label}="{escaped(value)}"' for label, value in labels)
    return f"{name}{{{told}}}" if told else name


def escaped(text: str) -> str:
    """Return a label's value as it stands between quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def head(name: str, kind: str, text: str) -> str:
    """Return what stands before the samples of a metric."""
    return f"# HELP {PREFIX}{name} {text}\n# TYPE {PREFIX}{name} {kind}\n"


def histogram(name: str, labels: Labels, timing: Timing) -> Iterator[tuple[str, float]]:
    """Yield the samples of a histogram."""
    for bound, count in (*timing.buckets.items(), ("+Inf", timing.count)):
        yield sample(name + "_bucket", (*labels, ("le", str(bound)))), count
    yield sample(name + "_sum", labels), timing.total
    yield sample(name + "_count", labels), timing.count
