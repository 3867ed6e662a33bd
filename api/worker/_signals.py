"""Running workers until a signal or their own end: SIGTERM drains, a second one forces."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_LOOK_S = 3600.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# As which the interpreter writes them. It writes those that a program has handlers for, too.
_OURS = frozenset(bytes([number]) for number in _SIGNALS)
_END = b"\0"


class Signals:
    """Waits for the end of workers, and for signals to them meanwhile.

    Both come as bytes through a pair of sockets: a signal that came just before a wait on a
    lock would not be noticed until that wait is over.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.settimeout(_LOOK_S)
        # Only the main thread has signals; elsewhere the others' are left alone.
        self._has_signals = threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}
        self._fd_before = -1
        self._count = 0  # of signals that were obeyed

    def end(self) -> None:
        """Let ``serve`` return. Runs on any thread."""
        try:
            self._writer.send(_END)
        except OSError:
            pass  # nobody waits any more

    def serve(self, drain: Callable[[], None], force: Callable[[], None]) -> None:
        """Wait for ``end``. The first signal drains, the second forces; a third is not ours.

        Called again, for the end of another worker, it goes on counting.
        """
        steps = (drain, force)
        while (came := self._receive()) != _END:
            if came in _OURS and self._count < len(steps):
                steps[self._count]()
                self._count += 1
            if self._count == len(steps):
                self._restore()

    def _receive(self) -> bytes:
        try:
            return self._reader.recv(1)
        except TimeoutError:
            return b""

    def __enter__(self) -> Self:
        if self._has_signals:
            self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
            self._before = {number: signal.signal(number, _note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
        self._reader.close()
        self._writer.close()

    def _restore(self) -> None:
        if self._before:
            signal.set_wakeup_fd(self._fd_before)
        while self._before:
            signal.signal(*self._before.popitem())


def _note(number: int, frame: FrameType | None) -> None:
    """Be there: the byte is written by the interpreter, for signals that have a handler."""
