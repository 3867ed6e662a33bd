"""Looking at a database that somebody else may be using, without ever writing to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import apsw

from ._database import errors_named, place_of
from ._errors import CorruptBlock, DatabaseUnusable
from ._frames import unpack_frame
from ._schema import APPLICATION_ID, VERSION
from ._snapshot import Row

_BUSY_MS = 5_000
# Blocks that are read in one transaction, so that the log can be moved in between.
_BLOCKS = 100

# What must never be found, and what it would mean. Each row names a place.
_BROKEN = (
    (
        "runs of one subscriber overlap",
        "SELECT subscriber_id, priority, first_seq FROM (SELECT subscriber_id, priority,"
        " first_seq, lag(first_seq + count) OVER (PARTITION BY subscriber_id, priority"
        " ORDER BY first_seq) AS before FROM delivery) WHERE before > first_seq",
    ),
    (
        "a run has no cursor",
        "SELECT d.subscriber_id, d.priority, d.first_seq FROM delivery AS d LEFT JOIN cursor AS c"
        " ON c.subscriber_id = d.subscriber_id AND c.priority = d.priority"
        " JOIN subscriber AS s ON s.id = d.subscriber_id AND s.deleted_ms IS NULL"
        " WHERE c.subscriber_id IS NULL",
    ),
    (
        "a run covers its cursor or lies before its start",
        "SELECT d.subscriber_id, d.priority, d.first_seq FROM delivery AS d JOIN cursor AS c"
        " ON c.subscriber_id = d.subscriber_id AND c.priority = d.priority"
        " WHERE d.first_seq < c.start_seq"
        " OR d.first_seq <= c.next_seq AND c.next_seq < d.first_seq + d.count",
    ),
    (
        "a cursor's counts or due times are not those of its runs",
        "SELECT c.subscriber_id, c.priority, c.next_seq FROM cursor AS c"
        " JOIN subscriber AS s ON s.id = c.subscriber_id AND s.deleted_ms IS NULL"
        " LEFT JOIN delivery AS d"
        " ON d.subscriber_id = c.subscriber_id AND d.priority = c.priority"
        " GROUP BY c.subscriber_id, c.priority HAVING"
        " c.leased <> total(d.count) FILTER (WHERE d.state = 0)"
        " OR c.waiting <> total(d.count) FILTER (WHERE d.state = 1)"
        " OR c.dead <> total(d.count) FILTER (WHERE d.state = 2)"
        " OR c.ahead <> total(d.count) FILTER (WHERE d.first_seq >= c.next_seq)"
        " OR c.lease_due_ms IS NOT min(d.due_ms) FILTER (WHERE d.state = 0)"
        " OR c.waiting_due_ms IS NOT min(d.due_ms) FILTER (WHERE d.state = 1)",
    ),
    (
        "a cursor or a run is past the end of its lane",
        "SELECT c.subscriber_id, c.priority, c.next_seq FROM cursor AS c"
        " JOIN subscriber AS s ON s.id = c.subscriber_id AND s.deleted_ms IS NULL"
        " LEFT JOIN lane AS l ON l.topic_id = s.topic_id AND l.priority = c.priority"
        " LEFT JOIN delivery AS d"
        " ON d.subscriber_id = c.subscriber_id AND d.priority = c.priority"
        " GROUP BY c.subscriber_id, c.priority"
        " HAVING max(c.next_seq, coalesce(max(d.first_seq + d.count), 0))"
        " > coalesce(max(l.end_seq), 0)",
    ),
    (
        "blocks overlap, or are past the end of their lane",
        "SELECT topic_id, priority, first_seq FROM (SELECT b.topic_id, b.priority, first_seq,"
        " first_seq + count AS stop, end_seq, lag(first_seq + count) OVER"
        " (PARTITION BY b.topic_id, b.priority ORDER BY first_seq) AS before FROM block AS b"
        " LEFT JOIN lane AS l ON l.topic_id = b.topic_id AND l.priority = b.priority)"
        " WHERE before > first_seq OR stop > coalesce(end_seq, 0)",
    ),
    (
        "messages that are still to be delivered have no block",
        "SELECT s.id, l.priority, coalesce(c.next_seq, 0) FROM subscriber AS s"
        " JOIN topic AS t ON t.id = s.topic_id AND t.deleted_ms IS NULL"
        " JOIN lane AS l ON l.topic_id = s.topic_id"
        " LEFT JOIN cursor AS c ON c.subscriber_id = s.id AND c.priority = l.priority"
        " WHERE s.deleted_ms IS NULL AND l.end_seq - coalesce(c.next_seq, 0) >"
        " (SELECT total(b.first_seq + b.count - max(b.first_seq, coalesce(c.next_seq, 0)))"
        "  FROM block AS b WHERE b.topic_id = l.topic_id AND b.priority = l.priority"
        "  AND b.first_seq + b.count > coalesce(c.next_seq, 0))",
    ),
)


@contextmanager
def inspected(path: str, *, still: bool = False) -> Iterator[apsw.Connection]:
    """Open a database for looking only. Raises DatabaseUnusable if it is not one of ours.

    ``still``: nobody writes to it, so that no lock and no log is needed.
    """
    path = place_of(path)
    if not os.path.isfile(path):
        raise DatabaseUnusable(f"there is no database {path}")
    with errors_named(path):
        connection = _open(path, still)
        try:
            connection.setbusytimeout(_BUSY_MS)
            connection.execute("PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF")
            _check_ours(path, connection)
            yield connection
        finally:
            connection.close()


def _open(path: str, still: bool) -> apsw.Connection:
    uri = f"file:{quote(path)}?mode=ro{'&immutable=1' if still else ''}"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
    except apsw.CantOpenError:  # a log cannot be made here, so nobody writes either
        connection.close()
        if still:
            raise
        return _open(path, True)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ours(path: str, connection: apsw.Connection) -> None:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise DatabaseUnusable(f"{path} is not a blockqueue database")
    version = connection.pragma("user_version")
    if not 1 <= version <= VERSION:
        raise DatabaseUnusable(
            f"{path} has schema version {version}; this program knows versions 1 to {VERSION}"
        )


def broken_invariants(connection: apsw.Connection) -> list[str]:
    """Return what in the tables contradicts itself; each with its first place."""
    found = []
    for meaning, sql in _BROKEN:
        rows = connection.execute(sql).fetchall()
        if rows:
            owner, priority, seq = rows[0]
            found.append(
                f"{meaning}: {len(rows)} times, first at owner={owner} priority={priority} "
                f"seq={seq}"
            )
    return found


def damaged_pages(connection: apsw.Connection) -> list[str]:
    """Return what SQLite itself finds wrong. Reads the whole file."""
    said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)").fetchall()]
    keys = connection.execute("PRAGMA foreign_key_check").fetchall()
    return [each for each in said if each != "ok"] + [f"foreign key: {row}" for row in keys]


def damaged_blocks(connection: apsw.Connection) -> Iterator[str | None]:
    """Decode all blocks; yield for each of them what is wrong, or None."""
    place = [-1, 0, 0]
    while True:
        rows: list[Row] = connection.execute(
            "SELECT topic_id, priority, first_seq, count, data FROM block"
            " WHERE (topic_id, priority, first_seq) > (?, ?, ?)"
            " ORDER BY topic_id, priority, first_seq LIMIT ?",
            (*place, _BLOCKS),
        ).fetchall()
        if not rows:
            return
        for *place, count, data in rows:
            topic_id, priority, first_seq = place
            try:
                unpack_frame(data, topic_id, priority, first_seq, count)
                yield None
            except CorruptBlock as error:
                yield str(error)


def check_backup(path: str) -> None:
    """Raise DatabaseUnusable unless this is a database of ours that has no log."""
    if os.path.exists(path + "-wal") and os.stat(path + "-wal").st_size > 0:
        raise DatabaseUnusable(f"{path} is not a backup: it has a log beside it")
    with inspected(path, still=True):
        pass


def check_whole(path: str, name: str | None = None) -> None:
    """Raise DatabaseUnusable unless a copy, which nobody uses, is whole in every respect.

    ``name``: what it is a copy of, for the error.
    """
    with inspected(path, still=True) as connection:
        problems = damaged_pages(connection) or broken_invariants(connection)
        problems = problems or [each for each in damaged_blocks(connection) if each is not None]
    if problems:
        raise DatabaseUnusable(f"{name or path} is damaged: {problems[0]}")
