"""``blockqueue schedule``, of a file and of a server alike."""

from __future__ import annotations

import pytest

from blockqueue import BlockQueue, ScheduleSpec

from .cli_helpers import Shell, either, orders, shell

__all__ = ["either", "orders", "shell"]

NEVER_SOON = "0 0 29 2 *"


def test_a_schedule_from_its_making_to_its_end(either: Shell) -> None:
    either.ok("topic", "create", "orders", "--subscriber", "worker")
    said = either.ok(
        *("schedule", "create", "orders", "report", NEVER_SOON, "the report"),
        *("--timezone", "Europe/Berlin", "--header", "a=b", "--priority", "4"),
    )
    assert said.startswith("made schedule 'report': next at 20")
    (listed,) = either.lines("schedule", "list", "orders")
    assert (listed["cron"], listed["timezone"]) == (NEVER_SOON, "Europe/Berlin")
    assert (listed["message"], listed["headers"]) == ("the report", {"a": "b"})

    assert either.ok("schedule", "run-now", "orders", "report").startswith("running ")
    (got,) = either.lines("consume", "orders", "worker")
    assert (got["message"], got["headers"], got["priority"]) == ("the report", {"a": "b"}, 4)
    (run,) = either.lines("schedule", "runs", "orders", "report")
    assert (run["status"], run["message_id"]) == ("completed", got["id"])
    (shown,) = either.lines("schedule", "show", "orders", listed["id"])
    assert [each["id"] for each in shown["runs"]] == [run["id"]]
    assert "completed" in either.ok("schedule", "show", "orders", "report")

    either.ok("schedule", "pause", "orders", "report")
    assert either.lines("schedule", "list", "orders")[0]["paused"]
    either.ok("schedule", "resume", "orders", "report")
    assert not either.lines("schedule", "list", "orders")[0]["paused"]

    either.ok("schedule", "delete", "orders", "report", "--yes")
    assert either.run("schedule", "list", "orders").stderr == "there is no schedule\n"


def test_an_update_changes_what_is_given_and_nothing_else(either: Shell) -> None:
    either.ok("topic", "create", "orders", "--subscriber", "worker")
    either.ok(
        *("schedule", "create", "orders", "report", NEVER_SOON, "hello"),
        *("--header", "a=b", "--timezone", "Asia/Tokyo", "--correlation-id", "c"),
    )
    (before,) = either.lines("schedule", "list", "orders")
    either.ok("schedule", "update", "orders", "report", "--rename", "weekly", "--cron", "0 7 * * 1")
    (after,) = either.lines("schedule", "list", "orders")
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"name", "cron", "version", "next_run_at"}
    either.fails(2, "schedule", "update", "orders", "weekly")


def test_bytes_stay_bytes_when_something_else_is_changed(orders: Shell) -> None:
    with BlockQueue(orders.db) as queue:
        queue.schedules("orders").create(ScheduleSpec("raw", NEVER_SOON, b"\xff\x00"))
    orders.ok("schedule", "update", "orders", "raw", "--priority", "1")
    with BlockQueue(orders.db) as queue:
        (found,) = queue.schedules("orders").page().items
    assert (found.body.payload, found.priority) == (b"\xff\x00", 1)


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (3, "show orders raport", "there is no schedule 'raport'; the nearest is 'report'"),
        (3, "list order", "the nearest is 'orders'"),
        (4, "create orders report * * * * * x", "'report'"),
        (2, "create orders other 61 * * * * x", "minute"),
        (2, "create orders other * * * * * x --timezone Europe/Berlln", "Berlln"),
    ],
)
def test_a_mistake_is_explained(orders: Shell, code: int, words: str, said: str) -> None:
    orders.ok("schedule", "create", "orders", "report", NEVER_SOON, "x")
    first, *rest = words.split()
    if first == "create":
        topic, name, *cron = rest
        rest = [topic, name, " ".join(cron[:5]), *cron[5:]]
    assert said in orders.fails(code, "schedule", first, *rest)
