"""Damage to a database's files, by a seed: what disks, copies and people do to them."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec

_FRAME_HEADER, _WAL_HEADER = 24, 32
_SECTOR = 512
_CHUNK_MAX = 8192

FILES = {"db": "queue.db", "wal": "queue.db-wal", "hints": "queue.db-hints", "shm": "queue.db-shm"}
#: Weights: blocks are most of what a file holds, the log what was answered last.
TARGETS = {"db": 4, "wal": 4, "block": 4, "hints": 1, "shm": 1}
HOWS = ("bitflip", "bitflips", "zero", "copy", "truncate", "restore")


class Damage(msgspec.Struct, frozen=True):
    """What was done. ``places``: the first and the last byte that may differ."""

    target: str
    how: str
    places: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.how} of {self.target} at {self.places[0]}"


def damage(folder: Path, older: Path, random: Random) -> Damage:
    """Damage the database in ``folder``; ``older`` holds its files of an earlier time."""
    (target,) = random.choices(list(TARGETS), list(TARGETS.values()))
    if target == "block":
        return _damage_block(folder / FILES["db"], random)
    how = random.choice(HOWS)
    path = folder / FILES[target]
    if not path.exists():
        path.write_bytes(random.randbytes(32768))
    if how == "restore":
        source = older / FILES[target]
        if source.exists():
            shutil.copyfile(source, path)
        return Damage(target, how)
    content = bytearray(path.read_bytes())
    places = _change(content, how, random)
    path.write_bytes(content)
    return Damage(target, how, places)


def _change(content: bytearray, how: str, random: Random) -> tuple[int, int]:
    place = random.randrange(len(content))
    if how == "truncate":
        end = len(content)
        del content[place:]
        return place, end
    if how == "bitflip":
        content[place] ^= 1 << random.randrange(8)
        return place, place
    if how == "bitflips":
        places = sorted(random.randrange(len(content)) for _ in range(random.randrange(2, 9)))
        for each in places:
            content[each] ^= 1 << random.randrange(8)
        return places[0], places[-1]
    if how == "zero":
        place = place // _SECTOR * _SECTOR
        end = min(len(content), place + _SECTOR)
        content[place:end] = bytes(end - place)
        return place, end - 1
    size = min(random.randrange(1, _CHUNK_MAX), len(content) - place)
    source = random.randrange(len(content) - size + 1)
    content[place : place + size] = content[source : source + size]
    return place, place + size - 1


def _damage_block(path: Path, random: Random) -> Damage:
    """Damage one block where SQLite finds nothing wrong."""
    connection = apsw.Connection(str(path))
    try:
        rows = connection.execute("SELECT rowid FROM block ORDER BY rowid").fetchall()
        (rowid,) = random.choice(rows)
        found: Any = connection.execute("SELECT data FROM block WHERE rowid = ?", (rowid,)).get
        data = bytearray(found)
        how = random.choice(("bitflip", "bitflips", "zero", "copy", "truncate"))
        places = _change(data, how, random)
        connection.execute("UPDATE block SET data = ? WHERE rowid = ?", (bytes(data), rowid))
    finally:
        connection.close()
    return Damage("block", how, places)


def last_commit(wal: bytes) -> int:
    """Return where the frames of the last commit of a log begin: before, nothing is torn."""
    page_size = int.from_bytes(wal[8:12], "big")
    salts = wal[16:24]
    begin, place = _WAL_HEADER, _WAL_HEADER
    last = begin
    while place + _FRAME_HEADER + page_size <= len(wal) and wal[place + 8 : place + 16] == salts:
        commit = wal[place + 4 : place + 8] != bytes(4)
        place += _FRAME_HEADER + page_size
        if commit:
            last, begin = begin, place
    return last
