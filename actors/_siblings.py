"""Wake-ups between the processes of one database: a datagram after a commit that may help.

They are hints. One that is lost costs half a second: the sweeper looks at the count of commits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection
from functools import partial

from blockqueue.storage import Store

from ._alarm import Alarm
from ._runtime_folder import runtime_folder

logger = logging.getLogger("blockqueue")

# A full queue of datagrams is tried once more after so long.
_RETRY_MS = 5
# Of more topics than that none is named: everybody looks.
_TOPICS_MAX = 64
_TOPIC = struct.Struct("<q")
_EVERY_TOPIC = 0
_BINDS_MAX = 3


class Siblings:
    """The other processes that have the file open, and what they do for those who wait here.

    Each has a slot in the hints, where it says whether anybody waits in it, and a socket that
    is named after the slot. So nobody is told anything in vain, and a lone process pays only
    a look at its own slot.
    """

    def __init__(
        self, store: Store, alarm: Alarm, on_heard: Callable[[Collection[int]], object]
    ) -> None:
        self._hints = store.hints
        self._alarm = alarm
        self._on_heard = on_heard
        self._lock = threading.Lock()  # guards _waiting, and what the slot says of it
        self._waiting: set[object] = set()
        self._closed = False
        self._folder = ""
        self._socket: socket.socket | None = None
        if self._hints.slot is None:
            return
        try:
            self._socket = self._bind(store.path)
        except OSError as error:
            logger.warning("other processes cannot wake those who wait in this one: %s", error)
            return
        self._thread = threading.Thread(
            target=self._listen, args=(self._socket,), name="blockqueue-siblings", daemon=True
        )
        self._thread.start()

    def _bind(self, path: str) -> socket.socket:
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            for attempt in range(1, _BINDS_MAX + 1):
                self._folder = runtime_folder(path)
                name = self._name(self._hints.slot)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)  # left by a process that was killed: the slot is ours now
                try:
                    bound.bind(name)
                    break
                except FileNotFoundError:  # the last one to leave has just removed the folder
                    if attempt == _BINDS_MAX:
                        raise
        except OSError:
            bound.close()
            raise
        return bound

    def _name(self, slot: int | None) -> str:
        return os.path.join(self._folder, str(slot))

    @property
    def is_listening(self) -> bool:
        """Whether the others can reach this process."""
        return self._socket is not None and not self._closed

    # Being told.

    def begin_waiting(self, who: object) -> None:
        """Have the others tell us of their commits. To be called before the last look."""
        if self._socket is not None and who not in self._waiting:
            with self._lock:
                self._waiting.add(who)
                self._hints.say_waiting(True)

    def end_waiting(self, who: object) -> None:
        if who in self._waiting:
            with self._lock:
                self._waiting.discard(who)
                self._hints.say_waiting(bool(self._waiting))

    def _listen(self, bound: socket.socket) -> None:
        size = _TOPICS_MAX * _TOPIC.size
        while not self._closed:
            topics = _unpack(bound.recv(size))
            with contextlib.suppress(BlockingIOError):
                while not self._closed:  # what has come meanwhile is one look, too
                    topics |= _unpack(bound.recv(size, socket.MSG_DONTWAIT))
            if topics:
                self._on_heard(() if _EVERY_TOPIC in topics else topics)

    # Telling.

    def tell(self, topics: Collection[int]) -> None:
        """Tell those who wait elsewhere that a commit may help them."""
        for slot in self._hints.waiting_elsewhere():
            if not self._send(slot, topics):
                self._alarm.after(_RETRY_MS, partial(self._send, slot, tuple(topics)))

    def _send(self, slot: int, topics: Collection[int]) -> bool:
        """Send a hint; False if it may fit a moment later."""
        if self._socket is None or self._closed:
            return True
        if len(topics) > _TOPICS_MAX:
            topics = (_EVERY_TOPIC,)
        try:
            data = b"".join(map(_TOPIC.pack, topics))
            self._socket.sendto(data, socket.MSG_DONTWAIT, self._name(slot))
        except BlockingIOError:
            return False
        except OSError:
            pass  # it has just ended, or has another runtime folder
        return True

    # Ending.

    def close(self) -> None:
        """Stop listening. The slot is freed with the store."""
        self._closed = True
        if self._socket is None:
            return
        self._hints.say_waiting(False)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self._name(self._hints.slot))
            os.rmdir(self._folder)  # unless others are there

    def abandon(self) -> None:
        """Let go in a forked child: the socket and the slot are the parent's."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()


def _unpack(data: bytes) -> set[int]:
    whole = len(data) - len(data) % _TOPIC.size
    return {topic for (topic,) in _TOPIC.iter_unpack(data[:whole])}
