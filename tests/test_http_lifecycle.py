"""The server's beginning, its end, and what it does when its disk fails it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import falcon
import pytest

from blockqueue.api._listener import listen
from blockqueue.api.server import Server as InProcess

from .http_server import (
    PATIENCE_S,
    Answer,
    Poll,
    Server,
    ack,
    check_healthy,
    child_environment,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    refused,
    serving,
    until,
)

_STOP_S = 10.0


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def stop(server: Server, number: int = signal.SIGTERM) -> None:
    """End a server in order and see that it takes no longer than it may."""
    started = time.monotonic()
    server.signal(number)

    assert server.wait() == 0, server.errors
    assert time.monotonic() - started < _STOP_S


# Options.


def test_the_command_line_explains_itself() -> None:
    """``--help`` names every option and its environment variable."""
    command = [sys.executable, "-m", "blockqueue", "serve", "--help"]
    environment = child_environment()

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )

    for name in ("DB", "HOST", "PORT", "THREADS", "WORKERS"):
        assert f"--{name.lower()}" in done.stdout
        assert f"BLOCKQUEUE_{name}" in done.stdout
    assert done.stderr == ""


def test_every_option_may_come_from_the_environment(db: Path) -> None:
    """And the server says what it serves, and where."""
    environment = {
        "BLOCKQUEUE_DB": str(db),
        "BLOCKQUEUE_HOST": "localhost",
        "BLOCKQUEUE_PORT": "0",
        "BLOCKQUEUE_THREADS": "1",
    }
    with serving(None, environment=environment) as server:
        assert server.line.startswith(f"blockqueue serves {db} on http://localhost:")
        check_healthy(server, "cart")
        stop(server)

    assert db.exists()


def test_an_option_goes_before_the_environment(db: Path) -> None:
    """As everywhere."""
    environment = {"BLOCKQUEUE_DB": str(db) + "-other", "BLOCKQUEUE_PORT": "1"}
    with serving(db, "--port", "0", environment=environment) as server:
        check_healthy(server, "cart")

    assert db.exists()
    assert not Path(f"{db}-other").exists()


def test_without_a_database_it_serves_one_in_the_directory(tmp_path: Path) -> None:
    """``blockqueue.db``."""
    with serving(None, directory=tmp_path) as server:
        check_healthy(server, "cart")

    assert (tmp_path / "blockqueue.db").exists()


@pytest.mark.parametrize(
    "arguments", [("--port", "65536"), ("--port", "x"), ("--threads", "0"), ("--nothing",)]
)
def test_a_wrong_option_is_named(db: Path, arguments: tuple[str, ...]) -> None:
    """And nothing is made."""
    server = Server(db, *arguments)
    try:
        assert server.wait() == 2
    finally:
        server.close()

    assert arguments[0] in server.errors
    assert "Traceback" not in server.errors
    assert not db.exists()


# Health.


def test_livez_and_readyz_answer_with_nothing(db: Path) -> None:
    """For who looks after the process; only GET."""
    with serving(db) as server:
        for path in ("/livez", "/readyz", "/livez/", "/readyz?verbose"):
            answer = server.send("GET", path)
            assert (answer.status, answer.body) == (200, b"")
        assert server.send("POST", "/livez").status == 405


# The end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_answers_parked_polls_at_once(db: Path, number: int) -> None:
    """With an empty list; then the process ends with 0."""
    with serving(db) as server:
        create_topic(server, "cart")
        polls = [server.poll(read_path("cart", timeout="60s")) for _ in range(50)]
        idle = server.connect()
        for _ in range(3):
            counters(idle, "cart")

        stop(server, number)

        assert [poll.answer().texts for poll in polls] == [[]] * len(polls)
        for poll in polls:
            poll.close()
        idle.close()


def test_a_poll_that_comes_as_the_server_stops_is_answered_or_refused(db: Path) -> None:
    """It never makes the end late."""
    with serving(db) as server:
        create_topic(server, "cart")
        connections = [server.connect() for _ in range(20)]
        for connection in connections:
            counters(connection, "cart")
        answers: list[Answer] = []

        def poll_on() -> None:
            connection = connections.pop()
            with contextlib.suppress(OSError, EOFError):
                while True:
                    answers.append(connection.send("GET", read_path("cart", timeout="60s")))
            connection.close()

        pollers = [threading.Thread(target=poll_on) for _ in range(20)]
        for poller in pollers:
            poller.start()
        stop(server)
        for poller in pollers:
            poller.join(PATIENCE_S)

    assert all(answer.texts == [] for answer in answers)


class Publisher(threading.Thread):
    """Publishes one number after the other until the server is gone."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(name=name)
        self._server = server
        self.stored: list[str] = []
        self.refused: list[Answer] = []
        self.many = threading.Event()

    def run(self) -> None:
        connection = self._server.connect()
        with contextlib.suppress(OSError, EOFError):
            for number in itertools.count():
                text = f"{self.name}-{number}"
                answer = connection.send("POST", "/topics/cart/messages", {"message": text})
                if answer.status != 200:
                    self.refused.append(answer)
                    break
                self.stored.append(text)
                if number >= 10:
                    self.many.set()
        self.many.set()
        connection.close()


