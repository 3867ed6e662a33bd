"""``blockqueue consume``: what is printed is acknowledged, what a command refuses is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from blockqueue import BlockQueue
from blockqueue.api import _cli_exec
from blockqueue.api._cli_exec import about

from .cli_helpers import PATIENCE_S, Shell, ended, orders, shell
from .http_server import serving, until

__all__ = ["orders", "shell"]


def counts(shell: Shell) -> tuple[int, int, int]:
    """Return how many messages wait, are in flight, and are dead."""
    with BlockQueue(shell.db) as queue:
        (status,) = queue.subscribers("orders")
    return status.waiting, status.leased, status.dead


def test_what_is_printed_is_acknowledged(orders: Shell) -> None:
    orders.ok("publish", "orders", "a", "b", "c")
    assert orders.ok("consume", "orders", "worker", "--limit", "2") == "a\nb\n"
    assert counts(orders) == (1, 0, 0)
    assert orders.ok("consume", "orders", "worker") == "c\n"
    assert orders.ok("consume", "orders", "worker") == ""


def test_more_than_one_claim_can_hold_is_printed(orders: Shell) -> None:
    orders.ok("publish", "orders", stdin="".join(f"{i}\n" for i in range(250)))
    printed = orders.ok("consume", "orders", "worker", "--limit", "240").split()
    assert printed == [str(i) for i in range(240)]
    assert counts(orders) == (10, 0, 0)


def test_a_command_gets_the_message_and_what_is_known_of_it(orders: Shell) -> None:
    orders.ok("publish", "orders", "hello", "--header", "x-from=shop", "--priority", "3")
    target = orders.folder / "seen"
    script = f'(cat; echo; env | grep "^BLOCKQUEUE_[MH]" | sort) > {target}'
    orders.ok("consume", "orders", "worker", "--exec", script)
    text, *known = target.read_text().splitlines()
    assert text == "hello"
    said = dict(line.split("=", 1) for line in known)
    assert said["BLOCKQUEUE_HEADER_X_FROM"] == "shop"
    assert json.loads(said["BLOCKQUEUE_MESSAGE_HEADERS"]) == {"x-from": "shop"}
    assert said["BLOCKQUEUE_MESSAGE_PRIORITY"] == "3"
    assert said["BLOCKQUEUE_MESSAGE_DELIVERIES"] == "1"
    assert len(said["BLOCKQUEUE_MESSAGE_ID"]) == 36
    assert counts(orders) == (0, 0, 0)


def test_the_exit_code_of_a_command_decides(orders: Shell) -> None:
    """0 is done; anything else is a failure, with the reason, and the others go on."""
    orders.ok("publish", "orders", "good", "bad", "fine")
    done = orders.run("consume", "orders", "worker", "--exec", 'test "$(cat)" != bad')
    assert done.exit_code == 1
    assert "the command exited with 1" in done.stderr
    assert counts(orders) == (1, 0, 0)
    (waiting,) = orders.lines("retries", "orders", "worker")
    assert (waiting["failure_count"], waiting["reason"]) == (1, "the command exited with 1")


def test_a_command_that_is_killed_or_does_not_read_is_no_trouble(orders: Shell) -> None:
    orders.ok("publish", "orders", stdin="x" * 500_000)
    done = orders.run("consume", "orders", "worker", "--exec", "kill -9 $$")
    assert "killed by signal 9" in done.stderr
    orders.ok("retries", "orders", "worker", "--replay")
    orders.ok("consume", "orders", "worker", "--exec", "true")
    assert counts(orders) == (0, 0, 0)


@pytest.mark.parametrize("place", ["file", "server"])
def test_a_lease_is_kept_while_the_command_runs(tmp_path: Path, place: str) -> None:
    """The command waits until its message would have been handed out again: it is not."""
    with serving(tmp_path / "queue.db") as server:
        shell = Shell(tmp_path)
        if place == "server":
            shell.env = {"BLOCKQUEUE_URL": f"http://127.0.0.1:{server.port}"}
        shell.ok("topic", "create", "orders", "--subscriber", "worker")
        shell.ok("publish", "orders", "slow")
        process = shell.start(
            *("consume", "orders", "worker", "--lease", "900ms"),
            *("--exec", "echo started; read end < end"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        subprocess.run(["mkfifo", "end"], cwd=tmp_path, check=True, timeout=PATIENCE_S)
        with ended(process):
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            with BlockQueue(shell.db) as queue:
                assert queue.claim("orders", "worker", wait=3.0) == []
            (tmp_path / "end").write_text("end\n")
            _, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, errors) == (0, "")
        assert counts(shell) == (0, 0, 0)


STUBBORN = "trap '' TERM; echo $$ >> pids; sh -c 'echo $$ >> pids; exec cat fifo' | cat"


@pytest.mark.parametrize("command", [STUBBORN, STUBBORN.removeprefix("trap '' TERM; ")])
def test_a_command_that_takes_too_long_is_ended_with_all_it_has_started(
    orders: Shell, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It has failed, whatever it exits with. Its lease is kept until then."""
    monkeypatch.setattr(_cli_exec, "_ENDED_S", 0.5)
    monkeypatch.chdir(orders.folder)
    os.mkfifo("fifo")
    orders.ok("publish", "orders", "endless")
    options = ("--lease", "900ms", "--timeout", "2s")
    done = orders.run("consume", "orders", "worker", *options, "--exec", command)
    assert done.exit_code == 1
    (waiting,) = orders.lines("retries", "orders", "worker")
    assert waiting["failure_count"] == 1
    assert waiting["reason"] == "the command was ended: it took more than 2 s"
    pids = [int(line) for line in Path("pids").read_text().split()]
    assert len(pids) == 2
    until(lambda: not any(map(runs, pids)), "all have ended")


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_in_time_is_not_ended(orders: Shell) -> None:
    orders.ok("publish", "orders", "quick")
    orders.ok("consume", "orders", "worker", "--timeout", "20s", "--exec", "cat")
    assert counts(orders) == (0, 0, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--timeout", "1s"], "--timeout is for --exec"),
        (["--timeout", "0s", "--exec", "true"], "more than zero"),
        (["--timeout", "soon", "--exec", "true"], "soon"),
    ],
)
def test_a_timeout_that_makes_no_sense_is_refused(
    orders: Shell, words: list[str], said: str
) -> None:
    assert said in orders.fails(2, "consume", "orders", "worker", *words)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [[], ["--exec", "echo started; exec cat fifo"]])
