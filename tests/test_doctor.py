"""``blockqueue doctor``: what it finds, what it says, and that it leaves everything as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from blockqueue.api.cli import main
from blockqueue.storage import (
    ERROR,
    OK,
    WARNING,
    Ack,
    FileLock,
    Finding,
    Nack,
    Subscriber,
    _doctor,
    claim,
    examine,
    settle,
)

from .http_server import create_topic, publish, serving
from .storage_helpers import Queue, damage_block, handles, open_queue


def filled(directory: Path) -> Queue:
    """Make a queue with runs of all kinds, and close it in order."""
    queue = open_queue(directory, Subscriber("busy", max_attempts=1), Subscriber("idle"))
    for number in range(5):
        queue.publish([f"{number}-{each}" for each in range(20)])
    queue.publish(["later"], delay_ms=60_000)
    held = claim(queue.store, queue.subscriber_id, 30)
    settle(queue.store, queue.subscriber_id, Ack(), handles(held[:10:2]))
    settle(queue.store, queue.subscriber_id, Nack(0, "bad"), handles(held[1:10:2]))
    return queue


def change(path: Path, sql: str) -> None:
    """Damage a database that nobody has open."""
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


def problems(path: Path) -> dict[str, Finding]:
    return {found.check: found for found in examine(str(path)) if found.level != OK}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_a_healthy_database_has_nothing_to_be_said_about(tmp_path: Path) -> None:
    """Every check is listed, and the exit code is 0."""
    filled(tmp_path).store.close()

    result = run("doctor", "--db", tmp_path / "queue.db")

    assert result.exit_code == 0, result.output
    lines = [line.split()[:2] for line in result.output.splitlines()]
    assert {check for _, check in lines} == {
        *("sqlite", "log", "database", "settings", "clock", "space"),
        *("pages", "deliveries", "messages"),
    }
    assert {level for level, _ in lines} == {"ok"}


_BUSY = "subscriber_id = (SELECT id FROM subscriber WHERE name = 'busy')"

# What is done to a database, and the words that the doctor has for it.
_DAMAGE = {
    "runs of one subscriber overlap": "UPDATE delivery SET count = count + 100"
    " WHERE first_seq = (SELECT min(first_seq) FROM delivery)",
    "a run has no cursor": f"DELETE FROM cursor WHERE {_BUSY}",
    "a run covers its cursor": f"UPDATE cursor SET next_seq = 5 WHERE {_BUSY}",
    "counts or due times": f"UPDATE cursor SET leased = leased + 1 WHERE {_BUSY}",
    "past the end of its lane": f"UPDATE cursor SET next_seq = 1000 WHERE {_BUSY}",
    "blocks overlap": "UPDATE block SET first_seq = first_seq - 1 WHERE first_seq > 0",
    "have no block": "DELETE FROM block WHERE first_seq = 40",
}


@pytest.mark.parametrize("words", _DAMAGE)
def test_what_contradicts_itself_is_found(tmp_path: Path, words: str) -> None:
    """Each invariant has a database that breaks it."""
    filled(tmp_path).store.close()
    change(tmp_path / "queue.db", _DAMAGE[words])

    found = problems(tmp_path / "queue.db")

    assert found["deliveries"].level == ERROR
    assert words in found["deliveries"].detail
    assert run("doctor", "--quick", "--db", tmp_path / "queue.db").exit_code == 2


def test_a_damaged_block_is_named(tmp_path: Path) -> None:
    """By its place; a quick look does not read it."""
    queue = filled(tmp_path)
    damage_block(queue.store, 20)
    queue.store.close()

    found = problems(tmp_path / "queue.db")

    assert set(found) == {"messages"}
    assert "first_seq=20" in found["messages"].detail
    assert run("doctor", "--quick", "--db", tmp_path / "queue.db").exit_code == 0


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    """What SQLite says about it is told."""
    filled(tmp_path).store.close()
    path = tmp_path / "queue.db"
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 3 + 64] = b"\xff" * 64
    path.write_bytes(data)

    assert ERROR in {found.level for found in examine(str(path))}


def test_a_damaged_log_is_found_before_it_is_opened(tmp_path: Path) -> None:
    """Or the look itself would go by what is left of it."""
    queue = filled(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("queue.db", "queue.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    queue.store.close()
    wal = copy / "queue.db-wal"
    data = bytearray(wal.read_bytes())
    data[len(data) // 2] ^= 1
    wal.write_bytes(data)

    found = problems(copy / "queue.db")

    assert set(found) == {"log"}
    assert "restore a backup" in found["log"].detail
    assert wal.read_bytes() == data


def test_a_backup_needs_no_ballast(tmp_path: Path) -> None:
    """Nobody has used it yet, so there is nothing to be said about it."""
    filled(tmp_path).store.close()
    copy = tmp_path / "copy.db"
    assert run("backup", copy, "--db", tmp_path / "queue.db").exit_code == 0

    result = run("doctor", "--db", copy)

    assert result.exit_code == 0, result.output


def test_a_set_clock_and_a_missing_ballast_are_warnings(tmp_path: Path) -> None:
    """The exit code is 1."""
    queue = filled(tmp_path)
    queue.store.close()
    (tmp_path / "queue.db-ballast").unlink()
    stored = json.dumps({"boot_id": "another", "offset_ms": 0, "last_now_ms": 2**43})
    change(tmp_path / "queue.db", f"INSERT INTO meta VALUES ('clock', CAST('{stored}' AS BLOB))")

    found = problems(tmp_path / "queue.db")

    assert {each.check: each.level for each in found.values()} == {
        "clock": WARNING,
        "space": WARNING,
    }
    assert run("doctor", "--db", tmp_path / "queue.db").exit_code == 1


@pytest.mark.parametrize("stored", ["x'00'", "x''", """CAST('{"boot_id": 1}' AS BLOB)"""])
def test_a_damaged_clock_is_an_error_and_the_rest_is_looked_at(tmp_path: Path, stored: str) -> None:
    """Nobody opens that; who tries is told the same."""
    filled(tmp_path).store.close()
    path = tmp_path / "queue.db"
    change(path, f"INSERT INTO meta VALUES ('clock', {stored})")

    result = run("doctor", "--json", "--db", path)

    found = {each["check"]: each for each in map(json.loads, result.output.splitlines())}
    assert result.exit_code == 2
    assert found["clock"]["level"] == ERROR
    assert found["messages"]["level"] == OK
    opened = run("status", "--db", path)
    assert opened.exit_code == 1
    assert opened.output == f"Error: {found['clock']['detail']}\n"


def test_a_lock_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """As when the files belong to somebody else."""
    filled(tmp_path).store.close()
    (tmp_path / "queue.db-lock").unlink()
    (tmp_path / "queue.db-lock").mkdir()

    result = run("doctor", "--db", tmp_path / "queue.db")

    assert result.exit_code == 2, result.output
    assert "Is a directory" in problems(tmp_path / "queue.db")["log"].detail


def test_a_lock_that_is_never_free_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks for the reason of a standstill does not stand still himself."""
    filled(tmp_path).store.close()
    monkeypatch.setattr(_doctor, "_LOCK_S", 0.05)
    held = FileLock(str(tmp_path / "queue.db-lock"))
    held.acquire()
    try:
        found = problems(tmp_path / "queue.db")
        assert run("doctor", "--db", tmp_path / "queue.db").exit_code == 2
    finally:
        held.close()

    assert set(found) == {"log"}
    assert found["log"].detail.startswith("the write lock was not free for 0.05 s: nobody can")
    assert problems(tmp_path / "queue.db") == {}


