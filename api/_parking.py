"""Requests that wait without a thread.

A resource whose answer is not there yet raises ``Parked``. The request's thread is free
again, and when the promise is done a thread sends the answer. The connection of a long poll
moves into a lot meanwhile, that costs the server's loop nothing.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import falcon
from waitress import wasyncore
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import Task as WaitressTask
from waitress.task import WSGITask

from blockqueue.actors import Promise
from blockqueue.storage import BackPressure, Refused, Unavailable, limits

from ._answer import Answer
from ._refusals import Parser, RefusalTask
from ._visits import Visit, visit_of

logger = logging.getLogger("blockqueue")

# How much a refused client may go on sending. The time for it is the channel's timeout.
_DISCARDED_BYTES_MAX = 64 * limits.MESSAGE_BYTES_MAX
_DISCARDED_AT_ONCE = 65_536
# Up to this size an answer is sent in one piece, by the request's own thread.
_JOINED_BYTES_MAX = 65_536

#: Where a request's environment has its ``Seat``.
SEAT = "blockqueue.seat"


class Parked(BaseException):
    """The answer will be there when ``promise`` is done. Not an error: nobody may catch it.

    ``render`` makes the answer from the promise's value, or raises what was wrong; ``refuse``
    makes it from an error. ``give_back`` is called with the value if the client does not get
    it. A ``poll`` may take long, by the client's wish; anything else is withdrawn after
    ``timeout`` seconds.
    """

    def __init__(
        self,
        promise: Promise[Any],
        render: Callable[[Any], Answer],
        refuse: Callable[[BaseException], Answer],
        *,
        timeout: float,
        give_back: Callable[[Any], object] | None = None,
        poll: bool = False,
        visit: Visit | None = None,
    ) -> None:
        super().__init__()
        self.promise = promise
        self._render = render
        self._refuse = refuse
        self.give_back = give_back
        self.poll = poll
        self._visit = visit
        self.deadline = math.inf if poll else time.monotonic() + timeout

    def answer(self) -> Answer:
        """Return what to say, now that the promise is done."""
        answer = self._answer()
        self.ended(answer.status)
        return answer

    def _answer(self) -> Answer:
        if self.promise.error is not None:
            return self._refuse(self.promise.error)
        try:
            if self.poll and self._visit is not None:
                self._visit.check_still()  # it may have waited for long
            return self._render(self.promise.value)
        except Refused as error:
            self.undo()
            return self._refuse(error)
        except Exception as error:
            return self._refuse(error)

    def undo(self) -> None:
        """The client does not get the answer."""
        give_back, self.give_back = self.give_back, None
        if give_back is not None and self.promise.error is None and self.promise.value:
            give_back(self.promise.value)

    def ended(self, status: int | None) -> None:
        """Note how the request has ended; None: nobody was there to get the answer."""
        if self._visit is not None:
            self._visit.ended(status)


def answer_later(
    req: falcon.Request,
    promise: Promise[Any],
    render: Callable[[Any], Answer],
    refuse: Callable[[BaseException], Answer],
    **options: Any,
) -> Answer:
    """Answer with the promise's value when it is there; until then wait without a thread.

    Options are those of ``Parked``. Under another server than ours the thread waits.
    """
    visit = visit_of(req)
    parked = Parked(promise, render, refuse, visit=visit, **options)
    seat: Seat | None = req.env.get(SEAT)
    if visit is not None and not promise.is_done:
        visit.park(promise, poll=parked.poll)
    if seat is not None and not promise.is_done:
        raise parked
    promise.result(math.inf if parked.poll else options["timeout"])
    if seat is not None and parked.give_back is not None:
        seat.on_lost(parked.undo)
    return parked.answer()


class Seat:
    """What a request knows of its connection."""

    def __init__(self) -> None:
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
        #: Guards _parked, moves between it and _map, and a channel's descriptor while it closes.
        self.lock = threading.RLock()
        self._epoll = select.epoll()
        self._map = socket_map
        self._parked: dict[int, Channel] = {}
        self.size_max = size_max
        socket_map[self._epoll.fileno()] = self

    def __len__(self) -> int:
        return len(self._parked)

    def enter(self, channel: Channel) -> None:
        """Take a connection out of the loop's sight. Runs on the request's thread."""
        with self.lock:
            fd = channel.descriptor
            if fd is None or self._map.pop(fd, None) is None:
                return  # it was closed meanwhile
            self._parked[fd] = channel
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)

    def leave(self, channel: Channel) -> None:
        """Give a connection back to the loop. Runs on any thread, often in vain."""
        with self.lock:
            fd = channel.descriptor
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
                wasyncore.read(channel)  # its errors are its own, not the server's

    def handle_expt_event(self) -> None:
        pass

    def handle_close(self) -> None:
        pass


class _Writes(WaitressTask):
    """Sends a short answer in one piece: each piece costs a call to the system."""

    def write(self, data: bytes) -> None:
        whole = self.content_length == len(data) and self.has_body
        if self.wrote_header or not whole or len(data) > _JOINED_BYTES_MAX:
            super().write(data)
            return
        channel: Any = self.channel
        channel.write_soon(self.build_response_header() + data)
        self.wrote_header = True
        self.content_bytes_written = len(data)


class Task(_Writes, WSGITask):
    """Handles a request; gives it its seat."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        channel: Any = self.channel
        environ[SEAT] = channel.seat
        return environ


