"""What the benchmarks share: how a figure is measured in turns, kept and shown."""

from __future__ import annotations

import json
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

T = TypeVar("T")

_PAGE_BYTES = 4096


class Sizes(msgspec.Struct, frozen=True):
    """How much is measured. The defaults are those of a full run."""

    rounds: int = 5
    #: Calls of each kind in a round, in turns of ``turn`` calls.
    calls: int = 400
    turn: int = 50
    threads: int = 32
    singles: int = 8_000
    slice_s: float = 3.0
    connections: int = 32
    polls: int = 1_000
    crowd: int = 2_000
    samples: int = 400
    fan_out: int = 200
    fan_outs: int = 20
    #: How long so many consumers are given to be waiting.
    park_s: float = 0.3
    backlog: int = 1_000_000
    acked: int = 200_000
    #: Messages that are claimed and acked in a round.
    cycled: int = 50_000
    #: Jobs that a worker does in a round.
    jobs: int = 20_000
    keys: int = 1_000_000
    #: Messages leased at a time, acked one by one.
    leased: int = 10_000
    priorities: int = 50
    runs: int = 100_000
    #: Delayed messages, and over how many seconds they are spread.
    delayed: int = 100_000
    delayed_s: float = 60.0
    topics: int = 1_000
    idle_s: float = 10.0
    #: The log has wrapped when it has so many pages: both sides checkpoint then.
    wal_pages: int = 1_000


FULL = Sizes()
QUICK = Sizes(
    calls=100,
    turn=25,
    singles=2_000,
    slice_s=0.7,
    samples=100,
    crowd=200,
    fan_outs=5,
    backlog=100_000,
    acked=20_000,
    cycled=10_000,
    jobs=5_000,
    keys=50_000,
    leased=2_000,
    runs=10_000,
    delayed=5_000,
    delayed_s=3.0,
    topics=100,
    idle_s=3.0,
)


class Figure(msgspec.Struct, frozen=True):
    """One line of the table. ``ours`` and ``bound`` are medians, in ``unit``.

    ``value`` is what is judged: a ratio where there is a bound, else what was measured.
    """

    what: str
    value: float
    value_unit: str
    ours: float | None = None
    bound: float | None = None
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None if nothing is."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    def as_dict(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self), "met": self.met}


class Bench(msgspec.Struct, frozen=True):
    """What a benchmark is given: how much to do, and an empty folder on a real disk."""

    sizes: Sizes
    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def warm_up(self, path: str, commit: Callable[[], object]) -> None:
        """Commit until the log of the database has wrapped.

        A log that grows commits about twice as slowly as one that is written over again, so
        without this the order of the measurements would decide.
        """
        size_min = self.sizes.wal_pages * _PAGE_BYTES
        while not os.path.exists(path + "-wal") or os.path.getsize(path + "-wal") < size_min:
            commit()
        for _ in range(30):
            commit()


def messages(count: int, seed: int = 1) -> list[str]:
    """Return JSON messages of about 130 bytes, each different."""
    draw = random.Random(seed)
    return [
        json.dumps(
            {
                "id": draw.randrange(10**8, 10**9),
                "user": draw.randrange(10**5, 10**6),
                "item": f"sku-{draw.randrange(10**4, 10**5)}",
                "qty": draw.randrange(1, 10),
                "price": draw.randrange(1_000, 10_000) / 100,
                "when": draw.randrange(10**12, 2 * 10**12),
                "source": "checkout",
            }
        )
        for _ in range(count)
    ]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that ``part`` of all are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def timed(call: Callable[[], object], times: int = 1) -> float:
    """Return the seconds that so many calls take."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - started


def in_worker(call: Callable[[], T]) -> T:
    """Run ``call`` on a thread of its own, as a server or a worker would, and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def in_threads(count: int, call: Callable[[], object]) -> float:
    """Run ``call`` on so many threads at once; return the seconds until all are done."""
    barrier = threading.Barrier(count + 1)

    def run() -> None:
        barrier.wait()
        call()

    with ThreadPoolExecutor(count) as pool:
        runs = [pool.submit(run) for _ in range(count)]
        barrier.wait()
        started = time.perf_counter()
        for each in runs:
            each.result()
        return time.perf_counter() - started


def in_turns(
    sizes: Sizes, ours: Callable[[int], float], bound: Callable[[int], float]
) -> tuple[list[float], list[float]]:
    """Measure both in short turns; return each round's seconds per call of either.

    ``ours`` and ``bound`` make so many calls and return the seconds they took.
    """
    first: list[float] = []
    second: list[float] = []
    for number in range(sizes.rounds):
        spent = [0.0, 0.0]
        turns = max(1, sizes.calls // sizes.turn)
        for turn in range(turns):
            # Whoever is first in one turn is second in the next.
            for which in (0, 1) if (turn + number) % 2 == 0 else (1, 0):
                spent[which] += (ours, bound)[which](sizes.turn)
        first.append(spent[0] / (turns * sizes.turn))
        second.append(spent[1] / (turns * sizes.turn))
    return first, second


def ratio_of_rates(
    what: str,
    ours: Sequence[float],
    bound: Sequence[float],
    at_least: float | None,
    each: int = 1,
    unit: str = "messages/s",
) -> Figure:
    """Judge two series of seconds per call by how fast ours is of the bound."""
    return Figure(
        what,
        median([b / a for a, b in zip(ours, bound, strict=True)]),
        "×",
        each / median(ours),
        each / median(bound),
        unit,
        at_least=at_least,
    )


def bare_connection(path: str, schema: str) -> apsw.Connection:
    """Open SQLite as durable as ours, with nothing around it."""
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    connection.execute(schema)
    return connection


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out for people."""
    head = ("what", "ours", "bound", "value", "wanted", "")
    rows = [head, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cells(figure: Figure) -> tuple[str, ...]:
    unit = f" {figure.unit}" if figure.unit else ""
    ours = "" if figure.ours is None else _number(figure.ours) + unit
    bound = "" if figure.bound is None else _number(figure.bound) + unit
    wanted = "–"
    if figure.at_least is not None:
        wanted = f"≥ {figure.at_least:g} {figure.value_unit}"
    elif figure.at_most is not None:
        wanted = f"≤ {figure.at_most:g} {figure.value_unit}"
    met = {True: "met", False: "NOT met", None: ""}[figure.met]
    return (figure.what, ours, bound, f"{_number(figure.value)} {figure.value_unit}", wanted, met)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