def test_what_is_not_a_database_of_ours_is_an_error(tmp_path: Path) -> None:
    """Nothing is made where there was nothing."""
    letter, other = tmp_path / "letter.txt", tmp_path / "other.db"
    letter.write_text("Dear Sir or Madam, " * 1000)
    change(other, "CREATE TABLE other (x)")

    for path in (letter, other, tmp_path / "missing.db", tmp_path):
        before = sorted(os.listdir(tmp_path))
        result = run("doctor", "--db", path)
        assert result.exit_code == 2, result.output
        assert result.output.splitlines()[-1].startswith("error"), result.output
        assert "Traceback" not in result.output
        assert sorted(os.listdir(tmp_path)) == before


def test_a_running_server_is_examined_without_a_trace(tmp_path: Path) -> None:
    """Its database and its log stay as they are, byte by byte."""
    path = tmp_path / "queue.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", *map(str, range(20)))
        before = [each.read_bytes() for each in (path, path.with_name("queue.db-wal"))]

        result = run("doctor", "--json", "--db", path)

        found = [json.loads(line) for line in result.output.splitlines()]
        assert result.exit_code == 0, result.output
        assert {each["check"]: each["level"] for each in found}["messages"] == OK
        assert [each.read_bytes() for each in (path, path.with_name("queue.db-wal"))] == before
        publish(server, "cart", "after")
