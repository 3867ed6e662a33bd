"""The queue in the workers of gunicorn, as docs/embedding.md shows it."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from blockqueue import BlockQueue

from .http_server import (
    PATIENCE_S,
    Connection,
    child_environment,
    counters,
    create_topic,
    publish,
    read_path,
    until,
)
from .worker_helpers import gone

SERVICE = """
from blockqueue import BlockQueue
from blockqueue.api.app import create_app

app = create_app(BlockQueue("queue.db"))
"""
GUARDED = """
from blockqueue import BlockQueue
from blockqueue.api.app import create_app

queue = BlockQueue("queue.db")
queue.tokens.adopt("a-secret-that-nobody-else-knows-or-guesses")
app = create_app(queue, auth="required")
"""
WORKERS = 3
STOP_S = 15.0


class Gunicorn:
    """gunicorn with several workers of several threads, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str, service: str = SERVICE) -> None:
        (folder / "service.py").write_text(service)
        bind = ("--bind", "127.0.0.1:0", "--workers", str(WORKERS))
        threads = ("--worker-class", "gthread", "--threads", "8", "--keep-alive", "0")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *bind, *threads, *arguments, "service:app"],
            cwd=folder,
            env=child_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._lines.extend, args=(self.process.stderr,))
        self._reader.start()
        until(lambda: bool(self._port()), "gunicorn listens")
        self.port = int(self._port())
        until(lambda: len(self.workers()) == WORKERS, "all workers have started")

    def _port(self) -> str:
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.said)
        return found[1] if found else ""

    @property
    def said(self) -> str:
        return "".join(self._lines)

    def workers(self) -> list[psutil.Process]:
        booted = re.findall(r"Booting worker with pid: (\d+)", self.said)
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if str(each.pid) in booted]

    def connect(self) -> Connection:
        return Connection(self.port)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_S)
        self._reader.join(PATIENCE_S)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            for each in psutil.Process(self.process.pid).children():
                each.kill()
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(params=[(), ("--preload",)], ids=["each", "preload"])
def gunicorn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gunicorn]:
    """With and without the queue being made before the fork."""
    server = Gunicorn(tmp_path, *request.param)
    try:
        yield server
    finally:
        server.close()
    assert "Traceback" not in server.said, server.said


def publish_some(server: Gunicorn, name: str) -> None:
    connection = server.connect()
    publish(connection, "cart", *(f"{name}-{number}" for number in range(10)))
    connection.close()


def has_come(answers: list[list[str]], count: int) -> bool:
    return sum(map(len, answers)) == count


def test_workers_of_gunicorn_share_the_queue(gunicorn: Gunicorn, tmp_path: Path) -> None:
    """They publish at the same time, wake each other, are killed, and end in order."""
    connection = gunicorn.connect()
    create_topic(connection, "cart")
    publishers = [threading.Thread(target=publish_some, args=(gunicorn, n)) for n in "abcdef"]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(PATIENCE_S)
    assert counters(connection, "cart") == (60, 0)
    create_topic(connection, "quiet")
    polls = [gunicorn.connect() for _ in range(4)]
    answers: list[list[str]] = []

    def wait(poll: Connection) -> None:
        answers.append(poll.send("GET", read_path("quiet", timeout="20s")).texts)

    waiting = [threading.Thread(target=wait, args=(poll,)) for poll in polls]
    for thread in waiting:
        thread.start()
    for number in range(len(polls)):
        publish(connection, "quiet", str(number))
        until(partial(has_come, answers, number + 1), "it has come to one who waits")
    for thread in waiting:
        thread.join(PATIENCE_S)
    assert sorted(text for texts in answers for text in texts) == list("0123")

    victim = gunicorn.workers()[0]
    victim.kill()
    until(lambda: len(gunicorn.workers()) == WORKERS and gone([victim]), "it is replaced")
    for _ in range(6):
        publish(connection, "cart", "after that")

    for each in (connection, *polls):
        each.close()
    assert gunicorn.stop() == 0
    with BlockQueue(tmp_path / "queue.db") as queue:
        assert len(queue.claim("cart", "worker", limit=1_000)) == 66
        with queue.system.reading() as snapshot:
            assert snapshot.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--preload",)], ids=["each", "preload"])
def test_each_worker_of_gunicorn_wants_a_token_and_hears_of_its_end(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """All adopt the same one from their program; a revoked one is refused by all in a second."""
    server = Gunicorn(tmp_path, *arguments, service=GUARDED)

    def statuses(token: str | None) -> set[int]:
        """Ask often enough that each worker has probably been asked, on new connections."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        found: set[int] = set()
        for _ in range(30):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
            connection.request("GET", "/v1/topics", headers=headers)
            found.add(connection.getresponse().status)
            connection.close()
        return found

    try:
        assert statuses(None) == {401}
        assert statuses("a-secret-that-nobody-else-knows-or-guesses") == {200}
        with BlockQueue(tmp_path / "queue.db") as queue:
            made = queue.tokens.create("shop", ["observe:*"])
            until(lambda: statuses(made.secret) == {200}, "all know the new token")
            queue.tokens.revoke("shop")
            revoked = time.monotonic()
            until(lambda: statuses(made.secret) == {401}, "all refuse the revoked token")
            assert time.monotonic() - revoked < PATIENCE_S / 2
        assert server.stop() == 0
    finally:
        server.close()
