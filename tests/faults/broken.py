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
import zstandard

from blockqueue.actors import _admission, _job
from blockqueue.api import _patience, server
from blockqueue.api.cli import main
from blockqueue.storage import (
    CorruptBlock,
    Store,
    Unavailable,
    _database,
    _frames,
    _snapshot,
    _space,
    _store,
    _wal,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.vfs import Counts, FaultyVfs, Trouble


def no_log_scan() -> None:
    """SQLite drops what follows damage in the log, and nobody looks."""
    module: Any = _store
    module.check_log = lambda path: _wal.Log(0)


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


def no_checksums() -> None:
    """Blocks are written without checksums."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, write_checksum=False)
    _frames._codecs.compressor = zstandard.ZstdCompressor(compression_params=parameters)
    _frames._PARAMETERS = parameters


def no_admission() -> None:
    """Everybody may wait."""
    _admission.Admission.enter = lambda self, messages, nbytes: None  # type: ignore[method-assign]


def no_ballast() -> None:
    """A full disk is met without any room kept for it."""
    _space.Space._measure = lambda self: (0, 0)  # type: ignore[method-assign]


def no_checkpoints() -> None:
    """The log only grows."""
    Store._checkpoint = lambda self, mode: None  # type: ignore[method-assign]


def endless_patience() -> None:
    """Clients may take as long as they like."""
    endless = _patience.Patience(idle_s=1e9, head_s=1e9, body_s=1e9)
    module: Any = server
    module.Patience = lambda: endless


def memory_is_damage() -> None:
    """A block that there is no memory for is taken for damaged."""
    unpack = _frames.unpack_frame

    def mistake(data: bytes, *address: int) -> _frames.Block:
        try:
            return unpack(data, *address)
        except Unavailable as error:
            raise CorruptBlock(str(error), sum(address[2:])) from error

    module: Any = _snapshot
    module.unpack_frame = mistake


BREAKS: dict[str, Callable[[], None]] = {
    "answers-anyway": answers_anyway,
    "endless-patience": endless_patience,
    "memory-is-damage": memory_is_damage,
    "no-admission": no_admission,
    "no-ballast": no_ballast,
    "no-checkpoints": no_checkpoints,
    "no-checksums": no_checksums,
    "no-log-scan": no_log_scan,
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
