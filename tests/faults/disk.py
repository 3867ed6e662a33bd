"""A disk of its own: ext4 in a file, whose power can be cut, and which can be full."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

MIB = 1024 * 1024

# Ends a file system at once, without writing what is waiting: as a power cut does.
_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = (2).to_bytes(4, "little")
_COMMAND_TIMEOUT_S = 60.0
_UMOUNT_MAX_S, _UMOUNT_EVERY_S = 10.0, 0.02


def run(command: Sequence[str | os.PathLike[str]]) -> str:
    """Run a command to its end. Raises RuntimeError with what it said."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def missing(*programs: str) -> str | None:
    """Return why this machine cannot have such a disk; None if it can."""
    if os.geteuid() != 0:
        return "only root can mount a disk"
    for program in ("mkfs.ext4", "mount", "losetup", *programs):
        if shutil.which(program) is None:
            return f"{program} is missing"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    return None


class Ext4:
    """An ext4 in ``folder``, mounted at ``path`` between ``mount`` and ``unmount``.

    ``image``: the file that is the disk, if somebody else has made one. A ``with`` block
    leaves no mount and no loop device behind, whatever happens in it.
    """

    def __init__(self, folder: Path, mib: int = 256, image: Path | None = None) -> None:
        self.path = folder / "mnt"
        self.path.mkdir()
        self._image = image or folder / "disk.img"
        if image is None:
            with self._image.open("wb") as file:
                file.truncate(mib * MIB)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^resize_inode", self._image])

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()

    def mount(self) -> None:
        """Mount it, which replays its journal."""
        run(["mount", "-o", "loop", self._image, self.path])

    def remount(self, option: str) -> None:
        """Mount it anew: ``ro``, ``rw``; or ``abort``, as ext4 does by itself after an error."""
        run(["mount", "-o", f"remount,{option}", self.path])

    def cut(self) -> None:
        """Cut the power: nothing that is not on the disk by now will ever be."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Unmount it, once those who were killed have let go of it."""
        if not os.path.ismount(self.path):
            return
        said = ""
        pause = threading.Event()  # never set: only its timeout is used
        started = time.monotonic()
        while time.monotonic() - started < _UMOUNT_MAX_S:
            try:
                run(["umount", self.path])
                return
            except RuntimeError as error:  # the kernel is still closing their files
                said = str(error)
            pause.wait(_UMOUNT_EVERY_S)
        run(["umount", "--lazy", self.path])
        raise RuntimeError(f"still in use: {said}")

    def free(self) -> int:
        """Return how many bytes are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> Path:
        """Take all its room but ``leave`` bytes. Returns the file to remove."""
        path = self.path / "filler"
        with path.open("wb") as file:
            size = self.free() - leave
            while size > 4096:
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                    break
                except OSError:
                    size -= 4096
        return path
