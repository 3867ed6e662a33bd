"""Telling who waits at a terminal which process holds what it waits for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click

from ._cli_rows import printable
from ._lock_watch import LockWatch

_LOOK_S = 1.0
_HELD_S = 3.0


@contextmanager
def lock_watched(path: str) -> Iterator[None]:
    """While in the block, say on the error stream who has held the write lock for too long."""
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(path, done), daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join(_LOOK_S)


def _watch(path: str, done: threading.Event) -> None:
    # Most commands have ended before the first look.
    if done.wait(_LOOK_S) or not os.path.exists(os.path.realpath(path) + "-hints"):
        return
    told: int | None = None
    with closing(LockWatch(path)) as watch:
        while not done.wait(_LOOK_S):
            found = watch.look()
            if found is None:
                told = None
                continue
            holder, held_s = found
            if holder not in (told, os.getpid()) and held_s >= _HELD_S:
                told = holder
                click.echo(
                    f"process {holder}{_command(holder)} has held the write lock of {path} for "
                    f"{held_s:.0f} s; this waits for it. If it stands still, end it with "
                    f"`kill -9 {holder}`: what was committed is safe",
                    err=True,
                )


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return f" ({printable(' '.join(words).strip())})"
