"""The clients of a crash campaign: they publish, read and acknowledge, and write down all."""

from __future__ import annotations

import http.client
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from .crash_checker import OK, UNKNOWN, Acked, Published, Received, Record, Unanswered
from .crash_server import HOST

TOPIC = "crash"
SUBSCRIBERS = ("first", "second")

_REQUEST_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.002
# Publishers pause when consumers are that many deliveries behind.
_BACKLOG_MAX = 600
# A consumer that forgets a message, or asks again whether its ack was done.
FORGET = 0.02
_ACK_AGAIN = 0.5


class Journal:
    """Everything that clients saw: in memory for the checker, in a file for people."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lock = threading.Lock()  # guards the file, _records and _counts
        self._encoder = msgspec.json.Encoder()
        self._records: list[Record] = []
        self._counts: Counter[type[Record]] = Counter()

    def note(self, *records: Record) -> None:
        """Write down what has just been answered, or was not."""
        with self._lock:
            for record in records:
                self._records.append(record)
                self._counts[type(record)] += 1
                self._file.write(self._encoder.encode(record) + b"\n")

    def records(self) -> list[Record]:
        """Return everything so far."""
        with self._lock:
            return list(self._records)

    def backlog(self) -> int:
        """Return about how many deliveries are outstanding."""
        return self._counts[Published] * len(SUBSCRIBERS) - self._counts[Acked]

    def drained(self) -> None:
        """Begin to count the backlog anew: there is none."""
        with self._lock:
            self._counts.clear()
            self._sync()

    def close(self) -> None:
        with self._lock:
            self._sync()
            self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


class Unsent(Exception):
    """There was nobody to talk to: the request never left."""


class Wrong(Exception):
    """What a client saw must not be."""


class Answer(msgspec.Struct, frozen=True):
    """A request's times and its answer; the status is None if it never came."""

    sent: float
    answered: float
    status: int | None
    body: bytes


class Http:
    """One keep-alive connection, made again when it broke. A request is never repeated."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_REQUEST_TIMEOUT_S)

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request and wait for the answer. Raises Unsent."""
        connection = self._connection
        data = None if body is None else msgspec.json.encode(body)
        try:
            if connection.sock is None:
                connection.connect()
        except OSError as error:
            connection.close()
            raise Unsent from error
        sent = time.monotonic()
        try:
            connection.request(method, path, data)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return Answer(sent, time.monotonic(), None, b"")
        return Answer(sent, time.monotonic(), response.status, content)

    def close(self) -> None:
        self._connection.close()


class Gate:
    """What all clients are told."""

    def __init__(self) -> None:
        #: The server is up. Without it nobody even tries.
        self.serving = threading.Event()
        #: Nothing may be forgotten any more.
        self.draining = threading.Event()


class Client(threading.Thread):
    """Works in steps until it is told to halt."""

    #: For whom it reads, if it reads.
    subscriber = SUBSCRIBERS[0]

    def __init__(self, name: str, port: int, journal: Journal, gate: Gate, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: str | None = None
        self._http = Http(port)
        self._journal = journal
        self._gate = gate
        self._random = Random(f"{seed} {name}")
        self._halt = threading.Event()

    def run(self) -> None:
        try:
            while self._may_go_on():
                self.step()
        except Wrong as wrong:
            self.failure = f"{self.name}: {wrong}"
        except Exception:
            self.failure = f"{self.name}: {traceback.format_exc()}"
        finally:
            self._http.close()

    def _may_go_on(self) -> bool:
        """Wait for the server. Returns False when it is time to end."""
        while not self._halt.is_set():
            if self._gate.serving.wait(0.1):
                return True
        return False

    def step(self) -> None:
        raise NotImplementedError

    def halt(self) -> None:
        """End after the request that is under way."""
        self._halt.set()


class Publisher(Client):
    """Publishes bodies that nobody publishes twice."""

    sizes: Sequence[int] = (0, 40, 120, 2000)
    _number = 0

    def step(self) -> None:
        if self._journal.backlog() > _BACKLOG_MAX:
            self._halt.wait(_LOOK_EVERY_S)
            return
        self.publish(self._new_body())

    def _new_body(self) -> str:
        self._number += 1
        return f"{self.name} {self._number} " + "x" * self._random.choice(self.sizes)

    def publish(self, body: str) -> None:
        """Publish once, and note what came of it."""
        try:
            answer = self._http.ask("POST", f"/topics/{TOPIC}/messages", {"message": body})
        except Unsent:
            return
        self._journal.note(Published(body, answer.sent, answer.answered, answer.status))


class _Message(msgspec.Struct):
    id: str
    message: str


class _Read(msgspec.Struct):
    data: list[_Message]


class Consumer(Client):
    """Reads by long poll and acknowledges, over restarts too; now and then it forgets."""

    def step(self) -> None:
        path = f"/topics/{TOPIC}/subscribers/{self.subscriber}"
        try:
            answer = self._http.ask("GET", f"{path}?timeout=1s")
        except Unsent:
            return
        sent, answered = answer.sent, answer.answered
        if answer.status != OK:
            self._journal.note(Unanswered(self.subscriber, sent, answered, answer.status))
            return
        messages = msgspec.json.decode(answer.body, type=_Read).data
        self._journal.note(
            *(Received(self.subscriber, each.id, each.message, sent, answered) for each in messages)
        )
        for each in messages:
            if self._gate.draining.is_set() or self._random.random() >= FORGET:
                self._ack(path, each.id)

    def _ack(self, path: str, message_id: str) -> None:
        """Acknowledge; if the answer never came, perhaps ask again."""
        while self._may_go_on():
            try:
                answer = self._http.ask("DELETE", f"{path}/messages/{message_id}")
            except Unsent:
                continue
            acked = Acked(self.subscriber, message_id, answer.sent, answer.answered, answer.status)
            self._journal.note(acked)
            if answer.status not in UNKNOWN or self._random.random() >= _ACK_AGAIN:
                return
