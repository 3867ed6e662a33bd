"""Workers that are restarted under load, and workers that stand still at the worst moment."""

from __future__ import annotations

import contextlib
import http.client
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from .http_server import (
    PATIENCE_S,
    Poll,
    Server,
    counters,
    create_topic,
    publish,
    read_path,
    serving,
    until,
)
from .worker_helpers import connections, gone, is_alive, workers

# By when the others can write again after one has stopped inside its transaction.
FREE_S = 6.0


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


# Restarting one by one.


class Client(threading.Thread):
    """Publishes on a new connection each time until it is told to end."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(name=name)
        self._server = server
        self.ended = threading.Event()
        self.published = 0
        self.errors: list[BaseException] = []

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                publish(self._server, "cart", f"{self.name} {self.published}")
            except BaseException as error:
                self.errors.append(error)
                return
            self.published += 1


class Sender(Poll):
    """A client that does not wait for the answer to a publish."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.port, "/livez")
        assert self.answer().status == 200

    def send_publish(self, topic: str) -> None:
        head = f"POST /topics/{topic}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17"
        self.socket.sendall(head.encode() + b'\r\n\r\n{"message": "hi"}')


def restart(server: Server) -> None:
    """Restart all workers, and wait for that."""
    before = workers(server)
    server.signal(signal.SIGHUP)
    until(lambda: gone(before) and len(workers(server)) == len(before), "all are new")


def test_a_restart_one_by_one_refuses_nobody(db: Path) -> None:
    """Each connection that is made meanwhile is answered, and nothing is lost."""
    with serving(db, "--workers", "2") as server:
        create_topic(server, "cart")
        clients = [Client(server, str(number)) for number in range(4)]
        for client in clients:
            client.start()
        for _ in range(2):
            restart(server)
        for client in clients:
            client.ended.set()
            client.join(PATIENCE_S)

        assert [client.errors for client in clients] == [[]] * 4
        assert sum(counters(server, "cart")) == sum(client.published for client in clients) > 0
        assert server.stop() == 0


NO_PATIENCE = """
from blockqueue.api import server
from blockqueue.api.cli import main
server._is_beginning = lambda channel: False
main()
"""


@pytest.mark.parametrize("launcher", ["", NO_PATIENCE])
def test_a_connection_that_was_just_made_is_answered_by_a_worker_that_ends(
    db: Path, launcher: str
) -> None:
    """Its request is still on its way. Without that patience it would not be answered."""
    with serving(db, "--workers", "2", launcher=launcher) as server:
        create_topic(server, "cart")
        poll = server.poll(read_path("cart"))
        assert poll.answer().texts == []
        poll.close()
        fresh = server.connect()
        fresh._http.connect()
        until(lambda: any(connections(each, server.port) for each in workers(server)), "accepted")
        (owner,) = [each for each in workers(server) if connections(each, server.port)]
        owner.terminate()
        until(lambda: not listens(owner), "it accepts no more")

        if launcher:
            with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
                counters(fresh, "cart")
        else:
            assert counters(fresh, "cart") == (0, 0)
        fresh.close()


def listens(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        found = process.net_connections("tcp")
        return any(each.status == psutil.CONN_LISTEN for each in found)
    return False


BROKEN_RELEASE = """
import os
from blockqueue.api.cli import main
from blockqueue.api._worker_link import Link

def tell_ready(link):
    if os.path.exists(link_broken):
        os._exit(4)
    told(link)

told, Link.tell_ready = Link.tell_ready, tell_ready
import sys
link_broken = sys.argv[sys.argv.index("--db") + 1] + "-broken"
main()
"""


def test_a_restart_with_something_broken_keeps_the_workers_that_serve(db: Path) -> None:
    """One that cannot start replaces nobody."""
    with serving(db, "--workers", "2", launcher=BROKEN_RELEASE) as server:
        before = workers(server)
        Path(f"{db}-broken").touch()
        server.signal(signal.SIGHUP)
        until(lambda: "the restart stops" in server.errors, "it has been tried")

        assert workers(server) == before
        create_topic(server, "cart")
        assert server.stop() == 0


# Standing still.

STOPS = """
import os, signal
from blockqueue.api.cli import main
from blockqueue.actors import _job

def publish(tx, topic_id, calls):
    published = inner(tx, topic_id, calls)
    if tx.row("SELECT name FROM topic WHERE id = ?", (topic_id,)) == ("still",):
        os.kill(os.getpid(), signal.SIGSTOP)
    return published

inner, _job.publish_calls_in = _job.publish_calls_in, publish
"""
NEVER_KILLS = """
from blockqueue.api import _supervisor
_supervisor._LOCK_S_MAX = 1e9
"""
MAIN = "main()\n"


def stand_still(server: Server) -> tuple[psutil.Process, Sender]:
    """Have a worker stop for ever inside a transaction; return it, and who asked it to."""
    create_topic(server, "still")
    sender = Sender(server)
    sender.send_publish("still")

    def stopped() -> list[psutil.Process]:
        return [each for each in workers(server) if each.status() == psutil.STATUS_STOPPED]

    until(lambda: bool(stopped()), "a worker has stopped")
    (found,) = stopped()
    return found, sender


def test_a_worker_that_stops_inside_a_transaction_is_killed_in_time(db: Path) -> None:
    """Meanwhile the others answer reads; what they were to write is written after that."""
    with serving(db, "--workers", "2", launcher=STOPS + MAIN) as server:
        create_topic(server, "cart")
        victim, sender = stand_still(server)
        started = time.monotonic()
        assert counters(server, "cart") == (0, 0)
        assert is_alive(victim)  # so nothing can be written yet

        publish(server, "cart", "from a survivor")

        assert time.monotonic() - started < FREE_S
        until(lambda: not is_alive(victim), "the stopped worker has gone")
        until(lambda: len(workers(server)) == 2, "another worker has come")
        assert counters(server, "cart") == (1, 0)  # the transaction was not committed
        sender.close()
        assert server.stop() == 0
    assert f"worker {victim.pid} has held the write lock" in server.errors


@pytest.mark.slow
def test_without_the_kill_the_others_would_stand_still_too(db: Path) -> None:
    """The check above is one that can fail."""
    with serving(db, "--workers", "2", launcher=STOPS + NEVER_KILLS + MAIN) as server:
        create_topic(server, "cart")
        victim, sender = stand_still(server)
        survivor = Sender(server)
        survivor.send_publish("cart")
        survivor.socket.settimeout(FREE_S + 1)
        with pytest.raises(TimeoutError):
            survivor.answer()
        assert is_alive(victim)
        victim.kill()
        survivor.close()
        sender.close()


def test_a_worker_that_stops_elsewhere_is_let_alone(db: Path) -> None:
    """It goes on when it is told to; the others serve all the time."""
    with serving(db, "--workers", "2") as server:
        create_topic(server, "cart")
        victim = workers(server)[0]
        victim.suspend()
        publish(server, "cart", "from the other")
        victim.resume()
        publish(server, "cart", "from any")
        assert victim in workers(server)
        assert server.stop() == 0
