"""``blockqueue peek``."""

from __future__ import annotations

from functools import partial

import click

from ._cli_options import LIMIT
from ._cli_rows import table
from ._cli_source import JSON, SUBSCRIBER, TOPIC, Source, source_options
from ._cli_views import pages, view_record

_COLUMNS = ("id", "status", "delivery_count", "visible_at", "message")


@click.command()
@TOPIC
@SUBSCRIBER
@LIMIT
@source_options
@JSON
def peek(source: Source, topic: str, subscriber: str, limit: int, as_json: bool) -> None:
    """Look at what waits for SUBSCRIBER or is in flight, the newest first.

    Nothing is taken: no lease, no attempt, no change.
    """
    with source.opened() as queue:
        found = pages(partial(queue.active_page, topic, subscriber), limit)
        records = [view_record(view) for view in found]
    table(records, _COLUMNS, as_json, "nothing waits")
