"""`blockqueue retries`: operators see what failed, and replay or drop exactly what they chose."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from blockqueue import BlockQueue, Bucket, ManualClock, State
from blockqueue.api import cli_retries
from blockqueue.api.cli_retries import Pace, retries
from blockqueue.storage import BucketEntry, DiskFull, Tx

from .crash_clients import Http
from .crash_server import ROOT, ServerProcess, child_environment
from .retries_bucket import Prepared, crowd, fail

SCRIPT = ROOT / "scripts/replay_retries.py"


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path / "queue.db")


@pytest.fixture
def crowded(tmp_path: Path) -> Prepared:
    prepared = Prepared(tmp_path / "queue.db")
    crowd(prepared.path)
    return prepared


class FakeTime:
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


# Looking.


def test_it_lists_the_newest_first_with_all_an_operator_asks_for(prepared: Prepared) -> None:
    shown = prepared.run()

    assert shown.exit_code == 0
    header, waiting, dead = shown.stdout.splitlines()
    assert header.split() == ["ID", "STATE", "ATTEMPTS", "DUE", "AGE", "REASON", "MESSAGE"]
    due, age, reason, message = waiting.split(maxsplit=6)[3:]
    assert waiting.split()[:3] == [prepared.waiting, "waiting", "1/1"]
    assert (due, age, reason, message) == ("8h59m", "1h0m", "refused", '{"n": 1}')
    assert dead.split()[:5] == [prepared.dead, "dead", "2/2", "-", "2h0m"]


def test_what_a_message_holds_cannot_move_the_cursor(prepared: Prepared) -> None:
    shown = prepared.run("--state", "dead").stdout

    assert shown.endswith("Timeout\\nof the bank" + " " * 14 + "dead\\x1b[2J\\n\n")


def test_a_long_message_is_cut(prepared: Prepared) -> None:
    clock = ManualClock(time.time_ns() // 1_000_000)
    with BlockQueue(prepared.path, clock=clock) as queue:
        fail(queue, clock, "x" * 5000, ["y" * 5000])

    line = prepared.run("--limit", "1").stdout.splitlines()[1]

    assert line.endswith("y" * 31 + "…  " + "x" * 59 + "…")


def test_json_is_a_line_a_message(prepared: Prepared) -> None:
    waiting, dead = map(json.loads, prepared.run("--json").stdout.splitlines())

    assert set(waiting) == {
        *("id", "state", "priority", "delivery_count", "failure_count", "reason"),
        *("due_at", "ended_at", "created_at", "age_s", "preview"),
    }
    assert (waiting["state"], waiting["delivery_count"], waiting["failure_count"]) == (
        "waiting",
        1,
        1,
    )
    assert waiting["due_at"] > waiting["created_at"]
    assert waiting["ended_at"] is None
    assert 3600 <= waiting["age_s"] < 3700
    assert (dead["state"], dead["due_at"]) == ("dead", None)
    assert (dead["reason"], dead["preview"]) == ("Timeout\nof the bank", "dead\x1b[2J\n")


def test_json_is_plain_ascii(prepared: Prepared) -> None:
    assert "\\u001b" in prepared.run("--json").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--state waiting", ["waiting"]),
        ("--state dead", ["dead"]),
        ("--state all", ["waiting", "dead"]),
        ("--older-than 90m", ["dead"]),
        ("--newer-than 1h30m", ["waiting"]),
        ("--older-than 30m --newer-than 90m", ["waiting"]),
        ("--newer-than 0", []),
        ("--error timeout", ["dead"]),
        ("--error REFUSED", ["waiting"]),
        ("--error nothing", []),
        ("--limit 1", ["waiting"]),
        ("--limit 1 --state dead", ["dead"]),
    ],
)
def test_filters_choose(prepared: Prepared, arguments: str, expected: list[str]) -> None:
    assert prepared.ids(*arguments.split()) == [getattr(prepared, each) for each in expected]


def test_both_kinds_of_id_choose(prepared: Prepared) -> None:
    by_delivery = prepared.delivery_id(prepared.dead)

    assert prepared.ids("--id", prepared.dead) == [prepared.dead]
    assert prepared.ids("--id", by_delivery) == [prepared.dead]
    assert prepared.ids("--id", prepared.dead, "--id", prepared.waiting) == [
        prepared.waiting,
        prepared.dead,
    ]


def test_nothing_is_said_to_be_nothing(prepared: Prepared) -> None:
    shown = prepared.run("--error", "nothing")

    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "nothing matches\n")


def test_a_damaged_message_is_listed_and_can_be_dropped(prepared: Prepared) -> None:
    def damage(tx: Tx) -> None:
        tx.execute("UPDATE block SET data = x'00'")

    with BlockQueue(prepared.path) as queue:
        queue.system.change(damage, 5.0)

    lines = prepared.run().stdout.splitlines()[1:]
    assert [line.endswith("(damaged)") for line in lines] == [True, True]
    assert prepared.ids("--older-than", "0") == []

    dropped = prepared.run("--drop", "--yes", "--id", prepared.dead)
    assert dropped.stdout == "dropped 1 of 1 message\n"


# Acting.


def test_replay_makes_the_chosen_ones_visible(prepared: Prepared) -> None:
    done = prepared.run("--replay", "--state", "dead")

    assert (done.exit_code, done.stdout) == (0, "replayed 1 of 1 message\n")
    with BlockQueue(prepared.path) as queue:
        (delivery,) = queue.claim("cart", "counter")
        assert (delivery.id, delivery.delivery_count) == (prepared.dead, 1)


def test_replayed_messages_are_handed_out_in_the_order_of_publication(crowded: Prepared) -> None:
    assert crowded.run("--replay", "--error", "crowd").stdout == "replayed 450 of 450 messages\n"

    with BlockQueue(crowded.path) as queue:
        taken = queue.claim("cart", "counter", limit=1000)
    assert [each.message for each in taken] == [f"m{n}" for n in range(450)]


def test_drop_gives_the_chosen_ones_up(prepared: Prepared) -> None:
    done = prepared.run("--drop", "--yes", "--state", "waiting")

    assert (done.exit_code, done.stdout) == (0, "dropped 1 of 1 message\n")
    assert prepared.states() == {prepared.dead: State.DEAD}


def test_drop_asks_first(prepared: Prepared) -> None:
    refused = prepared.run("--drop", stdin="n\n")
    assert refused.exit_code == 1
    assert "Drop 2 messages of 'counter' for good? [y/N]" in refused.stderr
    assert len(prepared.states()) == 2

    nobody_there = prepared.run("--drop", stdin="")
    assert nobody_there.exit_code == 1
    assert len(prepared.states()) == 2

    assert prepared.run("--drop", stdin="y\n").exit_code == 0
    assert prepared.states() == {}


def test_nothing_to_drop_asks_nothing(prepared: Prepared) -> None:
    done = prepared.run("--drop", "--error", "nothing")

    assert (done.exit_code, done.stdout) == (0, "dropped 0 of 0 messages\n")


@pytest.mark.parametrize("action", ["replay", "drop"])
def test_dry_run_says_what_would_be_done_and_changes_nothing(
    prepared: Prepared, action: str
) -> None:
    before = prepared.run("--json").stdout

    said = prepared.run(f"--{action}", "--dry-run")

    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [prepared.waiting, prepared.dead]
    assert '{"n": 1}' in lines[1]
    assert lines[-1] == f"would {action} 2 messages: 1 dead, 1 waiting"
    assert drop_age(prepared.run("--json").stdout) == drop_age(before)


def drop_age(lines: str) -> list[Any]:
    """Decode a listing without what changes as time goes by."""
    return [{**json.loads(line), "age_s": None} for line in lines.splitlines()]


def test_json_sums_an_action_up(prepared: Prepared) -> None:
    tried = prepared.run("--json", "--drop", "--dry-run")
    done = prepared.run("--json", "--replay")

    said = {"topic": "cart", "subscriber": "counter", "chosen": 2, "skipped": 0}
    assert json.loads(tried.stdout) == {**said, "action": "drop", "dry_run": True, "done": 0}
    assert json.loads(done.stdout) == {**said, "action": "replay", "dry_run": False, "done": 2}


def test_what_a_consumer_took_meanwhile_is_left_alone(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(*_: Any, **__: Any) -> bool:
        with BlockQueue(prepared.path) as other:
            other.bucket("cart", "counter").replay(list(other.bucket("cart", "counter").entries()))
            other.claim("cart", "counter", limit=1)
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    done = prepared.run("--drop")

    assert (done.exit_code, done.stdout) == (0, "dropped 1 of 2 messages\n")
    assert done.stderr == "1 had left the bucket meanwhile and were let alone\n"


def test_an_error_midway_says_how_far_it_came(
    crowded: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Bucket.replay
    batches: list[int] = []

    def failing(bucket: Bucket, entries: Sequence[BucketEntry]) -> int:
        batches.append(len(entries))
        if len(batches) == 2:
            raise DiskFull("no room on the disk")
        return replay(bucket, entries)

    monkeypatch.setattr(Bucket, "replay", failing)
    done = crowded.run("--replay", "--error", "crowd")

    assert (done.exit_code, done.stdout) == (5, "replayed 200 of 450 messages\n")
    assert done.stderr == "Error: no room on the disk\n"


# The pace.


def test_a_rate_spreads_the_work(crowded: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime()
    monkeypatch.setattr(cli_retries, "Pace", partial(Pace, now=fake.now, wait=fake.wait))

    done = crowded.run("--replay", "--error", "crowd", "--rate", "50")

    assert done.stdout == "replayed 450 of 450 messages\n"
    assert fake.now() == pytest.approx(100 + 445 / 50)  # the first 5 go at once


@pytest.mark.parametrize(("rate", "batch"), [(0.5, 1), (25, 2), (1e9, 200), (None, 200)])
def test_a_batch_is_a_tenth_of_a_second_at_most(rate: float | None, batch: int) -> None:
    assert Pace(rate).batch == batch


def test_lost_time_is_not_caught_up() -> None:
    fake = FakeTime()
    pace = Pace(10, fake.now, fake.wait)
    pace.take(1)
    fake.now_s += 60

    pace.take(1)
    pace.take(1)

    assert fake.now_s == pytest.approx(160.1)


# Beside other processes.

CONSUMER = """
import sys
from blockqueue import BlockQueue

