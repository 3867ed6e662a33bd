"""``blockqueue publish``: words, lines, files, and what they are published with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from blockqueue import BlockQueue

from .cli_helpers import PATIENCE_S, Shell, ended, orders, shell
from .http_server import serving

__all__ = ["orders", "shell"]


def consumed(shell: Shell, *words: str) -> list[str]:
    return [each["message"] for each in shell.lines("consume", "orders", "worker", *words)]


def test_words_are_messages_and_their_ids_are_printed(orders: Shell) -> None:
    printed = orders.ok("publish", "orders", "a b", "c").split()
    with BlockQueue(orders.db) as queue:
        texts = [queue.message("orders", each).body for each in printed]
    assert texts == ["a b", "c"]
    assert consumed(orders) == ["a b", "c"]


def test_lines_are_messages_with_or_without_a_last_newline(orders: Shell) -> None:
    assert len(orders.ok("publish", "orders", stdin="a\n\nb\n").split()) == 3
    assert len(orders.ok("publish", "orders", "--batch", "1", stdin="c\nd").split()) == 2
    assert orders.ok("publish", "orders", stdin="") == ""
    assert consumed(orders) == ["a", "", "b", "c", "d"]


def test_files_are_messages_as_they_are(orders: Shell) -> None:
    for name in ("one", "two"):
        (orders.folder / name).write_text(f"{name}\nof two lines\n")
    files = ["--file", str(orders.folder / "one"), "--file", str(orders.folder / "two")]
    orders.ok("publish", "orders", *files)
    assert consumed(orders) == ["one\nof two lines\n", "two\nof two lines\n"]


def test_everything_that_is_given_travels_with_the_message(orders: Shell) -> None:
    orders.ok("publish", "orders", "late", "--delay", "1h")
    orders.ok("publish", "orders", "at", "--at", "2100-01-01T00:00:00+01:00")
    options = ["--header", "from=shop", "--header", "kind=a=b", "--priority", "7"]
    orders.ok("publish", "orders", "hi", *options, "--correlation-id", "c-1")
    (found,) = orders.lines("consume", "orders", "worker")
    assert found["message"] == "hi"
    assert found["headers"] == {"from": "shop", "kind": "a=b"}
    assert (found["priority"], found["correlation_id"]) == (7, "c-1")


def test_what_was_broken_off_can_be_repeated(orders: Shell) -> None:
    """With a key nothing is written twice, though the repeat has more lines than the first."""
    orders.ok("publish", "orders", "--key", "import", stdin="a\nb\n")
    again = orders.run("publish", "orders", "--key", "import", "--json", stdin="a\nb\nc\n")
    assert [json.loads(line)["duplicate"] for line in again.stdout.splitlines()] == [
        True,
        True,
        False,
    ]
    assert consumed(orders) == ["a", "b", "c"]
    assert "key" in orders.fails(4, "publish", "orders", "--key", "import", stdin="x\n")


def test_a_single_message_has_the_key_as_it_is(orders: Shell) -> None:
    first = orders.ok("publish", "orders", "a", "--key", "order-42")
    assert orders.ok("publish", "orders", "a", "--key", "order-42") == first
    assert consumed(orders) == ["a"]


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (["--header", "x"], None, "not NAME=VALUE"),
        (["--header", "x=1", "--header", "x=2"], None, "given twice"),
        (["--at", "tomorrow"], None, "2027-01-31"),
        (["--at", "2027-01-01T00:00:00"], None, "no time zone"),
        (["--at", "2100-01-01T00:00:00Z", "--delay", "1s"], None, "choose one"),
        (["--delay", "soon"], None, "300ms, 5s or 1h30m"),
        (["--priority", "1001"], "x\n", "1000"),
        (["--file", "missing"], None, "cannot read missing"),
        (["word", "--file", "missing"], None, "not both"),
        ([], b"a\n\xff\n", "line 2 is not text in UTF-8"),
    ],
)
def test_a_mistake_is_explained(
    orders: Shell, words: list[str], stdin: str | bytes | None, said: str
) -> None:
    assert said in orders.fails(2, "publish", "orders", *words, stdin=stdin)


def test_a_line_that_is_too_long_is_refused_before_it_fills_the_memory(orders: Shell) -> None:
    said = orders.fails(1, "publish", "orders", stdin="a\n" + "x" * 3_000_000)
    assert "longer than 1 MiB" in said


def test_a_slow_writers_line_is_not_held_back(orders: Shell) -> None:
    """As of `tail -f`: the id comes while the pipe is still open."""
    process = orders.start(
        "publish", "orders", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with ended(process):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("first\n")
        process.stdin.flush()
        assert len(process.stdout.readline()) == 37
        process.stdin.write("second\n")
        rest, errors = process.communicate(timeout=PATIENCE_S)
    assert (len(rest), errors, process.returncode) == (37, "", 0)


def test_a_reader_that_goes_away_ends_it_without_a_traceback(orders: Shell) -> None:
    """`blockqueue publish … | head -1`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = orders.start(
        "publish", "orders", stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.PIPE
    )
    os.close(write_end)
    with ended(process):
        _, errors = process.communicate("a\n" * 500, timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "Traceback" not in errors


def test_a_server_takes_what_a_file_takes(tmp_path: Path) -> None:
    with serving(tmp_path / "queue.db") as server:
        shell = Shell(tmp_path, url=f"http://127.0.0.1:{server.port}")
        shell.ok("topic", "create", "orders", "--subscriber", "worker")
        shell.ok("publish", "orders", "--key", "k", "--header", "a=b", stdin="x\ny\n")
        assert len(shell.ok("publish", "orders", "--key", "k", "--header", "a=b", stdin="x\n"))
        found = shell.lines("consume", "orders", "worker")
        assert [(each["message"], each["headers"]) for each in found] == [
            ("x", {"a": "b"}),
            ("y", {"a": "b"}),
        ]
        assert "the nearest is 'orders'" in shell.fails(3, "publish", "order", "x")
