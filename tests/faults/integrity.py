"""What must be true of a database file once its server has ended."""

from __future__ import annotations

from pathlib import Path

import apsw

from blockqueue.storage._inspection import broken_invariants


def check_database(path: Path) -> list[str]:
    """Return what SQLite finds wrong with the file at ``path``, and where its tables contradict
    themselves; nothing else may use it."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        foreign = connection.execute("PRAGMA foreign_key_check").fetchall()
        contradictions = broken_invariants(connection)
    except apsw.Error as error:
        return [f"the database cannot be checked: {error}"]
    finally:
        connection.close()
    problems = [f"integrity: {text}" for text in found if text != "ok"]
    problems += [f"foreign key: {row}" for row in foreign]
    return problems + [f"contradiction: {text}" for text in contradictions]
