#!/usr/bin/env python3
"""Measure this queue against what the disk and the libraries under it can do at best.

    scripts/bench.py                          # all, about five minutes
    scripts/bench.py --quick                  # small sizes, less than one
    scripts/bench.py --only cycle --rounds 9  # one row, more rounds
    scripts/bench.py --json figures.json

Ours and its bound are measured in turns within the same run, and judged by the median of the
rounds' ratios, so that a disk that is slow today is slow for both. Databases are on a real
disk with real fsync. Exit code 1: a figure is not what is wanted. Run it with a Python that
has blockqueue, as `.venv/bin/python scripts/bench.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import bench_backlog
import bench_http
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
    "backlog": bench_backlog.backlog,
    "wake-all": bench_backlog.fan_out,
    "rows": bench_backlog.rows,
    "idle": bench_http.idle,
}


def run(
    names: Sequence[str], sizes: Sizes, parent: Path, say: Callable[[str], object]
) -> list[Figure]:
    """Measure the rows called ``names``, each in an empty folder of its own."""
    figures: list[Figure] = []
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=parent))
        started = time.monotonic()
        try:
            figures += ROWS[name](Bench(sizes, folder))
        finally:
            shutil.rmtree(folder)
        say(f"{name}: {time.monotonic() - started:.1f} s")
    return figures


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Only this; repeatable.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--quick", is_flag=True, help="Small sizes: a look, not a verdict.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--dir", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(
    only: tuple[str, ...], rounds: int, quick: bool, json_path: str | None, folder: Path | None
) -> None:
    """Measure, print the table, and judge."""
    sizes = msgspec.structs.replace(QUICK if quick else FULL, rounds=rounds)
    with tempfile.TemporaryDirectory(prefix="blockqueue-bench-", dir=folder or _disk()) as parent:
        figures = run(
            only or list(ROWS), sizes, Path(parent), lambda line: click.echo(line, err=True)
        )
    if json_path is not None:
        encoded = msgspec.json.format(msgspec.json.encode([each.as_dict() for each in figures]))
        with click.open_file(json_path, "wb") as file:
            file.write(encoded + b"\n")
    if json_path != "-":
        click.echo(table(figures))
    sys.exit(any(each.met is False for each in figures))


def _disk() -> str:
    """Return a folder for the databases that is not in memory."""
    found = tempfile.gettempdir()
    with open("/proc/mounts") as mounts:
        in_memory = {line.split()[1] for line in mounts if line.split()[2] in ("tmpfs", "ramfs")}
    mount = Path(found).resolve()
    while not os.path.ismount(mount):
        mount = mount.parent
    return os.getcwd() if str(mount) in in_memory else found


if __name__ == "__main__":
    main()
