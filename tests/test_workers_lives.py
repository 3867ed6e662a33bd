"""``blockqueue serve --workers``: how workers begin and end, with real signals."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from blockqueue.api._supervisor import _Seat

from .http_server import (
    PATIENCE_S,
    Server,
    ack,
    check_healthy,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    refused,
    serving,
    until,
)
from .test_http_lifecycle import BROKEN_COMMIT, SLOW_END
from .worker_helpers import can_listen, gone, is_alive, seconds_until, workers

# What is promised to whoever waits for a worker's replacement, or for the end of an orphan.
BACK_S = 2.0
STOP_S = 10.0


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def replaced(server: Server, dead: psutil.Process, count: int) -> bool:
    """Say whether there are as many workers again, all of them ready."""
    found = workers(server)
    return dead not in found and len(found) == count and all(map(has_threads, found))


def has_threads(process: psutil.Process) -> bool:
    """Say whether a worker has started its actors and its server: those of one are many."""
    try:
        return process.num_threads() > 8
    except psutil.NoSuchProcess:
        return False


def test_so_many_workers_serve_one_queue(db: Path) -> None:
    """The parent itself has neither the database nor threads."""
    with serving(db, "--workers", "3") as server:
        assert len(workers(server)) == 3
        check_healthy(server, "cart")
        parent = psutil.Process(server.process.pid)
        assert parent.num_threads() == 1
        assert [each.path for each in parent.open_files() if each.path == str(db)] == []
        assert server.stop() == 0


@pytest.mark.parametrize("value", ["0", "-1", "65", "many", ""])
def test_a_wrong_number_of_workers_is_named(db: Path, value: str) -> None:
    """With what is allowed."""
    server = Server(db, "--workers", value)
    try:
        assert server.wait() == 2
    finally:
        server.close()
    assert "neither auto nor a number from 1 to 64" in server.errors
    assert not db.exists()


def test_auto_is_a_worker_a_core(db: Path) -> None:
    """It may come from the environment."""
    environment = {"BLOCKQUEUE_WORKERS": "auto", "BLOCKQUEUE_PORT": "0"}
    with serving(db, environment=environment) as server:
        cores = min(os.cpu_count() or 1, 64)
        assert len(workers(server)) == (cores if cores > 1 else 0)


def test_a_killed_worker_is_back_in_time_and_the_others_serve(db: Path) -> None:
    """Again and again."""
    with serving(db, "--workers", "2") as server:
        create_topic(server, "cart")
        for number in range(4):
            victim = workers(server)[number % 2]
            victim.kill()
            publish(server, "cart", f"while one is dead {number}")

            spent = seconds_until(partial(replaced, server, victim, 2), "it is back")

            assert spent < BACK_S
        assert len(read(server, "cart")) == 4
        assert server.stop() == 0


def test_a_worker_that_ends_by_a_disk_error_is_replaced(db: Path) -> None:
    """The others go on; what it could not commit is not there."""
    with serving(db, "--workers", "2", launcher=BROKEN_COMMIT) as server:
        before = workers(server)
        create_topic(server, "cart")

        body = {"name": "fatal", "subscribers": [{"name": "a"}]}
        assert server.send("POST", "/topics", body).status == 503

        until(lambda: any(not is_alive(each) for each in before), "the worker has ended")
        (victim,) = [each for each in before if not is_alive(each)]
        until(lambda: replaced(server, victim, 2), "it is back")
        check_healthy(server, "healthy")
        server.send("GET", "/topics/fatal/subscribers").check_failure(404)
        assert server.stop() == 0
    assert "the disk failed" in server.errors


# The end of the parent.

NO_DEATH_SIGNAL = """
from blockqueue.api import _worker_link
_worker_link._PR_SET_PDEATHSIG = 30  # another question, which changes nothing
"""
NO_WATCH = """
from blockqueue.api import _worker_link
_worker_link.Link._watch = lambda link: None
"""
MAIN = """
from blockqueue.api.cli import main
main()
"""


@pytest.mark.parametrize("handicap", ["", NO_DEATH_SIGNAL, NO_WATCH])
def test_workers_die_with_their_parent(db: Path, handicap: str) -> None:
    """Each of the two ways is enough. The next server can take the port and the file."""
    with serving(db, "--workers", "2", launcher=handicap + MAIN) as server:
        orphans, port = workers(server), server.port
        server.signal(signal.SIGKILL)

        spent = seconds_until(lambda: gone(orphans) and can_listen(port), "all are gone")

        assert spent < BACK_S
    with serving(db, "--port", str(port)) as server:
        check_healthy(server, "cart")


def test_workers_without_either_way_would_be_seen(db: Path) -> None:
    """The check above is one that can fail."""
    launcher = NO_DEATH_SIGNAL + NO_WATCH + MAIN
    server = Server(db, "--workers", "2", launcher=launcher)
    orphans, port = workers(server), server.port
    try:
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(PATIENCE_S)
        with pytest.raises(psutil.TimeoutExpired):
            orphans[0].wait(BACK_S)
        assert not can_listen(port)
    finally:
        for each in orphans:
            each.kill()
        server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_ends_all_in_order(db: Path, number: int, to_all: bool) -> None:
    """Also one that a terminal or a service manager sends to all processes at once."""
    with serving(db, "--workers", "2") as server:
        create_topic(server, "cart", visibility_duration="1h")
        publish(server, "cart", "hi")
        (held,) = read(server, "cart")
        polls = [server.poll(read_path("cart", timeout="60s")) for _ in range(8)]
        idle = server.connect()
        counters(idle, "cart")
        children = workers(server)

        def signal_all() -> None:
            for each in children if to_all else ():
                each.send_signal(number)
            server.signal(number)

        signal_all()

        assert [poll.answer().texts for poll in polls] == [[]] * len(polls)
        assert server.wait(STOP_S) == 0, server.errors
        assert gone(children)
        for poll in polls:
            poll.close()
        idle.close()

    assert not Path(f"{db}-wal").exists()  # all is in the one file
    with serving(db) as server:
        assert ack(server, "cart", held["id"]).status == 200


LATE = """
import os, signal
from blockqueue.api.cli import main

