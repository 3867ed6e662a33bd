"""A cheap consumer of ``/v1`` on raw sockets, a load in a process of its own; see bench_load.

An order says how many messages it is to claim and to ack, 100 at a time; it answers with how
many it did and in how many seconds.

    python bench_consume.py PATH    # of the subscriber
"""

from __future__ import annotations

import select
import socket
import sys
import time
from functools import partial

import msgspec
from bench_load import BATCH, OK, connect, post_encoded, take_orders

_PROCESSED = b'"status":"processed"'


class _Delivery(msgspec.Struct, gc=False):
    """What of a claimed message an ack needs; the rest is not even decoded."""

    id: str
    receipt_token: str


class _Deliveries(msgspec.Struct, gc=False):
    data: list[_Delivery]


class _Ack(msgspec.Struct, gc=False):
    message_id: str
    receipt_token: str


_decode = msgspec.json.Decoder(_Deliveries).decode
_encode = msgspec.json.Encoder().encode


class _Consumer:
    """One connection, which claims and acks in turns."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._connection = connection
        self._ack_path = path + "/messages/batch/ack"
        self._claim = post_encoded(f"{path}/claim?limit={BATCH}&timeout=30s", b"")
        self._answer = b""
        self._acking = False

    def claim(self) -> None:
        self._acking = False
        self._connection.sendall(self._claim)

    def receive(self) -> bool:
        """Go on with what has come. Returns whether an ack was answered."""
        data = self._connection.recv(1 << 18)
        self._answer += data
        if not data or not OK.startswith(self._answer[: len(OK)]):
            raise RuntimeError(f"the server answered {self._answer!r}")
        if not data.endswith(b"]}"):  # no message ends so
            return False
        answer, self._answer = self._answer, b""
        if self._acking:
            assert answer.count(_PROCESSED) == BATCH
            return True
        claimed = _decode(answer[answer.index(b"\r\n\r\n") :]).data
        assert len(claimed) == BATCH
        self._acking = True
        acks = _encode([_Ack(each.id, each.receipt_token) for each in claimed])
        self._connection.sendall(post_encoded(self._ack_path, acks))
        return False


def consume(path: str, port: int, connections: int, amount: float) -> tuple[int, float]:
    """Claim and ack so many messages on all connections; return how many, and how long."""
    cycles = int(amount) // BATCH
    sockets = [connect(port) for _ in range(connections)]
    consumers = {each.fileno(): _Consumer(each, path) for each in sockets}
    poll = select.epoll()
    begun = acked = 0
    started = time.perf_counter()
    for fd, consumer in consumers.items():
        poll.register(fd, select.EPOLLIN)
        if begun < cycles:
            consumer.claim()
            begun += 1
    while acked < cycles:
        for fd, _ in poll.poll(60):
            if consumers[fd].receive():
                acked += 1
                if begun < cycles:
                    consumers[fd].claim()
                    begun += 1
    spent = time.perf_counter() - started
    for each in sockets:
        each.close()
    return acked * BATCH, spent


if __name__ == "__main__":
    take_orders(partial(consume, sys.argv[1]))
