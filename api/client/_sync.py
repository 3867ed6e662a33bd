"""The synchronous transport: requests are sent with threads that wait."""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx2
import tenacity

from blockqueue.api._durations import Duration
from blockqueue.storage import BlockQueueError, QueueClosed

from ._requests import Answer, Request, Steps
from ._settings import Settings
from ._tries import Tries
from ._values import Page

if TYPE_CHECKING:
    from blockqueue.otel import Tracing

T = TypeVar("T")

# What has made a connection, as httpcore names it.
_CONNECTED = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")


class Transport:
    """The connections to a server. Threads may share it, and so may a forked child."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Duration = 30.0,
        tracing: Tracing | None = None,
        **options: Any,
    ) -> None:
        #: Makes spans; None: nobody traces.
        self.tracing = tracing
        self._settings = Settings(url, token, timeout)
        self._options = self._settings.options() | options
        self._closed = threading.Event()
        self._opening = threading.Lock()  # held while a forked child makes its own of them
        self._open()

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
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close the connections, and end the waits of other threads. Safe to call again."""
        self._closed.set()
        if self._pid != os.getpid():
            return  # a forked child that never used them: they are its parent's
        with self._noting:
            for each in self._sockets:
                _shut(each)
        self._close_unused()

    def _open(self) -> None:
        self._http = httpx2.Client(**self._options)
        self._noting = threading.Lock()  # guards _sockets
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A mark for each request that is under way. To add or to remove one is a single step.
        self._under_way: set[object] = set()
        self._pid = os.getpid()

    @contextmanager
    def _using(self) -> Iterator[httpx2.Client]:
        """Keep the connections open for a request.

        Closed under a thread that reads, a socket's number may be another one's by the time
        it goes on: the thread would take what is not for it. So the sockets are shut down
        first, and the last one to leave closes them.
        """
        http, mark = self._connections(), object()
        under_way = self._under_way
        under_way.add(mark)
        try:
            if self.closed:  # looked at again, now that ``close`` can see the mark
                raise QueueClosed("the client is closed")
            yield http
        finally:
            under_way.discard(mark)
            if self.closed:
                self._close_unused()

    def _close_unused(self) -> None:
        if not self._under_way:
            self._http.close()

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a new connection's socket. Called by httpx on what happens to a request."""
        if not event.endswith(_CONNECTED):
            return
        connected: socket.socket | None = info["return_value"].get_extra_info("socket")
        if connected is None:
            return
        with self._noting:
            self._sockets.add(connected)
            if self.closed:
                _shut(connected)

    def _connections(self) -> httpx2.Client:
        """Return the connections of this process: a forked child must not use its parent's."""
        if self.closed:
            raise QueueClosed("the client is closed")
        if self._pid != os.getpid():
            with self._opening:
                if self._pid != os.getpid():
                    self._open()
        return self._http

    def run(self, steps: Steps[T], timeout_s: float | None = None) -> T:
        """Drive an operation to its end, each request within ``timeout_s`` seconds."""
        try:
            request = next(steps)
            while True:
                try:
                    answer = self._send(request, timeout_s or self._settings.timeout_s)
                except BlockQueueError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: Request, timeout_s: float) -> Answer:
        tries = Tries(request, self._settings.base, timeout_s)
        try:
            return tenacity.Retrying(sleep=self._pause, **tries.policy())(self._try, tries)
        except BlockQueueError as error:
            return tries.verdict(error)

    def _try(self, tries: Tries) -> Answer:
        try:
            parts: list[bytes] = []
            with self._using() as http, http.stream(**self._arguments(tries)) as response:
                for part in response.iter_bytes():
                    tries.check_time()
                    parts.append(part)
        except httpx2.RequestError as error:
            raise tries.failed(error) from error
        except RuntimeError as error:  # closed by another thread, meanwhile
            if self.closed:
                raise QueueClosed("the client is closed") from error
            raise
        return tries.read(response, b"".join(parts))

    def _arguments(self, tries: Tries) -> dict[str, Any]:
        return tries.arguments() | {"extensions": {"trace": self._note}}

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise QueueClosed("the client is closed")

    def each(self, page: Callable[[str | None], Steps[Page[T]]]) -> Iterator[T]:
        """Yield the items of all pages."""
        after: str | None = None
        while True:
            found = self.run(page(after))
            yield from found.items
            after = found.after
            if after is None:
                return


def _shut(connected: socket.socket) -> None:
    """Let whoever reads from a socket learn that it has ended. With TLS, too, without TLS."""
    with suppress(OSError):  # it is closed
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