is_worker = "BLOCKQUEUE_WORKER_LINK" in os.environ
try:
    main()
finally:
    if is_worker and signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        os._exit(7)
"""


def test_a_signal_that_comes_as_a_worker_has_ended_does_no_harm(db: Path) -> None:
    """Python gives up its handlers as it ends; what is ignored stays so."""
    with serving(db, "--workers", "2", launcher=LATE) as server:
        create_topic(server, "cart")

        assert server.stop() == 0, server.errors


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_all_at_once(db: Path, second: int) -> None:
    """Whatever a worker waits for; the exit code says by which."""
    with serving(db, "--workers", "2", launcher=SLOW_END) as server:
        children = workers(server)
        server.signal(signal.SIGTERM)
        until(lambda: can_listen(server.port), "they have begun to stop")

        server.signal(second)

        assert server.wait(STOP_S) == 128 + second
        assert gone(children)


def test_a_worker_that_does_not_end_is_killed_and_the_code_says_so(db: Path) -> None:
    """In time, for whoever waits for the end of it all."""
    with serving(db, "--workers", "2", launcher=SLOW_END) as server:
        children = workers(server)
        spent = seconds_until(lambda: server.stop() == 1, "it has ended")
        assert spent < STOP_S
        assert gone(children)
    assert "did not end in order" in server.errors.splitlines()[-1]


# What keeps it from starting.


def test_a_file_that_cannot_be_opened_is_named_once(tmp_path: Path) -> None:
    """As with one process: a line, and no restarts."""
    assert "is a directory" in refused(tmp_path, "--workers", "2")


def test_a_port_in_use_is_named_once(db: Path) -> None:
    """Before a worker is started."""
    with serving(db) as server:
        line = refused(Path(f"{db}-other"), "--workers", "2", "--port", str(server.port))

    assert f"cannot listen on 127.0.0.1:{server.port}" in line
    assert not Path(f"{db}-other").exists()


def test_a_first_worker_that_is_killed_ends_the_start(db: Path) -> None:
    """Without a word of its own, how it ended is told."""
    launcher = """
