"""Long polls that wait without a thread.

A resource whose answer is not there yet raises ``Parked``. The request's thread is free
again; the connection moves into a lot that costs the server's loop nothing; and when the
promise is done the same request is handled once more, with the promise at hand.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import ErrorTask, WSGITask

from blockqueue.actors import Promise
from blockqueue.storage import BackPressure, Unavailable

from ._envelope import failure

logger = logging.getLogger("blockqueue")

#: Where a request's environment has its ``Seat``.
SEAT = "blockqueue.seat"


class Parked(BaseException):
    """The answer will be there when ``promise`` is done. Not an error: nobody may catch it.

    ``give_back`` is called with the answer if the client has gone by then.
    """

    def __init__(self, promise: Promise[Any], give_back: Callable[[Any], object]) -> None:
        super().__init__()
        self.promise = promise
        self.give_back = give_back


class Seat:
    """What a request knows of its connection."""

    def __init__(self, promise: Promise[Any] | None) -> None:
        #: The promise that this request was parked for, if it was.
        self.promise = promise
        self._lost: Callable[[], None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether something must be undone if the answer cannot be sent."""
        return self._lost is not None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` if the answer of this request cannot be sent."""
        self._lost = callback

    def lose(self) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()


class Lot:
    """The parked connections, under one descriptor that the server's loop watches."""

    accepting = False

    def __init__(self, socket_map: dict[int, Any], size_max: int) -> None:
        self._lock = threading.Lock()  # guards _parked and moves between it and _map
        self._epoll = select.epoll()
        self._map = socket_map
        self._parked: dict[int, Channel] = {}
        self.size_max = size_max
        socket_map[self._epoll.fileno()] = self

    def __len__(self) -> int:
        return len(self._parked)

    def enter(self, channel: Channel) -> None:
        """Take a connection out of the loop's sight. Runs on the request's thread."""
        fd = channel.descriptor
        with self._lock:
            if fd is None or self._map.pop(fd, None) is None:
                return  # it was closed meanwhile
            self._parked[fd] = channel
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)

    def leave(self, channel: Channel) -> None:
        """Give a connection back to the loop. Runs on any thread, often in vain."""
        fd = channel.descriptor
        with self._lock:
            if fd is not None and self._parked.get(fd) is channel:
                del self._parked[fd]
                self._epoll.unregister(fd)
                self._map[fd] = channel

    # What the loop asks of whatever it watches.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        """Somebody in the lot has hung up or said more: that is for the loop to handle."""
        for fd, _ in self._epoll.poll(0):
            channel = self._parked.get(fd)
            if channel is not None:
                self.leave(channel)
                channel.handle_read_event()

    def handle_expt_event(self) -> None:
        pass

    def handle_close(self) -> None:
        pass


class Task(WSGITask):
    """Handles a request; gives it its seat."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        channel: Any = self.channel
        environ[SEAT] = channel.seat
        return environ


class EnvelopeErrorTask(ErrorTask):
    """Says in the contract's envelope what is wrong with a request that cannot be read."""

    def execute(self) -> None:
        request: Any = self.request
        error = request.error
        body = failure(error.code, error.body)
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", "application/json")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):
    """A connection that can be parked, and that notices when its client has gone.

    Runs on two kinds of threads, as Waitress has it: the loop's, for reading and closing,
    and a request's, in ``service`` and ``write_soon``.
    """

    task_class = Task
    error_task_class = EnvelopeErrorTask
    lot: Lot  # set on the server's own subclass
    server: Any
    socket: Any
    _fileno: int | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seat = Seat(None)
        self._waiting: Parked | None = None
        super().__init__(*args, **kwargs)

    @property
    def descriptor(self) -> int | None:
        return self._fileno

    def service(self) -> None:
        parked, self._waiting = self._waiting, None
        self.seat = Seat(None if parked is None else parked.promise)
        if parked is not None and (not self.connected or self._client_has_gone()):
            self.connected = False
            if parked.promise.error is None:
                parked.give_back(parked.promise.value)
        try:
            super().service()
        except Parked as again:
            self._park(again)

    def _park(self, parked: Parked) -> None:
        if len(self.lot) >= self.lot.size_max:
            parked.promise.fail(BackPressure("too many polls wait already: try again later"))
        self._waiting = parked
        self.lot.enter(self)
        if not self.connected:  # it hung up before it was in the lot
            self._cancel()
        parked.promise.on_done(self._resume)

    def _resume(self, promise: Promise[Any]) -> None:
        """Have the request handled again. Runs on the thread that has the answer."""
        self.lot.leave(self)
        self.server.add_task(self)

    def _cancel(self) -> None:
        """Nobody waits for the answer any more; if it comes, it is given back."""
        waiting = self._waiting
        if waiting is not None:
            waiting.promise.fail(Unavailable("the client has gone"))

    def _client_has_gone(self) -> bool:
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def readable(self) -> bool:
        # Without the first condition the loop would spin on a client that has hung up.
        return bool(self.connected and super().readable())

    def handle_read(self) -> None:
        super().handle_read()
        if not self.connected:
            self._cancel()

    def handle_close(self) -> None:
        with self.outbuf_lock:  # or bytes could be sent or added between the two
            unsent = self.total_outbufs_len > 0
            super().handle_close()
        self._cancel()
        if unsent:
            self.seat.lose()

    def write_soon(self, data: Any) -> int:
        try:
            if self.seat.is_watched and self._client_has_gone():
                raise ClientDisconnected
            return int(super().write_soon(data))
        except ClientDisconnected:
            self.seat.lose()
            raise
