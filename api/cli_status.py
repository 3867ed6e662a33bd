"""``blockqueue status`` and ``blockqueue top``."""

from __future__ import annotations

import sys
import threading
from datetime import datetime

import click

from ._cli_rows import table, table_lines
from ._cli_source import JSON, Source, source_options
from ._cli_status import COLUMNS, statuses

_EMPTY = "there is no topic"


@click.command()
@click.argument("topic", required=False)
@source_options
@JSON
def status(source: Source, topic: str | None, as_json: bool) -> None:
    """Show what waits, is in flight and is dead, and how old the oldest is.

    OLDEST is the age of the oldest message that is not done; a server does not tell it.
    """
    with source.opened() as queue:
        found = statuses(queue, topic)
    table(found, COLUMNS, as_json, _EMPTY)


@click.command()
@click.argument("topic", required=False)
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="Seconds between two looks.",
)
@source_options
def top(source: Source, topic: str | None, interval: float) -> None:
    """Show the status again and again, until Ctrl-C."""
    if not sys.stdout.isatty():
        raise click.UsageError("top needs a terminal; `blockqueue status` prints once")
    pause = threading.Event()
    with source.opened() as queue:
        while True:
            lines = table_lines(statuses(queue, topic), COLUMNS)
            where = source.url or source.db
            click.clear()
            click.echo(f"{datetime.now():%H:%M:%S}  {where}  (Ctrl-C ends)\n")
            click.echo("\n".join(lines) if len(lines) > 1 else _EMPTY)
            pause.wait(interval)