import os, signal
from blockqueue.api.cli import main
from blockqueue.api._worker_link import Link
Link.tell_ready = lambda link: os.kill(os.getpid(), signal.SIGKILL)
main()
"""
    line = refused(db, "--workers", "2", launcher=launcher)

    assert line == "Error: the first worker did not start: killed by SIGKILL"


def test_a_crash_loop_is_slowed_down() -> None:
    """At once, then after a tenth of a second and twice as long each time, up to five."""
    seat = _Seat(1)

    waits = [seat.vacate(ran_well=False) for _ in range(9)]

    assert waits == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert seat.vacate(ran_well=True) == 0
    assert seat.vacate(ran_well=False) == pytest.approx(0.1)


DIES_LATER = """
import os, sys, threading
from blockqueue.api.cli import main
from blockqueue.api._worker_link import Link

started = sys.argv[sys.argv.index("--db") + 1] + "-started"

def tell_ready(link):
    with open(started, "a") as file:
        file.write("x")
    if os.path.getsize(started) > 1:
        os._exit(3)
    told(link)

told, Link.tell_ready = Link.tell_ready, tell_ready
main()
"""


def test_workers_that_keep_failing_do_not_harm_the_one_that_serves(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are tried again and again, with pauses that are logged."""
    monkeypatch.setattr(Server, "_first_line", lambda _: "")  # it comes when all are ready
    server = Server(db, "--workers", "2", launcher=DIES_LATER)
    try:
        until(lambda: "another starts in 0.4 s" in server.errors, "it was tried some times")
        assert len(workers(server)) >= 1
    finally:
        server.close()
    lines = [line for line in server.errors.splitlines() if "exit code 3" in line]
    assert [line.rsplit(" in ", 1)[1] for line in lines[:4]] == ["0 s", "0.1 s", "0.2 s", "0.4 s"]


# A system that lets no process start for a while.

CANNOT_START = """
import errno, subprocess
from blockqueue.api import _worker_process
from blockqueue.api.cli import main

class Popen(subprocess.Popen):
    calls = 0

    def __init__(self, *args, **options):
        Popen.calls += 1
        if Popen.calls in {FAILING}:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        super().__init__(*args, **options)

_worker_process.subprocess.Popen = Popen
main()
"""


def test_the_others_serve_on_while_none_can_be_started(db: Path) -> None:
    """As when there is no memory, or too many processes: it is tried again and again."""
    launcher = CANNOT_START.replace("FAILING", "3, 4, 5")
    with serving(db, "--workers", "2", launcher=launcher) as server:
        create_topic(server, "cart")
        victim = workers(server)[0]
        victim.kill()
        publish(server, "cart", "while none can be started")

        until(lambda: replaced(server, victim, 2), "it is back")

        assert len(read(server, "cart")) == 1
        assert server.stop() == 0
    assert server.errors.count("no worker can be started: ") == 3


def test_a_restart_ends_where_none_can_be_started(db: Path) -> None:
    """The old ones serve on; the next restart replaces them."""
    launcher = CANNOT_START.replace("FAILING", "3, ")
    with serving(db, "--workers", "2", launcher=launcher) as server:
        before = workers(server)
        server.signal(signal.SIGHUP)
        until(lambda: "the restart stops" in server.errors, "it was noticed")
        assert workers(server) == before
        check_healthy(server, "cart")

        server.signal(signal.SIGHUP)

        until(lambda: gone(before), "all were replaced")
        check_healthy(server, "other")
        assert server.stop() == 0


def test_a_first_worker_that_cannot_be_started_ends_the_start(db: Path) -> None:
    """With the system's word."""
    line = refused(db, "--workers", "2", launcher=CANNOT_START.replace("FAILING", "1, "))

    assert line.endswith("no worker can be started: [Errno 11] Resource temporarily unavailable")
