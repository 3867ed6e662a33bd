"""Serving a database: in this process, in several, or as one of several."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from blockqueue.api.queue import BlockQueue
from blockqueue.storage import BlockQueueError, ValidationError, meters

from ._listener import address_of, listen
from ._listening import Access
from ._service_manager import ServiceManager
from ._supervisor import Supervisor, SupervisorFailed
from ._worker_link import Link
from .server import Server, be_deaf, obey_supervisor, stop_on_signals


class Site(NamedTuple):
    """What is served, where, and to whom."""

    db: str
    host: str
    port: int
    threads: int
    polls_max: int | None
    #: The floor of free room under which nothing is published.
    min_free_bytes: int
    access: Access
    access_log: bool = False


class ServingFailed(Exception):
    """The server could not start, or had to stop. The text says why."""


def serve_alone(site: Site, on_serving: Callable[[str], None], manager: ServiceManager) -> None:
    """Serve in this process; ``on_serving`` is told the address. Raises ServingFailed."""

    def begin(server: Server, listener: socket.socket) -> None:
        stop_on_signals(server)
        on_serving(address_of(site.host, listener))

    _serve(site, partial(_listen, site), begin, manager)


def serve_as_worker(link: Link, site: Site) -> None:
    """Serve as one of several processes; the supervisor is told how that goes."""

    def begin(server: Server, listener: socket.socket) -> None:
        obey_supervisor(server)
        link.tell_ready()

    try:
        manager = ServiceManager(None)
        _serve(site, lambda: link.listener, begin, manager, has_restarted=link.is_replacement)
    except ServingFailed as error:
        link.tell_failed(str(error))
        raise


def supervise(
    site: Site, workers: int, on_serving: Callable[[str], None], manager: ServiceManager
) -> None:
    """Serve in ``workers`` other processes. Raises ServingFailed."""
    with _listen(site) as listener:
        on_ready = partial(on_serving, address_of(site.host, listener))
        try:
            Supervisor(workers, listener, os.path.abspath(site.db), on_ready, manager).run()
        except SupervisorFailed as error:
            raise ServingFailed(str(error)) from error
        be_deaf()


def _listen(site: Site) -> socket.socket:
    try:
        return listen(site.host, site.port)
    except (OSError, ValueError) as error:
        raise ServingFailed(f"cannot listen on {site.host}:{site.port}: {error}") from error


def _serve(
    site: Site,
    listener_of: Callable[[], socket.socket],
    begin: Callable[[Server, socket.socket], None],
    manager: ServiceManager,
    *,
    has_restarted: bool = False,
) -> None:
    fatal: list[BlockQueueError] = []
    servers: list[Server] = []

    def on_fatal(error: BlockQueueError) -> None:
        fatal.append(error)
        for running in servers:
            running.stop()

    try:
        queue = BlockQueue(site.db, min_free_bytes=site.min_free_bytes, on_fatal=on_fatal)
    except BlockQueueError as error:
        raise ServingFailed(str(error)) from error
    try:
        app = site.access.app(queue, site.host)
        listener = listener_of()
    except (BlockQueueError, OSError, ServingFailed) as error:
        queue.close()
        raise ServingFailed(str(error)) from error
    try:
        server = Server(
            app,
            listener,
            threads=site.threads,
            on_stop=partial(_begin_end, queue, manager),
            on_turn=manager.tell_alive,
            polls_max=site.polls_max,
            access_log=site.access_log,
        )
    except ValidationError as error:
        listener.close()
        queue.close()
        raise ServingFailed(str(error)) from error
    servers.append(server)
    queue.system.gauges[meters.PARKED_POLLS] = lambda: len(server.polls)
    if has_restarted:
        queue.system.store.meters.add(meters.WORKER_RESTARTS)
    if fatal:  # it came before there was a server to stop
        server.stop()
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    begin(server, listener)
    answered = server.run()
    closed = queue.close()
    be_deaf()
    if fatal:
        raise ServingFailed(f"stopped: {fatal[0]}")
    if not (answered and closed):
        raise ServingFailed("stopped before everything in flight had ended")


def _begin_end(queue: BlockQueue, manager: ServiceManager) -> None:
    manager.tell_stopping()
    queue.drain()
