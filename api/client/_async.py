"""The asynchronous transport: requests are sent from an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
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


class AsyncTransport:
    """The connections to a server, for the tasks of one event loop."""

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
        self._http = httpx2.AsyncClient(**(self._settings.options() | options))
        self._closed = anyio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

    async def close(self) -> None:
        """Close the connections, and end the waits of other tasks. Safe to call again."""
        self._closed.set()
        await self._http.aclose()

    async def run(self, steps: Steps[T], timeout_s: float | None = None) -> T:
        """Drive an operation to its end, each request within ``timeout_s`` seconds."""
        try:
            request = next(steps)
            while True:
                try:
                    answer = await self._send(request, timeout_s or self._settings.timeout_s)
                except BlockQueueError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _send(self, request: Request, timeout_s: float) -> Answer:
        tries = Tries(request, self._settings.base, timeout_s)
        try:
            return await tenacity.AsyncRetrying(sleep=self._pause, **tries.policy())(
                self._try, tries
            )
        except BlockQueueError as error:
            return tries.verdict(error)

    async def _try(self, tries: Tries) -> Answer:
        if self.closed:
            raise QueueClosed("the client is closed")
        try:
            parts: list[bytes] = []
            async with self._http.stream(**tries.arguments()) as response:
                async for part in response.aiter_bytes():
                    tries.check_time()
                    parts.append(part)
        except httpx2.RequestError as error:
            raise tries.failed(error) from error
        return tries.read(response, b"".join(parts))

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._closed.wait()
        if self.closed:
            raise QueueClosed("the client is closed")

    async def each(self, page: Callable[[str | None], Steps[Page[T]]]) -> AsyncIterator[T]:
        """Yield the items of all pages."""
        after: str | None = None
        while True:
            found = await self.run(page(after))
            for item in found.items:
                yield item
            after = found.after
            if after is None:
                return
