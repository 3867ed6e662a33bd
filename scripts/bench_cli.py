"""How soon the command line answers, and how soon a program has the queue: fresh processes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from bench_figures import Bench, Figure, median, timed

_TIMES = 7


def help_and_import(bench: Bench) -> list[Figure]:
    """Of `blockqueue --help` as a process, and of imports within one."""
    times = max(_TIMES, bench.sizes.rounds)
    run = partial(_python, ["-m", "blockqueue", "--help"])
    run()  # the first one may have modules to compile
    help_ms = [1000 * timed(run) for _ in range(times)]
    bare_ms = [1000 * timed(partial(_python, ["-c", "pass"])) for _ in range(times)]
    return [
        Figure("blockqueue --help, from start to end", median(help_ms), "ms", at_most=150),
        Figure("  a Python that does nothing", median(bare_ms), "ms"),
        *(
            Figure(what, median([_import_ms(what) for _ in range(times)]), "ms", at_most=150)
            for what in ("import blockqueue", "from blockqueue import BlockQueue")
        ),
    ]


def _import_ms(statement: str) -> float:
    clock = "__import__('time').perf_counter()"
    return float(_python(["-c", f"t = {clock}; {statement}; print(1000 * ({clock} - t))"]))


def _python(words: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    return done.stdout