with BlockQueue(sys.argv[1]) as queue:
    left = int(sys.argv[2])
    print("ready", flush=True)
    while left:
        taken = queue.claim("cart", "counter", limit=7, wait=30)
        assert taken, "nothing came"
        for delivery in taken:
            delivery.ack()
            print(delivery.message, flush=True)
        left -= len(taken)
"""


def start_consumer(path: Path, count: int) -> subprocess.Popen[str]:
    """Start a process that holds the queue open and acknowledges ``count`` messages."""
    consumer = subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(path), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(path.parent),
    )
    assert consumer.stdout is not None
    assert consumer.stdout.readline() == "ready\n"
    return consumer


def test_a_consumer_that_waits_in_another_process_gets_what_is_replayed(
    crowded: Prepared,
) -> None:
    with start_consumer(crowded.path, 450) as consumer:
        done = crowded.run("--replay", "--error", "crowd", "--rate", "2000")
        printed, _ = consumer.communicate(timeout=60)

    assert done.stdout == "replayed 450 of 450 messages\n"
    assert sorted(printed.split()) == sorted(f"m{n}" for n in range(450))
    assert set(crowded.states()) == {crowded.dead, crowded.waiting}


def read(http: Http, timeout: str) -> list[Any]:
    """Read over HTTP what is due for the subscriber."""
    body = http.ask("GET", f"/topics/cart/subscribers/counter?timeout={timeout}").body
    found: list[Any] = json.loads(body)["data"]
    return found


def test_a_dead_letter_of_a_running_server_is_found_by_its_id_and_replayed(tmp_path: Path) -> None:
    option = {"max_attempts": 1, "visibility_duration": "1ms"}
    topic = {"name": "cart", "subscribers": [{"name": "counter", "option": option}]}
    words = ["cart", "counter", "--db", str(tmp_path / "queue.db"), "--state", "dead"]

    with ServerProcess(tmp_path) as server:
        http = Http(server.port)
        assert http.ask("POST", "/topics", topic).status == 200
        assert http.ask("POST", "/topics/cart/messages", {"message": "hi"}).status == 200
        (first,), (second,) = read(http, "10s"), read(http, "10s")
        assert first == second
        words += ["--id", first["id"]]
        deadline = time.monotonic() + 30
        while CliRunner().invoke(retries, words).exit_code != 0:  # until its last lease ran out
            assert time.monotonic() < deadline

        done = CliRunner().invoke(retries, [*words, "--replay"])
        assert done.stdout == "replayed 1 of 1 message\n"
        assert read(http, "10s") == [first]
        http.close()
        assert server.stop() == 0


@pytest.mark.skipif(not SCRIPT.exists(), reason="no scripts here")
def test_the_script_shows_its_progress_on_a_terminal(crowded: Prepared) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 80))
    command = [sys.executable, str(SCRIPT), "cart", "counter", "--db", str(crowded.path)]
    environment = child_environment(crowded.path.parent)

    with subprocess.Popen([*command, "--replay"], stderr=theirs, env=environment) as process:
        assert process.wait(60) == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)

    assert "452/452" in shown
