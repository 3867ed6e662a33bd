"""How soon the command line answers, and how soon a program has the queue: fresh processes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from bench_figures import Bench, Figure, median, timed

_TIMES = 7


def help_and_import(bench: Bench) -> list[Figure]:
    """Of `blockqueue --help`, and of importing what an embedding program imports."""
    commands = {
        "blockqueue --help": ["-m", "blockqueue", "--help"],
        "import blockqueue": ["-c", "import blockqueue"],
        "from blockqueue import BlockQueue": ["-c", "from blockqueue import BlockQueue"],
        "  a Python that does nothing": ["-c", "pass"],
    }
    figures: list[Figure] = []
    for what, words in commands.items():
        run = partial(_run, words)
        run()  # the first one may have modules to compile
        spent_ms = [1000 * timed(run) for _ in range(max(_TIMES, bench.sizes.rounds))]
        wanted = None if what.startswith(" ") else 150.0
        figures.append(Figure(what, median(spent_ms), "ms", at_most=wanted))
    return figures


def _run(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, timeout=60, check=True)
