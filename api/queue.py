"""The embedded face: a durable queue inside the caller's program."""

from __future__ import annotations

import os
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from blockqueue import storage
from blockqueue.actors import BYTES_MAX, MESSAGES_MAX, System

from ._looking import Looking
from ._opened import Opened
from ._publishing import Publishing
from ._tokens import Tokens
from ._topology import Topology

if TYPE_CHECKING:
    from blockqueue.otel import Tracing


class BlockQueue(Topology, Publishing, Looking):
    """A durable queue with topics and subscribers in one SQLite file.

    Thread-safe. Several processes may open the same file. Use it as a context manager or
    call ``close``. After a crash just open it again.

    Args:
        path: the database file, made if missing, on a local disk.
        timeout: seconds to wait for a write before it is withdrawn; see ``Withdrawn``.
        messages_max, bytes_max: how much may wait to be written before ``BackPressure``.
        min_free_bytes: with less than this free on the disk (on a small one: a sixteenth of it)
            publishes are refused with ``DiskFull``; everything else goes on.
        clock: where time comes from; only tests give one.
        idle_s: seconds after which an unused topic's actors stop.
        tracing: makes OpenTelemetry's spans; see ``blockqueue.otel``.

    Raises:
        DatabaseUnusable, NewerSchema, DiskFull: the file cannot be used; the text says why.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 30.0,
        messages_max: int = MESSAGES_MAX,
        bytes_max: int = BYTES_MAX,
        min_free_bytes: int = storage.MIN_FREE_BYTES,
        clock: storage.Clock | None = None,
        idle_s: float = 60.0,
        on_fatal: Any = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.timeout = timeout
        self.tracing = tracing
        self._opened = Opened(
            partial(
                System,
                os.path.abspath(os.fspath(path)),
                clock=clock,
                idle_s=idle_s,
                messages_max=messages_max,
                bytes_max=bytes_max,
                min_free_bytes=min_free_bytes,
                on_fatal=on_fatal,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def tokens(self) -> Tokens:
        """Who may do what over HTTP. Nobody needs a token before the first one is made."""
        return Tokens(self)

    def close(self) -> bool:
        """Answer who waits, write what was admitted, and close. Safe to call again.

        Returns whether everything ended in time (8 s).
        """
        return self._opened.close()

    def drain(self) -> None:
        """Answer all who wait for messages with [], and let nobody wait from now on."""
        self.system.flush()
