"""A proxy that cuts connections: a request or an answer is lost, or half an answer comes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from random import Random

from ..crash_server import HOST

_BYTES = 65_536
_LOOK_S = 0.2


class CuttingProxy:
    """Passes bytes on to ``port``; while ``cutting`` is set, each answer may be lost."""

    def __init__(self, port: int, seed: int, chance: float) -> None:
        self.cutting = threading.Event()
        #: How many connections were cut.
        self.cuts = 0
        self._upstream = port
        self._chance = chance
        self._random = Random(seed)
        self._lock = threading.Lock()  # guards cuts and _random
        self._closing = threading.Event()
        self._listener = socket.create_server((HOST, 0), backlog=256)
        self._listener.settimeout(_LOOK_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(30)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _draws(self) -> str | None:
        """Return which harm comes to this answer, if any."""
        if not self.cutting.is_set():
            return None
        with self._lock:
            if self._random.random() >= self._chance:
                return None
            self.cuts += 1
            return self._random.choice(("request", "answer", "half"))

    def _pass_on(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection((HOST, self._upstream), timeout=_LOOK_S)
            with server, selectors.DefaultSelector() as selector:
                client.settimeout(None)
                server.settimeout(None)
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                harm: str | None = None
                while not self._closing.is_set():
                    for key, _ in selector.select(_LOOK_S):
                        source, target = key.fileobj, key.data
                        assert isinstance(source, socket.socket)
                        data = source.recv(_BYTES)
                        if source is client:
                            harm = self._draws()
                        if not data or harm == "request":
                            return self._cut(client, server)
                        if source is server and harm is not None:
                            target.sendall(data[: len(data) // 2] if harm == "half" else b"")
                            return self._cut(client, server)
                        target.sendall(data)
        return None

    def _cut(self, *connections: socket.socket) -> None:
        """Close with a reset, as a network does that has lost its memory."""
        for each in connections:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
