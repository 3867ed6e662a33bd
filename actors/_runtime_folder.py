"""Where the processes of one database have the sockets by which they find each other."""

from __future__ import annotations

import os
import stat
import tempfile


def runtime_folder(path: str) -> str:
    """Return a folder of our own for the database at ``path``, made if it is missing.

    Its name is short, as that of a socket must be, and the same by whatever path the file is
    reached. Raises OSError; also if the folder could be another user's.
    """
    found = os.stat(path)
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        top = os.path.join(base, "blockqueue")
    else:
        top = os.path.join(tempfile.gettempdir(), f"blockqueue-{os.geteuid()}")
    folder = os.path.join(top, f"{found.st_dev:x}-{found.st_ino:x}")
    for each in (top, folder):
        _make(each)
    return folder


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(folder)
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not private or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder that only its owner may use")
