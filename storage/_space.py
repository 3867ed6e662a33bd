"""Room on the disk: a floor under which nothing is published, and a ballast to throw off.

A full disk must not stop consumers. So publishes are refused while there still is some room,
and a file of a few MiB is kept that is emptied when there is none: the acknowledgements and
the checkpoint that make room again go through.
"""

from __future__ import annotations

import logging
import os
import time

from ._errors import DiskFull, Unavailable

logger = logging.getLogger("blockqueue")

MIN_FREE_BYTES = 16 * 1024 * 1024
BALLAST_BYTES = 4 * 1024 * 1024
# On a small disk the floor is no more than this part of it, and the ballast half of that.
_SHARE = 16
# How often the disk is asked by those who publish: after so long, or so many pages (1 MiB).
_LOOK_S = 0.25
_LOOK_PAGES = 256
# For so long no new ballast is made: what took the room may be a quota that nobody sees.
_BALLAST_REST_S = 5.0
# The log is moved into the database after 4 MiB. Longer than the first: something reads for
# long, which is worth a warning. Longer than the second: nothing more is published.
LOG_WARN_BYTES = 64 * 1024 * 1024
LOG_BYTES_MAX = 256 * 1024 * 1024
_WARN_S = 60.0
_TRY_S = 1.0
_MIB = 1024 * 1024


class Space:
    """What is known of the room for one database. Under the write lock, but for ``trouble``.

    Args:
        path: the database.
        min_free_bytes: the floor; 0 for none.
    """

    def __init__(self, path: str, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self.ballast_path = path + "-ballast"
        self._path = path
        self._min_free_bytes = min_free_bytes
        #: Why nothing is published now; None: there is room.
        self.shortage: str | None = None
        #: How often the ballast was thrown off.
        self.thrown_off = 0
        self._looked_pages = 0
        #: How much of the log a checkpoint could not move.
        self._stuck_bytes = 0
        self._next_look = self._next_ballast = self._next_warning = self._next_try = 0.0

    def check(self, pages: int) -> None:
        """Raise if nothing may be published now: DiskFull, or Unavailable for a long log.

        ``pages``: how many were written up to now.
        """
        written = pages - self._looked_pages
        if (
            written > _LOOK_PAGES
            or self.shortage is not None
            or time.monotonic() >= self._next_look
        ):
            self._looked_pages = pages
            self.look()
        if self.shortage is not None:
            raise DiskFull(self.shortage)
        if self._stuck_bytes > LOG_BYTES_MAX:
            raise Unavailable(f"nothing was published: {self._long_log}")

    def look(self) -> None:
        """Ask the disk, and have a ballast again if there is room for it."""
        now = time.monotonic()
        self._next_look = now + _LOOK_S
        try:
            spare, ballast = self._measure()
            if now >= self._next_ballast and spare >= 2 * ballast:
                self._have_ballast(ballast)
        except FileNotFoundError as error:
            self._next_look = 0.0
            raise Unavailable(
                f"nothing was published: the folder of {self._path} is gone"
            ) from error
        except OSError as error:  # of a path only: whoever has the file open can go on with it
            if now >= self._next_ballast:
                logger.warning("there is no ballast beside %s: %s", self._path, error)
                self._next_ballast = now + _WARN_S

    def _measure(self) -> tuple[int, int]:
        """Note whether there is room. Return what is free above the floor, and the ballast's size.

        Both in bytes; what is free may be less than the floor.
        """
        disk = os.statvfs(os.path.dirname(self._path))
        share = disk.f_frsize * disk.f_blocks // _SHARE
        floor = min(self._min_free_bytes, share)
        free = disk.f_frsize * disk.f_bavail
        self.shortage = None
        if free < floor:
            self.shortage = (
                f"only {free / _MIB:.1f} MiB are free on the disk of {self._path}, and nothing is "
                f"published below {floor / _MIB:.1f} MiB; messages can still be acknowledged"
            )
        return free - floor, min(BALLAST_BYTES, share // 2)

    def _have_ballast(self, size: int) -> None:
        fd = os.open(self.ballast_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size >= size:
                return
            try:
                os.posix_fallocate(fd, 0, size)
            except OSError:  # a quota, or a file system that cannot
                os.ftruncate(fd, 0)
                raise
        finally:
            os.close(fd)

    def throw_off(self) -> bool:
        """Free the ballast. Returns whether there was any, so that trying again may help."""
        self._next_ballast = time.monotonic() + _BALLAST_REST_S
        self._next_look = 0.0
        try:
            if os.stat(self.ballast_path).st_size == 0:
                return False
            os.truncate(self.ballast_path, 0)
        except OSError:  # it is not there, or not ours any more
            return False
        self.thrown_off += 1
        logger.warning("the disk of %s is full: its ballast was freed", self._path)
        return True

    # The log.

    def note_log(self, stuck_bytes: int) -> None:
        """Note how much of the log a checkpoint has left where it was."""
        self._stuck_bytes = stuck_bytes
        now = time.monotonic()
        self._next_try = now + _TRY_S
        if stuck_bytes > LOG_WARN_BYTES and now >= self._next_warning:
            self._next_warning = now + _WARN_S
            logger.warning("%s", self._long_log)

    @property
    def log_is_due(self) -> bool:
        """Whether a long log should be tried again though little was written since."""
        return self._stuck_bytes > LOG_WARN_BYTES and time.monotonic() >= self._next_try

    @property
    def _long_log(self) -> str | None:
        if self._stuck_bytes <= LOG_WARN_BYTES:
            return None
        return (
            f"the log of {self._path} has {self._stuck_bytes / _MIB:.0f} MiB that cannot be "
            "moved into it: another program keeps a read transaction open"
        )

    def trouble(self) -> str | None:
        """Return all that an operator should look at now, if anything. For any thread."""
        try:
            self._measure()
        except OSError as error:
            return f"the disk of {self._path} cannot be looked at: {error}"
        return "; ".join(filter(None, (self.shortage, self._long_log))) or None
