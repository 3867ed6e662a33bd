"""``blockqueue`` with something broken on purpose: a control, or a bad disk under it.

Run as ``python broken.py WHAT… serve …``, with the options of ``blockqueue serve``. Each
WHAT is a name of ``BREAKS``, or the JSON of a ``Trouble`` followed by the folder of its notes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from blockqueue.actors import _job
from blockqueue.api.cli import main
from blockqueue.storage import _database

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.vfs import Counts, FaultyVfs, Trouble


def synchronous_normal() -> None:
    """Commits are in the log, but the log is not on the disk."""
    pragmas: Any = _database._PRAGMAS
    normal = ("synchronous", "NORMAL", 1)
    changed: Any = tuple(normal if each[0] == "synchronous" else each for each in pragmas)
    _database._PRAGMAS = changed


def answers_anyway() -> None:
    """Whatever the disk said, a publish is said to be done."""
    finish = _job._Publishes.finish

    def lie(self: _job._Publishes, published: Any, error: BaseException | None) -> None:
        if error is not None:
            published, error = [[] for _ in self.begun], None
        finish(self, published, error)

    _job._Publishes.finish = lie  # type: ignore[method-assign]


BREAKS: dict[str, Callable[[], None]] = {
    "answers-anyway": answers_anyway,
    "synchronous=NORMAL": synchronous_normal,
}

_vfs: list[FaultyVfs] = []  # it must live as long as its files


if __name__ == "__main__":
    while sys.argv[1] != "serve":
        what = sys.argv.pop(1)
        if what in BREAKS:
            BREAKS[what]()
        else:
            trouble = msgspec.json.decode(what, type=Trouble | None)
            _vfs.append(FaultyVfs(Counts(trouble, Path(sys.argv.pop(1)))))
    main(prog_name="blockqueue")
