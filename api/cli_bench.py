"""``blockqueue bench``: a short look at what a queue does on a disk."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import click
from tqdm import tqdm

from blockqueue import BlockQueue

from ._cli_group import USAGE, Failed
from ._cli_rows import say
from ._cli_source import JSON, file_option

_BATCH = 100
_THREADS = 16


@click.command()
@click.option(
    "--messages",
    default=20_000,
    show_default=True,
    type=click.IntRange(_BATCH * _THREADS, 10_000_000),
    help="How many go through the queue.",
)
@click.option("--size", default=100, show_default=True, type=click.IntRange(1, 100_000))
@file_option
@JSON
def bench(messages: int, size: int, db: str, as_json: bool) -> None:
    """Measure a queue of its own in the folder of --db, and remove it.

    Every commit is synced, as it always is. `scripts/bench.py` of a checkout measures much
    more, each figure beside a bound.
    """
    folder = os.path.dirname(os.path.abspath(db))
    if not os.path.isdir(folder):
        raise Failed(f"there is no folder {folder}", USAGE)
    with (
        tempfile.TemporaryDirectory(prefix="blockqueue-bench-", dir=folder) as place,
        BlockQueue(os.path.join(place, "queue.db")) as queue,
        tqdm(unit="msg", disable=None, file=sys.stderr) as bar,
    ):
        queue.create_topic("bench", ["worker"])
        figures = _measure(queue, messages, "x" * size, bar)
    lines = [f"{name.replace('_', ' '):28} {rate:>12,.0f}/s" for name, rate in figures.items()]
    say(figures, as_json, "\n".join(lines))


def _measure(queue: BlockQueue, messages: int, text: str, bar: tqdm[Any]) -> dict[str, float]:
    """Return messages a second, for each of three ways."""
    done = messages // _BATCH * _BATCH
    each = messages // 10 // _THREADS * _THREADS
    batch = [text] * _BATCH
    bar.reset(2 * (done + each))

    def publish_many() -> None:
        for _ in range(done // _BATCH):
            queue.publish_many("bench", batch)
            bar.update(_BATCH)

    def publish_each() -> None:
        for _ in range(each // _THREADS):
            queue.publish("bench", text)
            bar.update()

    def consume() -> None:
        while claimed := queue.claim("bench", "worker", limit=_BATCH):
            queue.ack("bench", "worker", claimed)
            bar.update(len(claimed))

    return {
        f"publish_in_batches_of_{_BATCH}": done / _timed(publish_many, 1),
        f"publish_from_{_THREADS}_threads": each / _timed(publish_each, _THREADS),
        f"claim_and_ack_in_{_BATCH}s": (done + each) / _timed(consume, 1),
    }


def _timed(work: Callable[[], None], threads: int) -> float:
    """Return how long threads work; in threads, as in a server, also if it is one."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - started
    if errors:
        raise errors[0]
    return elapsed
