"""Where connections rest while there is nothing to do with them but to read.

Waitress looks at every connection it knows before each wait. Those in the lot are watched by
the kernel instead: thousands of clients that are silent, slow, or parked cost the others
nothing.
"""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, Any

from waitress import wasyncore

from ._polls import Polls

if TYPE_CHECKING:
    from ._channel import Channel


class Lot:
    """The resting connections, under one descriptor that the server's loop watches."""

    accepting = False

    def __init__(self, socket_map: dict[int, Any], polls: Polls) -> None:
        #: Guards _resting, moves between it and _map, and a channel's descriptor while it closes.
        self.lock = threading.RLock()
        self.polls = polls
        self._epoll = select.epoll()
        self._map = socket_map
        self._resting: dict[int, Channel] = {}
        socket_map[self._epoll.fileno()] = self

    def __len__(self) -> int:
        return len(self._resting)

    def enter(self, channel: Channel) -> None:
        """Take a connection out of the loop's sight, if it is there. Runs on any thread."""
        with self.lock:
            fd = channel.descriptor
            if fd is None or fd in self._resting or self._epoll.closed:
                return
            if self._map.pop(fd, None) is None:
                return  # it was closed meanwhile
            self._resting[fd] = channel
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)

    def leave(self, channel: Channel) -> None:
        """Give a connection back to the loop. Runs on any thread, often in vain."""
        with self.lock:
            fd = channel.descriptor
            if fd is not None and self._resting.get(fd) is channel:
                del self._resting[fd]
                self._epoll.unregister(fd)
                self._map[fd] = channel

    def close(self) -> None:
        """Let go of the descriptor. All have left."""
        with self.lock:
            self._epoll.close()

    # What the loop asks of whatever it watches.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        """Read what has come. Each channel says itself whether it rests on."""
        for fd, _ in self._epoll.poll(0):
            channel = self._resting.get(fd)
            if channel is not None:
                wasyncore.read(channel)  # its errors are its own, not the server's

    def handle_expt_event(self) -> None:
        pass

    def handle_close(self) -> None:
        pass