class AnswerTask(_Writes):
    """Answers a request that was parked, without handling it again."""

    complete = True

    def __init__(self, channel: Any, request: Any) -> None:
        super().__init__(channel, request)
        self._parked: Parked = channel.answering

    def execute(self) -> None:
        answer = self._parked.answer()
        self.status = falcon.code_to_http_status(answer.status)
        self.response_headers = [("Content-Type", answer.content_type), *answer.headers]
        self.content_length = len(answer.body)
        self.write(answer.body)


class Channel(HTTPChannel):
    """A connection that can be parked, and that notices when its client has gone.

    Runs on two kinds of threads, as Waitress has it: the loop's, for reading and closing,
    and a request's, in ``service`` and ``write_soon``.
    """

    parser_class = Parser
    task_class: Any = Task
    error_task_class = RefusalTask
    lot: Lot  # set on the server's own subclass
    server: Any
    socket: Any
    _fileno: int | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seat = Seat()
        self.answering: Parked | None = None
        self._waiting: Parked | None = None
        self._refused = False
        self._discards = 0  # so many bytes are still read and thrown away
        super().__init__(*args, **kwargs)

    @property
    def descriptor(self) -> int | None:
        return self._fileno

    def service(self) -> None:
        parked, self._waiting = self._waiting, None
        self.seat = Seat()
        self.answering = parked
        self.task_class = Task if parked is None else AnswerTask
        if parked is not None and parked.give_back is not None:
            if self.connected and not self._client_has_gone():
                self.seat.on_lost(parked.undo)
            else:
                self.connected = False
                parked.undo()
        try:
            super().service()
        except Parked as waiting:
            self._park(waiting)
        if parked is not None:
            parked.ended(None)  # unless it was answered

    def _park(self, parked: Parked) -> None:
        self._waiting = parked
        if parked.poll:
            if len(self.lot) >= self.lot.size_max:
                full = BackPressure("too many polls wait already: try again later")
                parked.promise.fail(full)
            self.lot.enter(self)
            if not self.connected:  # it hung up before it was in the lot
                self._cancel()
        parked.promise.on_done(self._resume)

    def _resume(self, promise: Promise[Any]) -> None:
        """Have the answer sent. Runs on the thread that has it."""
        self.lot.leave(self)
        self.server.add_task(self)

    def withdraw_late(self, now: float) -> None:
        """Give up on work that has not begun in time. Runs on the loop's thread."""
        waiting = self._waiting
        if waiting is not None and now > waiting.deadline:
            waiting.promise.withdraw("the work did not begin in time")

    def _cancel(self) -> None:
        """Nobody waits for the answer any more; if it comes, it is given back."""
        waiting = self._waiting
        if waiting is not None and waiting.poll:
            waiting.promise.fail(Unavailable("the client has gone"))

    def _client_has_gone(self) -> bool:
        connection: socket.socket | None = self.socket
        if connection is None:  # the loop has closed it just now
            return True
        try:
            return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def readable(self) -> bool:
        # Without the first condition the loop would spin on a client that has hung up.
        return bool(self.connected and super().readable())

    def writable(self) -> bool:
        # While a request is being answered its own thread sends: the loop would only spin,
        # finding the buffer locked.
        if self.requests and self.total_outbufs_len < _JOINED_BYTES_MAX:
            return bool(self.will_close or self.close_when_flushed)
        return bool(super().writable())

    def refuse(self) -> None:
        """Close once the answer is sent and the client has read it, whatever it still sends."""
        self._refused = True

    def _linger(self) -> bool:
        """Say that nothing more will come, but read on; False if the client has gone.

        To close with something unread is a reset, and that can destroy the answer.
        """
        self._refused = self.will_close = self.close_when_flushed = False
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        self._discards = _DISCARDED_BYTES_MAX
        return True

    def _discard(self) -> None:
        self._discards -= len(self.recv(_DISCARDED_AT_ONCE))
        if self._discards <= 0:
            self.handle_close()

    def handle_read(self) -> None:
        if self._discards > 0:
            self._discard()
            return
        super().handle_read()
        if not self.connected:
            self._cancel()

    def handle_close(self) -> None:
        if self._refused and self.will_close and self._linger():
            return
        with self.outbuf_lock:  # or bytes could be sent or added between the two
            unsent = self.total_outbufs_len > 0
            super().handle_close()
        self._cancel()
        if unsent:
            self.seat.lose()

    def del_channel(self, map: Any = None) -> None:
        # The next connection gets the same descriptor: nothing may park under it any more.
        with self.lot.lock:
            self.lot.leave(self)
            super().del_channel(map)

    def write_soon(self, data: Any) -> int:
        try:
            if self.seat.is_watched and self._client_has_gone():
                raise ClientDisconnected
            return int(super().write_soon(data))
        except ClientDisconnected:
            self.seat.lose()
            raise