def stop_amid_publishes(server: Server) -> list[str]:
    """End a server that is busy; return what it has said is stored."""
    publishers = [Publisher(server, str(number)) for number in range(8)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        assert publisher.many.wait(PATIENCE_S)
    stop(server)
    for publisher in publishers:
        publisher.join(PATIENCE_S)
        for answer in publisher.refused:
            answer.check_failure(503)
    return [text for publisher in publishers for text in publisher.stored]


def read_all(server: Server) -> list[str]:
    """Read and acknowledge until there is nothing any more."""
    found: list[str] = []
    connection = server.connect()
    while messages := read(connection, "cart"):
        for message in messages:
            assert ack(connection, "cart", message["id"]).status == 200
        found += [each["message"] for each in messages]
    connection.close()
    return found


def test_what_was_answered_with_200_is_there_after_a_restart(db: Path) -> None:
    """Each once, in the publisher's order, and a lease from before can still be ended."""
    with serving(db) as server:
        create_topic(server, "cart", visibility_duration="1h")
        publish(server, "cart", "held")
        (held,) = read(server, "cart")
        stored = stop_amid_publishes(server)

    assert not Path(f"{db}-wal").exists()  # all is in the one file
    with serving(db) as server:
        assert counters(server, "cart")[1] == 1
        assert ack(server, "cart", held["id"]).status == 200
        found = read_all(server)
        assert counters(server, "cart") == (0, 0)
        stop(server)

    # One that was written but not answered in time may be there as well: one a publisher.
    assert set(stored) <= set(found)
    assert len(found) == len(set(found)) <= len(stored) + 8
    for number in range(8):
        own = [text for text in found if text.startswith(f"{number}-")]
        assert own == sorted(own, key=lambda text: int(text.split("-")[1]))


SLOW_END = """
from blockqueue.api.cli import main
from blockqueue.storage import Store
import threading

Store.close = lambda store: threading.Event().wait(60)
main()
"""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(db: Path, second: int) -> None:
    """Whatever it waits for; the exit code says by which."""
    with serving(db, launcher=SLOW_END) as server:
        create_topic(server, "cart")
        publish(server, "cart", "hi")
        poll = server.poll(read_path("cart", "worker"))
        assert poll.answer().texts == ["hi"]
        server.signal(signal.SIGTERM)
        assert poll.socket.recv(1) == b""  # it has begun to stop
        poll.close()

        server.signal(second)

        assert server.wait(_STOP_S) == 128 + second

    with serving(db) as server:
        assert counters(server, "cart") == (0, 1)


# What keeps it from starting.


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    """One line says so."""
    assert "is a directory" in refused(tmp_path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """It is not made."""
    path = tmp_path / "missing" / "queue.db"

    assert "directory is missing" in refused(path)

    assert not path.parent.exists()


def test_a_file_that_is_no_database_is_left_as_it_is(db: Path) -> None:
    """Whatever it is, it belongs to somebody."""
    content = b"certainly not a database\n" * 1000
    db.write_bytes(content)

    assert "is not a database" in refused(db)

    assert db.read_bytes() == content


def test_a_database_of_a_newer_version_is_refused(db: Path) -> None:
    """The line says what to do."""
    with serving(db) as server:
        stop(server)
    connection = apsw.Connection(str(db))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    line = refused(db)

    assert "99" in line
    assert "newer blockqueue" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_is_named(tmp_path: Path) -> None:
    """For anybody but root."""
    tmp_path.chmod(0o500)
    try:
        assert str(tmp_path) in refused(tmp_path / "queue.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_place_where_nobody_may_write_is_named() -> None:
    """Not even root can make a file there."""
    assert "/proc/queue.db" in refused(Path("/proc/queue.db"))


def test_a_port_in_use_is_named(db: Path) -> None:
    """The other server is not disturbed."""
    with serving(db) as server:
        line = refused(Path(f"{db}-other"), "--port", str(server.port))

        assert f"cannot listen on 127.0.0.1:{server.port}" in line
        check_healthy(server, "cart")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "", "203.0.113.1", "::ffff:0:0:0:0:1:zz"])
def test_a_host_that_is_not_ours_is_named(db: Path, host: str) -> None:
    """A name that nobody knows, or the address of another machine."""
    assert "cannot listen" in refused(db, "--host", host)


# Disk errors.

BROKEN_COMMIT = """
import apsw
import falcon
from blockqueue.api.cli import main
from blockqueue.storage import Store

class Connection:
    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, *args, **kwargs):
        if sql == "COMMIT" and self._connection.execute(
            "SELECT 1 FROM topic WHERE name = 'fatal'"
        ).fetchone():
            raise apsw.IOError("disk I/O error")
        return self._connection.execute(sql, *args, **kwargs)

def opened(store, *args):
    original(store, *args)
    store._connection = Connection(store._connection)

original, Store._open = Store._open, opened
main()
"""


def test_a_fatal_disk_error_ends_the_process(db: Path) -> None:
    """With an exit code and a word, so that whoever started it can start it anew."""
    with serving(db, launcher=BROKEN_COMMIT) as server:
        create_topic(server, "cart")
        publish(server, "cart", "before")
        poll = server.poll(read_path("cart", "worker", "60s"))
        assert poll.answer().texts == ["before"]
        poll.send(read_path("cart", "worker", "60s"))

        body = {"name": "fatal", "subscribers": [{"name": "a"}]}
        text = server.send("POST", "/topics", body).check_failure(503)

        assert "may have been written or not" in text
        assert poll.socket.recv(12) in {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        poll.close()
        assert server.wait(_STOP_S) == 1
        assert server.errors.splitlines()[-1].startswith("Error: stopped: the disk failed")

    with serving(db) as server:
        assert counters(server, "cart") == (0, 1)
        server.send("GET", "/topics/fatal/subscribers").check_failure(404)
        check_healthy(server, "healthy")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB, of the kind that lives in memory."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None or sys.platform != "linux":
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield path
    finally:
        subprocess.run([umount, str(path)], timeout=PATIENCE_S, check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left on a disk; return the file that has it."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    return path


@pytest.mark.parametrize("new", [True, False])
def test_a_full_disk_at_the_start_is_named(small_disk: Path, new: bool) -> None:
    """Whether there is a database or not, if there is no ballast; with room again, it starts."""
    path = small_disk / "queue.db"
    if not new:
        with serving(path) as server:
            create_topic(server, "cart")
            stop(server)
        path.with_name("queue.db-ballast").unlink()
    filler = fill(small_disk)

    assert "no room on the disk" in refused(path)

    filler.unlink()
    with serving(path) as server:
        check_healthy(server, "healthy")


def test_a_full_disk_at_the_start_does_not_stop_consumers(small_disk: Path) -> None:
    """The ballast makes the room to open the file and to acknowledge; publishes must wait."""
    path = small_disk / "queue.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", "before")
        stop(server)
    filler = fill(small_disk)

    with serving(path) as server:
        (message,) = read(server, "cart")
        assert ack(server, "cart", message["id"]).status == 200
        refusal = server.send("POST", "/topics/cart/messages", {"message": "after"})
        assert "free on the disk" in refusal.check_failure(507)
        assert b"free on the disk" in server.send("GET", "/readyz").body
        filler.unlink()
        check_healthy(server, "healthy")


def publish_until_refused(server: Server) -> tuple[list[str], Answer]:
    """Publish until the disk is full; return what was stored, and the refusal."""
    stored: list[str] = []
    connection = server.connect()
    while True:
        text = f"{len(stored)} " + os.urandom(2_000).hex()
        answer = connection.send("POST", "/topics/cart/messages", {"message": text})
        if answer.status != 200:
            connection.close()
            return stored, answer
        stored.append(text)


def test_a_disk_that_is_full_for_a_while_loses_nothing(small_disk: Path) -> None:
    """Publishes are refused and say so, reads of what is leased go on, it heals by itself."""
    path = small_disk / "queue.db"
    with serving(path) as server:
        create_topic(server, "cart", visibility_duration="1h")
        publish(server, "cart", *map(str, range(10)))
        held = read(server, "cart")
        filler = fill(small_disk)

        stored, refusal = publish_until_refused(server)

        assert "disk" in refusal.check_failure(507)
        assert int(refusal.headers["Retry-After"]) > 0
        assert counters(server, "cart") == (len(stored), 10)
        assert server.send("GET", "/livez").status == 200
        assert [ack(server, "cart", each["id"]).status for each in held] == [200] * 10
        assert counters(server, "cart") == (len(stored), 0)

        filler.unlink()

        publish(server, "cart", "room again")
        assert read_all(server) == [*stored, "room again"]
        stop(server)

    with serving(path) as server:
        assert counters(server, "cart") == (0, 0)


def test_a_disk_that_is_full_at_the_end_loses_nothing(small_disk: Path) -> None:
    """What is in the log then stays there for the next start."""
    path = small_disk / "queue.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", "before")
        filler = fill(small_disk)
        stored, _ = publish_until_refused(server)
        stop(server)

    filler.unlink()
    with serving(path) as server:
        assert read_all(server) == ["before", *stored]


def test_a_poll_that_waits_while_the_disk_is_full_is_answered(small_disk: Path) -> None:
    """With an error or with the message, once there is room; it does not break the server."""
    with serving(small_disk / "queue.db") as server:
        create_topic(server, "cart")
        filler = fill(small_disk)
        poll: Poll = server.poll(read_path("cart", timeout="60s"))
        stored, _ = publish_until_refused(server)
        filler.unlink()
        publish(server, "cart", "room again")

        assert poll.answer().status in {200, 507}

        poll.close()
        until(lambda: sum(counters(server, "cart")) == len(stored) + 1, "all are there")
        check_healthy(server, "healthy")


def test_a_server_that_has_ended_may_be_told_to_stop() -> None:
    """A disk can fail as the queue is closed; by then the trigger's descriptor is another's."""
    ended = InProcess(falcon.App(), listen("127.0.0.1", 0), threads=1, on_stop=lambda: None)
    ended.stop()
    assert ended.run()

    ended.stop()


def test_a_thread_that_is_late_writes_into_nobodys_file(tmp_path: Path) -> None:
    """It wakes the loop when it has an answer; by then the descriptor may be the database's."""
    ended = InProcess(falcon.App(), listen("127.0.0.1", 0), threads=1, on_stop=lambda: None)
    waitress: Any = ended._server
    descriptor = waitress.trigger.trigger
    ended.stop()
    assert ended.run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with (tmp_path / "database").open("wb") as file:
        os.dup2(file.fileno(), descriptor)
        try:
            waitress.pull_trigger()
            assert os.fstat(descriptor).st_size == 0
            type(waitress).pull_trigger(waitress)  # the control: Waitress as it comes
            assert os.fstat(descriptor).st_size == 1
        finally:
            os.close(descriptor)


def test_a_loop_that_is_told_often_holds_nobody_up() -> None:
    """A pipe that nobody reads is full after 65,536 times, and the next one would wait."""
    server = InProcess(falcon.App(), listen("127.0.0.1", 0), threads=1, on_stop=lambda: None)
    for _ in range(70_000):
        server._wake()
    server.stop()
    assert server.run()
