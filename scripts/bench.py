#!/usr/bin/env python3
"""Measure this queue against what the disk and the libraries under it can do at best.

    scripts/bench.py                          # all, about five minutes
    scripts/bench.py --quick                  # small sizes: a look, not a verdict
    scripts/bench.py --only cycle --rounds 9  # one row, more rounds
    scripts/bench.py --json figures.json

Ours and its bound are measured in turns within one run and judged by the median of the
rounds' ratios: a disk that is slow today is slow for both. Every commit is synced to a real
disk. Exits 1 if a figure is not as wanted. It should have the machine to itself.

Run it with a Python that has blockqueue[test], as `.venv/bin/python scripts/bench.py`.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import apsw
import bench_auth
import bench_backlog
import bench_cli
import bench_client
import bench_dashboard
import bench_delivery
import bench_http
import bench_keys
import bench_metrics
import bench_processes
import bench_v1
import bench_worker
import bench_writes
import click
import msgspec
from bench_figures import FULL, QUICK, Bench, Figure, Sizes, table

ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    "publish-many": bench_writes.publish_many,
    "cycle": bench_writes.cycle,
    "singles": bench_writes.singles,
    "fan-out": bench_writes.fan_out,
    "posts": bench_http.posts,
    "wake": bench_http.wake,
    "parked": bench_http.parked,
    "polls-2000": bench_http.crowd,
    "backlog": bench_backlog.backlog,
    "wake-all": bench_backlog.wake_all,
    "rows": bench_backlog.rows,
    "idle": bench_http.idle,
    "auth": bench_auth.auth,
    "v1-batches": bench_v1.batches,
    "v1-cycle": bench_v1.cycle,
    "client": bench_client.client,
    "workers": bench_processes.workers,
    "workers-wake": bench_processes.workers_wake,
    "metrics": bench_metrics.metrics,
    "dashboard": bench_dashboard.dashboard,
    "random-acks": bench_delivery.random_acks,
    "keys": bench_keys.keys,
    "priorities": bench_delivery.priorities,
    "counters": bench_delivery.counters,
    "delayed": bench_delivery.delayed,
    "worker": bench_worker.worker,
    "help": bench_cli.help_and_import,
}

NOTES = """
¹ called in a worker thread, as a server or a worker does: it lends a hand to the actors
² which never runs actors, lest Ctrl-C strike in a commit: each call costs two thread switches
"""


def run(names: Iterable[str], sizes: Sizes, parent: str | None) -> list[Figure]:
    """Measure the rows called ``names``, each in an empty folder of its own."""
    figures: list[Figure] = []
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"blockqueue-bench-{name}-", dir=parent) as folder:
            figures += ROWS[name](Bench(sizes, Path(folder)))
        click.echo(f"{name}: {time.monotonic() - started:.1f} s", err=True)
    return figures


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="One row; repeatable.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--quick", is_flag=True, help="Small sizes, in less than a minute.")
@click.option("--json", "report", help="A file for the figures as JSON; -: that and no table.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False),
    help="Where the databases are made; default: the system's temporary folder.",
)
def main(
    only: tuple[str, ...],
    rounds: int,
    quick: bool,
    report: str | None,
    folder: str | None,
) -> None:
    """Measure, print the table, and judge."""
    folder = folder or tempfile.gettempdir()
    if _filesystem(Path(folder)) in {"tmpfs", "ramfs"}:
        raise click.UsageError(f"{folder} is in memory, where a commit costs nothing: give --dir")
    sizes = msgspec.structs.replace(QUICK if quick else FULL, rounds=rounds)
    figures = run(only or ROWS, sizes, folder)
    if report is not None:
        with click.open_file(report, "w") as file:
            file.write(_as_json(figures) + "\n")
    if report != "-":
        click.echo(table(figures) + "\n" + NOTES, nl=False)
    sys.exit(any(each.met is False for each in figures))


def _as_json(figures: list[Figure]) -> str:
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "system": platform.platform(),
    }
    report = {"machine": machine, "figures": [each.as_dict() for each in figures]}
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def _filesystem(path: Path) -> str:
    """Return the kind of file system that a folder is on."""
    mounts = dict(line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    path = path.resolve()
    while str(path) not in mounts and path != path.parent:
        path = path.parent
    return mounts.get(str(path), "")


if __name__ == "__main__":
    main()
