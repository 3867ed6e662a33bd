"""The HTTP server: Waitress, long polls parked, and an orderly end."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

from waitress import wasyncore
from waitress.server import create_server

from blockqueue.storage import ValidationError, limits

from ._channel import Channel
from ._listener import BACKLOG
from ._lot import Lot
from ._patience import Patience
from ._polls import Polls

logger = logging.getLogger("blockqueue")

# Of a request: its line and headers, and its body.
HEAD_BYTES_MAX = 16_384
BODY_BYTES_MAX = 16 * limits.MESSAGE_BYTES_MAX

_DRAIN_S = 6.0
# For so long after a client's last byte, or its connecting, its request may be on its way.
_BEGIN_S = 1.0
# How often the loop looks for work that is late, and for clients that are too slow.
_LOOK_S = 1.0
# After so long without a look the process was stopped: what has come meanwhile is read first.
_STOPPED_S = 4.0
# Waitress's own limits are not ours: a client could evade those of time, a thread would wait
# at that of unsent bytes, and that of connections counts only those that do not rest.
_NEVER_S = 10**9
_NO_LIMIT = 2**40
# Descriptors kept for the database, the listening socket and everything else.
_DESCRIPTORS_KEPT = 128
_CONNECTIONS_MAX = 20_000


class Server:
    """Serves a WSGI application until it is told to stop.

    ``listener`` is its own from now on. ``run`` belongs to the main thread, which is the
    server's loop; requests are handled on ``threads`` others. ``stop`` may be called from
    anywhere, a signal handler too.

    ``on_turn`` is called by the loop, at least once a second: nobody hears of one that hangs.
    ``polls_max`` is how many long polls may wait at once; None: three quarters of the
    connections, and more than that is a ValidationError. ``patience`` is with slow clients.
    ``access_log``: whether each answer is logged.
    """

    def __init__(
        self,
        app: Any,
        listener: socket.socket,
        *,
        threads: int,
        on_stop: Callable[[], None],
        on_turn: Callable[[], None] | None = None,
        polls_max: int | None = None,
        patience: Patience | None = None,
        access_log: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._looked = clock()
        self._on_stop = on_stop
        self._on_turn = on_turn or (lambda: None)
        self._stopping = threading.Event()
        self._map: dict[int, Any] = {}
        self._connections_max = _raise_descriptor_limit()
        #: The long polls that wait here.
        self.polls = polls = Polls(_polls_max(polls_max, self._connections_max))
        server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=threads,
            ident=None,
            backlog=BACKLOG,
            asyncore_use_poll=True,
            connection_limit=_NO_LIMIT,
            channel_request_lookahead=1,
            channel_timeout=_NEVER_S,
            cleanup_interval=_NEVER_S,
            outbuf_high_watermark=_NO_LIMIT,
            max_request_header_size=HEAD_BYTES_MAX,
            max_request_body_size=BODY_BYTES_MAX + 1,
            inbuf_overflow=2 * limits.MESSAGE_BYTES_MAX,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=True,
        )
        self._server = cast(Any, server)
        self._waking = threading.RLock()  # guards _is_awake; a signal may strike in the middle
        self._is_awake = True
        os.set_blocking(self._server.trigger.trigger, False)
        self._server.pull_trigger = self._wake
        lot = Lot(self._map, polls)
        served = {
            "lot": lot,
            "patience": patience or Patience(),
            "clock": staticmethod(clock),
            "has_access_log": access_log,
        }
        self._server.channel_class = type("ServedChannel", (Channel,), served)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    def run(self) -> bool:
        """Serve until ``stop``, then let what is in flight end. True: all of it has."""
        while not self._stopping.is_set():
            self.turn(1.0)
            self._on_turn()
        return self._drain()

    def turn(self, timeout: float) -> None:
        """Wait at most so many seconds for something to do, and do it."""
        # Beyond the limit, clients wait in the system's backlog.
        self._server.accepting = len(self._server.active_channels) < self._connections_max
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._map, count=1)
        now = self._clock()
        away_s = now - self._looked
        if away_s > _STOPPED_S:
            self._looked = now
        elif away_s >= _LOOK_S:
            self._looked = now
            for channel in list(self._server.active_channels.values()):
                channel.look(now)

    def stop(self) -> None:
        """Begin to stop. Safe to call again."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._wake()

    def _wake(self) -> None:
        """Let the loop look again. For any thread, also one that is late.

        Once the trigger is closed, its descriptor may be that of another file: the database,
        say, and a byte would be written into that.
        """
        with self._waking:
            if self._is_awake:
                with suppress(BlockingIOError):  # it was told so often that it must look anyway
                    self._server.trigger.pull_trigger()

    def _drain(self) -> bool:
        """Accept nobody, answer everybody."""
        self._server.accepting = False
        self._server.del_channel(self._map)
        self._server.socket.close()
        self._on_stop()
        deadline = time.monotonic() + _DRAIN_S
        while (busy := self._busy()) and time.monotonic() < deadline:
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
            self._on_turn()
        self._server.task_dispatcher.shutdown(timeout=1)
        for channel in list(self._server.active_channels.values()):
            channel.cut()
        with self._waking:
            self._is_awake = False
        wasyncore.close_all(self._map, ignore_all=True)
        return not busy

    def _busy(self) -> bool:
        """Close the connections that are idle; say whether there are others."""
        any_busy = False
        channels: list[Channel] = list(self._server.active_channels.values())
        for channel in channels:
            if channel.requests or channel.total_outbufs_len or _is_beginning(channel):
                any_busy = True
            elif channel.request is None:
                channel.cut()
        return any_busy


def _is_beginning(channel: Channel) -> bool:
    """Say whether a request may be on its way on a connection that has none complete."""
    if channel.request is not None or channel.last_activity == channel.creation_time:
        return time.time() - channel.last_activity < _BEGIN_S
    try:
        return bool(channel.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _raise_descriptor_limit() -> int:
    """Allow as many open sockets as the system lets us; return how many to accept."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS_MAX + _DESCRIPTORS_KEPT
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(_DESCRIPTORS_KEPT, allowed - _DESCRIPTORS_KEPT)


def _polls_max(wanted: int | None, connections_max: int) -> int:
    """Return how many polls may wait: some connections are kept for everything else."""
    most = connections_max * 3 // 4
    if wanted is not None and wanted > most:
        raise ValidationError(f"at most {most} polls can wait, by the limit of open files")
    return most if wanted is None else wanted


def stop_on_signals(server: Server) -> None:
    """Let SIGTERM and SIGINT stop ``server`` in order, and a second one at once."""

    def first(number: int, frame: FrameType | None) -> None:
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, second)
        server.stop()

    def second(number: int, frame: FrameType | None) -> None:
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, first)


def obey_supervisor(server: Server) -> None:
    """Let SIGTERM stop ``server`` in order, however often it comes.

    A second one may be the same: some send it to all processes of a group. Whoever ends the
    supervisor by Ctrl-C or a hang-up sends that here, too; it is for the supervisor to act.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: server.stop())


def be_deaf() -> None:
    """Take no more orders to end: all is done, and this process is ending.

    Python gives a signal that it handles its default back as it ends. One that comes late,
    as when a whole group is told, would kill then what has ended in order.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
