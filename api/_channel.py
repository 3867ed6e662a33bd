"""A connection: it can be parked, it notices when its client has gone, and it has no patience
with one that is slow on purpose."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel

from blockqueue.actors import Promise
from blockqueue.storage import BackPressure, Unavailable, limits

from ._log_context import busy_with
from ._lot import Lot
from ._parking import Parked, Seat
from ._patience import Patience
from ._refusals import Parser, RefusalTask, RequestTimeout
from ._tasks import JOINED_BYTES_MAX, AnswerTask, Task

# How much a refused client may go on sending. The time for it is that for a body.
_DISCARDED_BYTES_MAX = 64 * limits.MESSAGE_BYTES_MAX


class Channel(HTTPChannel):
    """What the server knows of one connection.

    Runs on two kinds of threads, as Waitress has it: the loop's, for reading and closing,
    and a request's, in ``service`` and ``write_soon``. Whoever has changed what a connection
    waits for calls ``settle`` then.
    """

    parser_class = Parser
    task_class: Any = Task
    error_task_class = RefusalTask
    # Set on the server's own subclass.
    lot: Lot
    patience: Patience
    clock: Callable[[], float] = staticmethod(time.monotonic)
    has_access_log = False
    adj: Any
    server: Any
    socket: Any
    request: Parser | None
    requests: Any
    requests_lock: Any
    _fileno: int | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seat = Seat()
        self.answering: Parked | None = None
        self._waiting: Parked | None = None
        self._refused = False
        self._discards = 0  # so many bytes are still read and thrown away
        #: Whether a request waits until the answers before it were taken.
        self._postponed = False
        # Since when it is idle, or has something to send; and how much it has sent since.
        self._since = self.clock()
        self._moved = 0
        # Which part of a request comes, and since when.
        self._part: tuple[Parser | None, bool] = (None, False)
        self._part_since = self._since
        super().__init__(*args, **kwargs)
        self.settle()

    @property
    def descriptor(self) -> int | None:
        return self._fileno

    def settle(self) -> None:
        """Rest in the lot if there is only to read; else be where the loop looks."""
        with self.lot.lock:
            if self.readable() and not self.writable():
                self.lot.enter(self)
            else:
                self.lot.leave(self)

    # Requests.

    def service(self) -> None:
        if self._is_behind():
            self.settle()
            self.server.pull_trigger()
            return
        if not self.total_outbufs_len:
            self._since, self._moved = self.clock(), 0
        parked, self._waiting = self._waiting, None
        self.seat = Seat()
        self.answering = parked
        self.task_class = Task if parked is None else AnswerTask
        if parked is not None:
            busy_with(parked.info)
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
        if not self.total_outbufs_len:
            self._since = self.clock()
        self.settle()

    def _is_behind(self) -> bool:
        """Say whether the client has yet to take the answers before this one.

        Otherwise it could fill the memory, or keep the thread waiting. The loop adds the
        request again.
        """
        with self.outbuf_lock:
            self._postponed = self.connected and self.total_outbufs_len > JOINED_BYTES_MAX
            return self._postponed

    def _go_on(self) -> None:
        """Add the request again that was postponed, if it is time for it."""
        with self.outbuf_lock:
            if not self._postponed or self.total_outbufs_len > JOINED_BYTES_MAX:
                return
            self._postponed = False
        self.server.add_task(self)

    def _park(self, parked: Parked) -> None:
        self._waiting = parked
        if parked.poll:
            try:
                self.lot.polls.enter()
                parked.is_counted = True
            except BackPressure as full:
                parked.promise.fail(full)
            if not self.connected:  # it hung up before it was parked
                self._cancel()
        parked.promise.on_done(self._resume)

    def _resume(self, promise: Promise[Any]) -> None:
        """Have the answer sent. Runs on the thread that has it."""
        waiting = self._waiting
        if waiting is not None and waiting.is_counted:
            self.lot.polls.leave()
        self.server.add_task(self)

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

    # Time.

    def look(self, now: float) -> None:
        """Give up on work that has not begun in time, and on a client that is too slow.

        Runs on the loop's thread.
        """
        waiting = self._waiting
        if waiting is not None and now > waiting.deadline:
            waiting.promise.withdraw("the work did not begin in time")
        if self._discards > 0 or self.total_outbufs_len:
            if self.patience.is_over(now - self._since, self._moved):
                self.cut()
        elif not self.requests:
            self._look_at_request(now)

    def _look_at_request(self, now: float) -> None:
        """See whether the client takes too long to send what it has begun, or to begin."""
        request, patience = self.request, self.patience
        idle_s = now - self._since
        part_s = now - max(self._since, self._part_since)
        if request is None:
            if idle_s > patience.idle_s:
                self.cut()
        elif not request.headers_finished:
            # Blank lines are requests that begin and end: the second condition counts them all.
            if part_s > patience.head_s or idle_s > patience.idle_s + patience.head_s:
                self._refuse_late(f"the headers took more than {patience.head_s:g} seconds")
        elif patience.is_over(part_s, request.body_bytes_received):
            self._refuse_late("the body came too slowly")

    def _refuse_late(self, text: str) -> None:
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None:
                return
            request.fail(RequestTimeout(text))
            self.requests.append(request)
        self.settle()
        self.server.add_task(self)

    def cut(self) -> None:
        """Close the connection, whatever it does. Runs on the loop's thread.

        To set ``will_close`` would not do: the loop comes to that when it can send.
        """
        self._refused = False
        self.handle_close()

    # What Waitress asks and does.

    def readable(self) -> bool:
        # Without the first condition the loop would spin on a client that has hung up.
        return bool(self.connected and super().readable())

    def writable(self) -> bool:
        # While a request is being answered its own thread sends: the loop would only spin,
        # finding the buffer locked.
        if self.requests and not self._postponed and self.total_outbufs_len < JOINED_BYTES_MAX:
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
        self._since, self._moved = self.clock(), 0
        return True

    def handle_read(self) -> None:
        try:
            data = self.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return  # what the loop saw was read when the lot saw it
        except OSError:
            self.handle_close()
            return
        if not data:
            self.connected = False
            self._cancel()
        elif self._discards > 0:
            self._discard(len(data))
        else:
            self.last_activity = time.time()
            self.received(data)
            self._note_part()
            self.settle()

    def _discard(self, size: int) -> None:
        self._discards -= size
        self._moved += size
        if self._discards <= 0:
            self.handle_close()

    def _note_part(self) -> None:
        request = self.request
        part = (request, request is not None and request.headers_finished)
        if part != self._part:
            self._part, self._part_since = part, self.clock()

    def handle_write(self) -> None:
        super().handle_write()
        if self.connected:
            self._go_on()
            if not self.total_outbufs_len and not self.requests and self._discards <= 0:
                self._since = self.clock()
            self.settle()

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent = int(super().send(data, do_close))
        self._moved += sent
        return sent

    def handle_close(self) -> None:
        if self._refused and self.will_close and self.connected and self._linger():
            return
        with self.outbuf_lock:  # or bytes could be sent or added between the two
            unsent = self.total_outbufs_len > 0
            super().handle_close()
        self._cancel()
        self._go_on()
        if unsent:
            self.seat.lose()

    def del_channel(self, map: Any = None) -> None:
        # The next connection gets the same descriptor: nothing may rest under it any more.
        with self.lot.lock:
            self.lot.leave(self)
            super().del_channel(map)

    def write_soon(self, data: Any) -> int:
        try:
            if self.seat.is_watched and self._client_has_gone():
                raise ClientDisconnected
            written = int(super().write_soon(data))
        except ClientDisconnected:
            self.seat.lose()
            raise
        if self.total_outbufs_len >= JOINED_BYTES_MAX:  # the loop must send the rest
            self.settle()
            self.server.pull_trigger()
        return written