def test_who_is_interrupted_gives_back_what_it_holds(
    orders: Shell, number: signal.Signals, code: int, command: list[str]
) -> None:
    """Without a failure: the message was not at fault."""
    subprocess.run(["mkfifo", "fifo"], cwd=orders.folder, check=True, timeout=PATIENCE_S)
    orders.ok("publish", "orders", "started")
    process = orders.start(
        *("consume", "orders", "worker", "--follow", *command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in errors
    if not command:
        return
    with BlockQueue(orders.db) as queue:
        (back,) = queue.claim("orders", "worker", wait=5.0)
        assert (back.message, back.failure_count) == ("started", 0)


def test_who_is_interrupted_ends_all_of_a_pipeline(orders: Shell) -> None:
    """Or half of it would go on working on a message that others get now."""
    os.mkfifo(orders.folder / "fifo")
    orders.ok("publish", "orders", "hello")
    process = orders.start(
        *("consume", "orders", "worker", "--exec"),
        "sh -c 'echo $$; exec cat fifo' | cat",
        stdout=subprocess.PIPE,
    )
    with ended(process):
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert runs(pid)
        process.terminate()
        assert process.wait(PATIENCE_S) == 143
    until(lambda: not runs(pid), "the end of the pipeline's first half")


def test_who_is_killed_loses_nothing(orders: Shell) -> None:
    """kill -9 while the command runs: the lease runs out, and the message comes again."""
    subprocess.run(["mkfifo", "fifo"], cwd=orders.folder, check=True, timeout=PATIENCE_S)
    orders.ok("publish", "orders", "hello")
    process = orders.start(
        *("consume", "orders", "worker", "--lease", "1s"),
        *("--exec", "echo started; read line < fifo; exit 0"),
        stdout=subprocess.PIPE,
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.kill()
        process.wait(PATIENCE_S)
        (orders.folder / "fifo").write_text("its command ends, and nobody is told\n")
    with BlockQueue(orders.db) as queue:
        (again,) = queue.claim("orders", "worker", wait=20.0)
        assert (again.message, again.failure_count) == ("hello", 1)


def test_a_reader_that_goes_away_loses_nothing(orders: Shell) -> None:
    """`blockqueue consume … | head -1`: what was not printed comes again."""
    orders.ok("publish", "orders", stdin="".join(f"{i:04}" * 300 + "\n" for i in range(100)))
    process = orders.start(
        "consume", "orders", "worker", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("0000")
        process.stdout.close()
        process.wait(PATIENCE_S)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 1
    waiting, leased, dead = counts(orders)
    assert (waiting, leased, dead) == (100, 0, 0)


def test_following_goes_on_when_something_comes(orders: Shell) -> None:
    process = orders.start(
        *("consume", "orders", "worker", "--follow", "--limit", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with ended(process):
        assert process.stdout is not None
        for text in ("one", "two"):
            orders.ok("publish", "orders", text)
            assert process.stdout.readline() == f"{text}\n"
        assert process.wait(PATIENCE_S) == 0


def test_following_waits_out_a_pause(orders: Shell) -> None:
    orders.ok("topic", "pause", "orders")
    process = orders.start(
        *("consume", "orders", "worker", "--follow", "--limit", "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with ended(process):
        assert process.stderr is not None
        assert "paused" in process.stderr.readline()
        orders.ok("publish", "orders", "hello")
        orders.ok("topic", "resume", "orders")
        assert process.communicate(timeout=PATIENCE_S)[0] == "hello\n"
        assert process.returncode == 0


def test_following_rides_out_a_server_that_is_restarted(tmp_path: Path) -> None:
    """What is published after it is back is printed, by the same process."""
    db = tmp_path / "queue.db"
    with serving(db) as server:
        port = server.port
        shell = Shell(tmp_path, url=f"http://127.0.0.1:{port}")
        shell.ok("topic", "create", "orders", "--subscriber", "worker")
        process = shell.start(
            *("consume", "orders", "worker", "--follow", "--limit", "2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with ended(process):
            assert process.stdout is not None
            shell.ok("publish", "orders", "before")
            assert process.stdout.readline() == "before\n"
            assert server.stop() == 0
            with serving(db, "--port", str(port)):
                shell.ok("publish", "orders", "after")
                assert process.stdout.readline() == "after\n"
                assert process.wait(PATIENCE_S) == 0


def test_a_header_that_no_environment_can_hold_is_left_out(orders: Shell) -> None:
    with BlockQueue(orders.db) as queue:
        queue.publish("orders", "hi", headers={"bad": "a\0b", "good": "c"})
        (delivery,) = queue.claim("orders", "worker")
        known = about(delivery)
    assert known["BLOCKQUEUE_HEADER_GOOD"] == "c"
    assert "BLOCKQUEUE_HEADER_BAD" not in known
    assert json.loads(known["BLOCKQUEUE_MESSAGE_HEADERS"])["bad"] == "a\0b"
