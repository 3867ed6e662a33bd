"""Opens a database with a newer program, which is killed before its n-th statement.

Run as ``python migrator.py DATABASE N [--apart]``: prints how many statements the migration
has if it gets through. The newer program adds a column and an index, and fills the column.
``--apart``: each step is committed for itself, which is the mistake to be noticed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

from peewee import Database

from blockqueue import BlockQueue
from blockqueue.storage import _schema, _store


def add_note(db: Database) -> None:
    db.execute_sql("ALTER TABLE topic ADD COLUMN note TEXT")


def fill_note(db: Database) -> None:
    db.execute_sql("UPDATE topic SET note = 'about ' || name")
    db.execute_sql("CREATE INDEX topic_note ON topic (note)")


def migrate_until(limit: int, *, apart: bool) -> list[str]:
    """Make the next migration one that is killed; return where its statements are kept."""
    statements: list[str] = []
    migrate = _schema.migrate

    def watched(db: Database) -> None:
        def trace(cursor: Any, statement: str, bindings: Any) -> bool:
            statements.append(statement)
            if len(statements) == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        connection: Any = db.connection()
        connection.exec_trace = trace
        if apart:
            db.atomic = lambda *arguments: contextlib.nullcontext()  # type: ignore[assignment]
        migrate(db)
        connection.exec_trace = None

    _store.migrate = watched  # type: ignore[attr-defined]
    return statements


if __name__ == "__main__":
    last = _schema.VERSION
    _schema.MIGRATIONS = _schema.MIGRATIONS | {
        last: (add_note, last + 1),
        last + 1: (fill_note, last + 2),
    }
    _schema.VERSION = last + 2
    seen = migrate_until(int(sys.argv[2]), apart="--apart" in sys.argv)
    BlockQueue(sys.argv[1]).close()
    print(len(seen))
