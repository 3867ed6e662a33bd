"""Both clients behind one face, so that one suite tests them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal

from blockqueue.client import AsyncClient, AsyncDelivery, AsyncSchedules, Client

#: Opens a client; with "async" one that runs on a loop in a thread of its own.
Open = Callable[..., contextlib.AbstractContextManager[Client]]


class Driven:
    """What belongs to an event loop, driven from threads as if it were synchronous."""

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, method: Any, *args: Any, **options: Any) -> Any:
        plain = [_plain(each) for each in args]
        return self._wrapped(self._portal.call(partial(method, *plain, **options)))

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, AsyncDelivery | AsyncSchedules):
            return Driven(self._portal, result)
        if isinstance(result, list):
            return [self._wrapped(each) for each in result]
        if hasattr(result, "__anext__"):
            return self._iterate(result)
        return result

    def _iterate(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._portal.call(source.__anext__)
                except StopAsyncIteration:
                    return
                yield self._wrapped(item)
        finally:
            self._portal.call(source.aclose)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value._target if isinstance(value, Driven) else value


@contextlib.contextmanager
def opened_sync(url: str, **options: Any) -> Iterator[Client]:
    with Client(url, **options) as client:
        yield client


@contextlib.contextmanager
def opened_async(url: str, **options: Any) -> Iterator[Client]:
    with start_blocking_portal() as portal:
        client: AsyncClient = portal.call(partial(AsyncClient, url, **options))
        try:
            yield cast(Client, Driven(portal, client))
        finally:
            portal.call(client.close)


FACES: dict[str, Open] = {"sync": opened_sync, "async": opened_async}
