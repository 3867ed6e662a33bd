"""Files rebuilt from a trace of what was written: as they are at any moment, if power fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

TRACE = (
    *("strace", "-f", "-y", "-xx", "-s", "2000000", "-e"),
    "trace=openat,write,pwrite64,ftruncate,fdatasync,fsync,unlink",
)

_SECTOR = 512
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (\d+)", re.MULTILINE)
_FD = re.compile(r"^(?:\d+)<(.*?)>")
_TEXT = re.compile(r'"(.*?)"')


class Op:
    """One call: its name, the path it is about, and what else it had."""

    def __init__(self, call: str, path: str, data: bytes = b"", place: int = 0) -> None:
        self.call = call
        self.path = path
        self.data = data
        self.place = place


def read_trace(log: Path) -> Iterator[Op]:
    """Return the calls that ``strace`` has noted, but for those that failed."""
    for found in _CALL.finditer(log.read_text()):
        call, arguments = found[1], found[2]
        fd = _FD.match(arguments)
        texts = [_plain(each) for each in _TEXT.findall(arguments)]
        if call in ("openat", "unlink"):
            made = call == "unlink" or "O_CREAT" in arguments
            if made:
                yield Op("unlink" if call == "unlink" else "create", texts[0].decode())
        elif fd is not None:
            path = _plain(fd[1]).decode(errors="replace")
            last = arguments.rsplit(", ", 1)[-1]
            place = int(last) if call in ("pwrite64", "ftruncate") else 0
            yield Op(call, path, texts[0] if texts else b"", place)


def _plain(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


class _File:
    """What is on the disk, and what has been written since."""

    def __init__(self) -> None:
        self.is_named = False  # its directory is on the disk with its name in it
        self.synced = b""
        self.current = bytearray()
        self.unsynced: list[Op] = []

    def apply(self, op: Op) -> None:
        self.unsynced.append(op)
        _apply(self.current, op)

    def sync(self) -> None:
        self.is_named = True
        self.synced = bytes(self.current)
        self.unsynced.clear()


def _apply(content: bytearray, op: Op) -> None:
    if op.call == "ftruncate":
        del content[op.place :]
        content.extend(bytes(op.place - len(content)))
        return
    content.extend(bytes(max(0, op.place + len(op.data) - len(content))))
    content[op.place : op.place + len(op.data)] = op.data


class Files:
    """All files of one directory, as a trace leaves them."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._files: dict[str, _File] = {}
        # Removed, but a power cut may bring them back.
        self._removed: dict[str, _File] = {}

    def apply(self, op: Op) -> bool:
        """Do what the trace says; return whether it changed anything."""
        if op.path == self._directory:
            return self._sync_directory() if op.call in ("fsync", "fdatasync") else False
        if str(Path(op.path).parent) != self._directory:
            return False
        if op.call == "unlink":
            self._removed[op.path] = self._files.pop(op.path)
        elif op.call == "create":
            self._files.setdefault(op.path, _File())
        elif op.call in ("fsync", "fdatasync"):
            self._files[op.path].sync()
        else:
            self._files[op.path].apply(op)
        return True

    def _sync_directory(self) -> bool:
        self._removed.clear()
        for file in self._files.values():
            file.is_named = True
        return True

    def everything(self) -> dict[str, bytes]:
        """Return the files if all that was written is on the disk."""
        return {Path(path).name: bytes(file.current) for path, file in self._files.items()}

    def synced_only(self) -> dict[str, bytes]:
        """Return the files if nothing is on the disk that was not synced."""
        found = {path: file for path, file in self._removed.items() if file.is_named}
        found |= {path: file for path, file in self._files.items() if file.is_named}
        return {Path(path).name: file.synced for path, file in found.items()}

    def some(self, random: Random) -> dict[str, bytes]:
        """Return the files if any sectors of what was not synced are on the disk."""
        found = {}
        for path, file in self._files.items():
            content = bytearray(file.synced)
            for op in file.unsynced:
                for part in _sectors(op):
                    if random.random() < 0.5:
                        _apply(content, part)
            found[Path(path).name] = bytes(content)
        return found


def _sectors(op: Op) -> Iterator[Op]:
    """Cut a write where a disk could: it writes whole sectors or none."""
    if op.call == "ftruncate":
        yield op
        return
    place, end = op.place, op.place + len(op.data)
    while place < end:
        stop = min(end, (place // _SECTOR + 1) * _SECTOR)
        yield Op(op.call, op.path, op.data[place - op.place : stop - op.place], place)
        place = stop
