"""The audit log: who did what to the queue itself, and who was turned away.

In a file of its own: one JSON object a line, in ASCII, so that nothing in it can look like
another line. Else in the log, where acts are information and refusals are warnings. Never the
bodies of requests, never a secret.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler

from ._quota import Bucket

logger = logging.getLogger("blockqueue")

# So many refusals are written a second; the rest is only counted, or they could fill the disk.
_REFUSALS_PER_S = 10.0
# In the log they stand between what else there is to see.
_REFUSALS_PER_S_IN_LOG = 1.0
_TEXT_MAX = 300


class Audit:
    """Writes to a file, which may be moved away under it, or to the logger of that name.

    Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: str | None = None) -> None:
        self._logger = logging.getLogger("blockqueue.audit")
        self._has_file = path is not None
        if path is not None:
            self._logger = logging.Logger("blockqueue.audit")
            handler = _File(os.path.abspath(path))
            handler.setFormatter(logging.Formatter("%(message)s"))
            self._logger.addHandler(handler)
        self._lock = threading.Lock()  # guards the two below
        self._refusals = Bucket(
            _REFUSALS_PER_S if self._has_file else _REFUSALS_PER_S_IN_LOG, time.monotonic
        )
        self._left_out = 0

    def note(self, what: str, **members: object) -> None:
        """Write that something was done. What is None is left out, what is long is cut."""
        self._write(logging.INFO, what, members)

    def _write(self, level: int, what: str, members: Mapping[str, object]) -> None:
        said = {name: _cut(value) for name, value in members.items() if value is not None}
        if not self._has_file:
            extra: dict[str, object] = {"audit": said}
            if "request_id" in said:
                extra["request_id"] = said.pop("request_id")
            self._logger.log(level, "%s", what, extra=extra)
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._logger.log(level, "%s", json.dumps({"time": now, "what": what, **said}))

    def note_refusal(self, what: str, **members: object) -> None:
        """Write that somebody was turned away, unless that happens all the time."""
        with self._lock:
            if self._refusals.take(1) > 0:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        self._write(logging.WARNING, what, {**members, "left_out": left_out or None})

    def close(self) -> None:
        """Let go of the file, if there is one."""
        for handler in list(self._logger.handlers):
            if isinstance(handler, _File):
                handler.close()


def _cut(value: object) -> object:
    return value[:_TEXT_MAX] if isinstance(value, str) else value


class _File(WatchedFileHandler):
    """A file that only its owner may read. A full disk costs lines, not the server."""

    def _open(self) -> TextIOWrapper:
        private = partial(os.open, mode=0o600)
        return open(self.baseFilename, "a", encoding="ascii", opener=private)

    def handleError(self, record: logging.LogRecord) -> None:
        why = sys.exc_info()[1]
        logger.error("the audit log cannot be written (%s): %s", why, record.getMessage())
