"""A file of an older version becomes one of this version, with all that is in it."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from blockqueue import BlockQueue, ManualClock
from blockqueue.storage import SCHEMA_VERSION, DatabaseError, _schema, overview

from .faults.integrity import check_database

_VERSION_1 = Path(__file__).with_name("schema_1.sql")
_WRITTEN_MS = 1_002_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that version 1 of the schema was written with."""
    path = tmp_path / "old.db"
    connection = apsw.Connection(str(path))
    connection.execute(_VERSION_1.read_text())
    connection.close()
    return path


def columns(path: Path) -> dict[str, set[tuple[str, str, int]]]:
    """Return what each table's columns are: name, type, NOT NULL."""
    connection = apsw.Connection(str(path))
    tables = [row[0] for row in connection.execute("SELECT name FROM pragma_table_list")]
    found = {
        table: set(
            connection.execute('SELECT name, type, "notnull" FROM pragma_table_info(?)', (table,))
        )
        for table in tables
    }
    connection.close()
    return found


def test_an_old_file_gets_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    """But for the order of the columns."""
    new = tmp_path / "new.db"
    for path in (old, new):
        BlockQueue(path).close()
        connection = apsw.Connection(str(path))
        assert connection.pragma("user_version") == SCHEMA_VERSION
        connection.close()
    assert columns(old) == columns(new)


def test_an_old_files_messages_are_handed_out(old: Path) -> None:
    """Pending ones, the retry, the delayed one, and what is published now."""
    clock = ManualClock(_WRITTEN_MS)
    with BlockQueue(old, clock=clock) as queue:
        queue.publish("cart", "new")
        clock.advance(60_000)
        got = [each.message for each in queue.claim("cart", "worker", limit=10)]
        assert sorted(got) == ["later", "new", "three", "two", "urgent"]
        (retried,) = queue.claim("cart", "audit", limit=1)
        assert (retried.message, retried.headers) == ("urgent", {"origin": "till"})
    assert check_database(old) == []


def test_the_age_of_an_old_files_messages_is_known(old: Path) -> None:
    """Their blocks' rows do not say when they were published, so that is read inside."""
    clock = ManualClock(_WRITTEN_MS)
    with BlockQueue(old, clock=clock) as queue:
        queue.publish("cart", "new")
        clock.advance(10_000)
        with queue.system.reading() as snapshot:
            lags = {each.subscriber: each.lag_s for each in overview(snapshot).subscribers}
    assert lags == {"worker": 12.0, "audit": 12.0}


def test_a_step_that_breaks_off_leaves_the_old_file(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps or none."""
    before = columns(old)
    add_times, _ = _schema.MIGRATIONS[1]

    def broken(db: object) -> None:
        add_times(db)  # type: ignore[arg-type]
        raise DatabaseError("broken off")

    monkeypatch.setitem(_schema.MIGRATIONS, 1, (broken, 2))
    with pytest.raises(DatabaseError, match="broken off"):
        BlockQueue(old)
    assert columns(old) == before
    monkeypatch.undo()
    BlockQueue(old).close()
