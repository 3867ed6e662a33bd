"""What commands print: tables for people, lines of JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click


def say(record: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print one thing: ``text`` for people, the record for programs."""
    click.echo(json.dumps(record) if as_json else text)


def table(
    records: Iterable[Mapping[str, Any]], columns: Sequence[str], as_json: bool, empty: str
) -> None:
    """Print records: a line of JSON each, or a table of some columns; ``empty``: no record."""
    if as_json:
        for record in records:
            click.echo(json.dumps(record))
        return
    lines = table_lines(list(records), columns)
    if len(lines) == 1:
        click.echo(empty, err=True)
        return
    click.echo("\n".join(lines))


def table_lines(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a table's lines, its head first; numbers stand to the right."""
    rows = [[cell(record.get(column)) for column in columns] for record in records]
    head = [column.replace("_", " ").upper() for column in columns]
    right = [
        bool(records) and all(_is_number(record.get(column)) for record in records)
        for column in columns
    ]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [head, *rows]
    ]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def cell(value: object) -> str:
    """Write a value so that it can't move the cursor, nor break the table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return printable(json.dumps(value))
    return printable(str(value))


def printable(text: str, limit: int = 60) -> str:
    """Return the start of ``text``, with all that could move the cursor escaped."""
    shown = _escaped(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def show_message(message: str | bytes) -> None:
    """Print a message as it is; on a terminal with all escaped that a terminal obeys."""
    if not sys.stdout.isatty():
        click.echo(message, color=True)  # or click would take escape sequences out of it
        return
    text = message.decode(errors="backslashreplace") if isinstance(message, bytes) else message
    click.echo(_escaped(text, "\n\t"))


def _escaped(text: str, kept: str = "") -> str:
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def time_of(ms: int | None) -> str | None:
    """Write a time of the queue, milliseconds since 1970, as RFC 3339."""
    if ms is None:
        return None
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(ms: int) -> str:
    """Write a duration with its two largest units."""
    seconds = max(0, ms) // 1000
    for unit, size, below, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part}{below}"
    return f"{seconds}s"
