"""Topics and subscribers at the terminal, of a file and of a server alike."""

from __future__ import annotations

import json

from blockqueue import BlockQueue

from .cli_helpers import Shell, either, shell

__all__ = ["either", "shell"]


def test_a_topic_from_its_making_to_its_end(either: Shell) -> None:
    either.ok("topic", "create", "orders", "--subscriber", "worker", "--subscriber", "mail")
    assert either.lines("topic", "list")[0]["topic"] == "orders"
    (shown,) = either.lines("topic", "show", "orders")
    assert [each["subscriber"] for each in shown["subscribers"]] == ["mail", "worker"]
    assert not shown["paused"]

    either.ok("topic", "pause", "orders")
    assert either.lines("topic", "show", "orders")[0]["paused"]
    assert "paused" in either.fails(4, "consume", "orders", "worker")
    either.ok("topic", "resume", "orders")
    assert either.ok("consume", "orders", "worker") == ""

    assert either.run("topic", "delete", "orders", stdin="n\n").exit_code == 1
    assert either.lines("topic", "list")
    either.ok("topic", "delete", "orders", "--yes")
    assert either.run("topic", "list").stderr == "there is no topic\n"


def test_a_subscriber_from_its_making_to_its_end(either: Shell) -> None:
    either.ok("topic", "create", "orders", "--subscriber", "worker")
    either.ok("subscriber", "add", "orders", "mail", "--max-attempts", "1")
    either.ok("publish", "orders", "hello")

    either.ok("subscriber", "pause", "orders", "mail")
    either.fails(4, "consume", "orders", "mail")
    either.ok("subscriber", "resume", "orders", "mail")
    assert either.run("consume", "orders", "mail", "--exec", "false").exit_code == 1

    mail, worker = either.lines("subscriber", "list", "orders")
    assert (mail["subscriber"], mail["waiting"], mail["dead"]) == ("mail", 0, 1)
    assert (worker["subscriber"], worker["waiting"], worker["dead"]) == ("worker", 1, 0)

    either.ok("subscriber", "delete", "orders", "mail", "--yes")
    assert [each["subscriber"] for each in either.lines("subscriber", "list", "orders")] == [
        "worker"
    ]


def test_the_options_of_a_subscriber_are_kept(shell: Shell) -> None:
    shell.ok(
        *("topic", "create", "orders", "--subscriber", "worker", "--retention", "1h"),
        *("--max-attempts", "7", "--visibility", "90s", "--retry-initial", "2s"),
    )
    with BlockQueue(shell.db) as queue, queue.system.reading() as snapshot:
        row = snapshot.row("SELECT max_attempts, visibility_ms, retry_initial_ms FROM subscriber")
        assert row == (7, 90_000, 2_000)
        assert queue.topic("orders").retention_ms == 3_600_000


def test_the_retry_policy_can_be_seen_before_it_is_made(shell: Shell) -> None:
    """Failures, delays and the end; without a database."""
    shown = shell.lines("subscriber", "preview", "--max-attempts", "4", "--retry-max", "3s")
    assert [each.get("delay_s") for each in shown] == [1, 2, 3, None]
    assert shown[-1] == {"failure": 4, "then": "dead letter"}
    assert "±20%" in shell.ok("subscriber", "preview")
    assert "multiplier" in shell.fails(2, "subscriber", "preview", "--retry-multiplier", "0")
    assert not shell.db.exists()


def test_a_name_that_moves_the_cursor_is_shown_escaped(shell: Shell) -> None:
    """Names may hold what a terminal obeys; a table shows it, JSON escapes it."""
    name = "a\u202eb"
    shell.ok("topic", "create", name, "--subscriber", "worker")
    assert name not in shell.ok("topic", "list")
    assert "a\\u202eb" in shell.ok("topic", "list")
    assert json.loads(shell.ok("topic", "list", "--json"))["topic"] == name
