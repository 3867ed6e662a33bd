"""How a message of the retry bucket is shown: as a row of a table, or as a line of JSON."""

from __future__ import annotations

import json

import msgspec

from blockqueue.storage import BucketEntry, Envelope

from ._cli_rows import printable, span
from ._receipts import from_ms

_PREVIEW_CHARS = 60
_REASON_CHARS = 32
_COLUMNS = "{:36}  {:7}  {:>8}  {:>8}  {:>8}  {:32}  {}"
HEADER = _COLUMNS.format("ID", "STATE", "ATTEMPTS", "DUE", "AGE", "REASON", "MESSAGE")


def row(entry: BucketEntry, now_ms: int) -> str:
    """Return the entry as a row under HEADER."""
    due = "-"
    if entry.due_ms is not None:
        due = "now" if entry.due_ms <= now_ms else span(entry.due_ms - now_ms)
    body = _text(entry)
    return _COLUMNS.format(
        entry.id,
        entry.state.name.lower(),
        f"{entry.delivery_count}/{entry.failure_count}",
        due,
        "?" if entry.created_ms is None else span(now_ms - entry.created_ms),
        printable(entry.reason or "", _REASON_CHARS),
        "(damaged)" if body is None else printable(body, _PREVIEW_CHARS),
    ).rstrip()


def record(entry: BucketEntry, now_ms: int) -> str:
    """Return the entry as a line of JSON; everything but ASCII is escaped in it."""
    body = _text(entry)
    return json.dumps(
        {
            "id": entry.id,
            "state": entry.state.name.lower(),
            "priority": entry.handle.priority,
            "delivery_count": entry.delivery_count,
            "failure_count": entry.failure_count,
            "reason": entry.reason,
            "due_at": _time(entry.due_ms),
            "ended_at": _time(entry.since_ms),
            "created_at": _time(entry.created_ms),
            "age_s": None if entry.created_ms is None else (now_ms - entry.created_ms) / 1000,
            "preview": None if body is None else body[:_PREVIEW_CHARS],
        }
    )


def shortened(entry: BucketEntry) -> BucketEntry:
    """Return the entry with no more of its body than is shown."""
    text = _text(entry)
    body = None if text is None else text[: _PREVIEW_CHARS + 1]
    return msgspec.structs.replace(entry, body=body)


def _text(entry: BucketEntry) -> str | None:
    payload = entry.body.payload if isinstance(entry.body, Envelope) else entry.body
    if isinstance(payload, bytes):
        return payload[: 4 * _PREVIEW_CHARS].decode(errors="backslashreplace")
    return payload


def _time(ms: int | None) -> str | None:
    return None if ms is None else from_ms(ms).isoformat(timespec="milliseconds")
