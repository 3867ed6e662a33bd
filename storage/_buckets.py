"""How values are spread over the buckets of a histogram."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["bucketed"]


def bucketed(values: list[float], bounds: Sequence[float]) -> list[int]:
    """Return how many values are in each bucket: up to each bound, and above the last.

    Sorts ``values``: that and a few bisections are cheaper than a search for each.
    """
    values.sort()
    edges = [bisect_right(values, bound) for bound in bounds]
    return [upto - below for below, upto in pairwise((0, *edges, len(values)))]
