"""Looking at a queue from the terminal: status, top, peek, tail and the dead letters."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from blockqueue import BlockQueue, ManualClock
from blockqueue.api._cli_status import statuses

from .cli_helpers import PATIENCE_S, Shell, Terminal, either, ended, orders, shell

__all__ = ["either", "orders", "shell"]


def kill_all(shell: Shell, *messages: str) -> list[str]:
    """Publish messages and let each fail once, the only time it may; return their ids."""
    shell.ok("topic", "create", "mail", "--subscriber", "sender", "--max-attempts", "1")
    ids = shell.ok("publish", "mail", *messages).split()
    shell.run("consume", "mail", "sender", "--exec", "exit 7")
    return ids


def test_the_status_counts_what_waits_is_taken_and_is_dead(either: Shell) -> None:
    kill_all(either, "a", "b")
    either.ok("publish", "mail", "c", "d", "e")
    with BlockQueue(either.db) as queue:
        queue.claim("mail", "sender", limit=1)
    (found,) = either.lines("status")
    assert (found["topic"], found["subscriber"]) == ("mail", "sender")
    assert (found["waiting"], found["in_flight"], found["dead"]) == (2, 1, 2)
    head, row = either.ok("status", "mail").splitlines()
    assert head.startswith("TOPIC  SUBSCRIBER  PAUSED  WAITING  IN FLIGHT  DEAD  OLDEST")
    assert row.split()[-4:-1] == ["2", "1", "2"]
    asked = "BLOCKQUEUE_URL" in either.env  # a server does not tell how old the oldest is
    assert (row.split()[-1] == "-", found["oldest_s"] is None) == (asked, asked)
    assert "the nearest is 'mail'" in either.fails(3, "status", "mial")


def test_the_oldest_is_the_oldest_that_is_not_done(tmp_path: Path) -> None:
    """In whatever lane it is, and whether it waits, is taken, or is to be retried."""
    clock = ManualClock()

    def oldest_s() -> float | None:
        (record,) = statuses(queue, "orders")
        found: float | None = record["oldest_s"]
        return found

    with BlockQueue(tmp_path / "queue.db", clock=clock) as queue:
        queue.create_topic("orders", ["worker"])
        assert oldest_s() is None
        queue.publish("orders", "first")
        clock.advance(60_000)
        queue.publish("orders", "second", priority=5)
        clock.advance(30_000)
        assert oldest_s() == 90
        urgent, old = queue.claim("orders", "worker", limit=2, lease="1h")
        assert oldest_s() == 90
        old.nack(delay="10m")
        assert oldest_s() == 90
        urgent.ack()
        queue.publish("orders", "third")
        clock.advance(600_000)
        for each in queue.claim("orders", "worker"):
            if each.message == "first":
                each.ack()
        assert oldest_s() == 600
    assert urgent.message == "second"


def test_peeking_takes_nothing(either: Shell) -> None:
    either.ok("topic", "create", "orders", "--subscriber", "worker")
    either.ok("publish", "orders", "a", "b", "c", "--header", "k=v")
    for _ in range(2):
        found = either.lines("peek", "orders", "worker", "--limit", "2")
        assert [each["message"] for each in found] == ["c", "b"]
        assert found[0]["headers"] == {"k": "v"}
        assert (found[0]["status"], found[0]["delivery_count"]) == ("pending", 0)
    assert either.ok("consume", "orders", "worker") == "a\nb\nc\n"
    assert either.run("peek", "orders", "worker").stderr == "nothing waits\n"


def test_more_than_a_page_can_be_peeked_at(orders: Shell) -> None:
    orders.ok("publish", "orders", stdin="".join(f"{i}\n" for i in range(250)))
    found = orders.lines("peek", "orders", "worker", "--limit", "230")
    assert [each["message"] for each in found] == [str(i) for i in range(249, 19, -1)]


def test_dead_letters_are_listed_with_their_reason_and_replayed(either: Shell) -> None:
    first, second, _ = kill_all(either, "a", "b", "c")
    listed = either.lines("dlq", "list", "mail", "sender")
    assert [each["message"] for each in listed] == ["c", "b", "a"]
    assert listed[0]["reason"] == "the command exited with 7"
    assert "the command exited with 7" in either.ok("dlq", "list", "mail", "sender")

    assert either.ok("dlq", "replay", "mail", "sender", first) == "replayed 1\n"
    assert either.ok("consume", "mail", "sender") == "a\n"
    assert "1 of them are no dead letters" in either.fails(
        3, "dlq", "replay", "mail", "sender", first, second
    )
    assert either.lines("dlq", "replay", "mail", "sender", "--all") == [{"replayed": 1}]
    assert either.ok("consume", "mail", "sender") == "b\nc\n"
    either.fails(2, "dlq", "replay", "mail", "sender")


def test_dead_letters_are_dropped_only_on_purpose(shell: Shell) -> None:
    first, *_ = kill_all(shell, "a", "b", "c")
    assert shell.run("dlq", "drop", "mail", "sender", "--all", stdin="n\n").exit_code == 1
    assert len(shell.lines("dlq", "list", "mail", "sender")) == 3
    shell.ok("dlq", "drop", "mail", "sender", first.upper(), "--yes")
    assert [each["message"] for each in shell.lines("dlq", "list", "mail", "sender")] == ["c", "b"]
    shell.ok("dlq", "drop", "mail", "sender", "--all", "--yes")
    assert shell.run("dlq", "list", "mail", "sender").stderr == "there is no dead letter\n"
    shell.env = {"BLOCKQUEUE_URL": "http://127.0.0.1:1"}
    assert "give --db" in shell.fails(2, "dlq", "drop", "mail", "sender", "--all", "--yes")


def test_the_tail_shows_what_is_published_though_it_is_consumed(orders: Shell) -> None:
    orders.ok("publish", "orders", "before")
    process = orders.start("tail", "orders", "--limit", "3", "--all", stdout=subprocess.PIPE)
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        for text in ("one", "two"):
            orders.ok("publish", "orders", text, "--priority", "3")
            orders.ok("consume", "orders", "worker")
            assert process.stdout.readline() == f"{text}\n"
        assert process.wait(PATIENCE_S) == 0


def test_the_tail_can_end_by_itself_and_reads_all_blocks(orders: Shell) -> None:
    """More blocks than one look reads, in two lanes."""
    for part in range(45):
        orders.ok("publish", "orders", "--priority", str(part % 2), f"{part}a", f"{part}b", "-q")
    assert orders.ok("tail", "orders", "--no-follow") == ""
    printed = orders.ok("tail", "orders", "--all", "--no-follow", "--json").splitlines()
    records = [json.loads(line) for line in printed]
    for priority in (0, 1):
        texts = [each["message"] for each in records if each["priority"] == priority]
        assert texts == [f"{part}{c}" for part in range(priority, 45, 2) for c in "ab"]
    with BlockQueue(orders.db) as queue:
        assert all(queue.message("orders", each["id"]).id == each["id"] for each in records)


def test_the_tail_ends_when_its_topic_is_deleted(orders: Shell) -> None:
    orders.ok("publish", "orders", "a")
    process = orders.start(
        "tail", "orders", "--all", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "a\n"
        orders.ok("topic", "delete", "orders", "--yes")
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3
    assert "there is no topic 'orders'" in errors


def test_top_shows_what_changes_until_ctrl_c(orders: Shell) -> None:
    """In a terminal; anywhere else it says what to use."""
    assert "blockqueue status" in orders.fails(2, "top")
    terminal = Terminal()
    process = orders.start(
        "top", "--interval", "0.1", stdout=terminal.slave, stderr=subprocess.PIPE
    )
    with ended(process):
        terminal.read_until("orders  worker      no            0")
        orders.ok("publish", "orders", "a", "b")
        terminal.read_until("orders  worker      no            2")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    terminal.read_all()
    assert (process.returncode, errors) == (130, "interrupted\n")


def test_an_import_shows_its_progress_on_a_terminal(orders: Shell) -> None:
    """On the error stream; ids stay clean for whoever reads them."""
    lines = orders.folder / "lines"
    lines.write_text("x\n" * 300)
    terminal = Terminal()
    with open(lines) as stdin:
        process = orders.start(
            "publish", "orders", stdin=stdin, stdout=subprocess.PIPE, stderr=terminal.slave
        )
    with ended(process):
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert "300msg" in terminal.read_all()
    assert {len(line) for line in printed.splitlines()} == {36}
    assert len(printed.splitlines()) == 300


def test_a_message_cannot_play_with_the_terminal(orders: Shell) -> None:
    """It is shown escaped there, and handed on as it is to whatever else reads it."""
    text = "\x1b]0;title\x07 line\nnext\x1b[2J"
    orders.ok("publish", "orders", text)
    assert orders.ok("tail", "orders", "--all", "--no-follow") == f"{text}\n"
    for words in (["tail", "orders", "--all", "--no-follow"], ["consume", "orders", "worker"]):
        terminal = Terminal()
        process = orders.start(*words, stdout=terminal.slave)
        with ended(process):
            assert process.wait(PATIENCE_S) == 0
        seen = terminal.read_all()
        assert "\\x1b]0;title\\x07 line\r\nnext\\x1b[2J" in seen
        assert "\x1b" not in seen
