"""``blockqueue tail``."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import click

from blockqueue import storage

from ._cli_rows import show_message, time_of
from ._cli_source import JSON, TOPIC, Source, source_options
from ._cli_views import body_record

_LOOK_S = 0.25


@click.command()
@TOPIC
@click.option("--all", "every", is_flag=True, help="Begin with all that is kept.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many.")
@click.option("--no-follow", is_flag=True, help="End when there is no more.")
@source_options
@JSON
def tail(
    source: Source, topic: str, every: bool, limit: int | None, no_follow: bool, as_json: bool
) -> None:
    """Print what is published to TOPIC as it comes, whoever consumes it.

    Nothing is taken, and nobody notices. It reads the file, so it wants --db.
    """
    pause = threading.Event()
    left = limit
    with source.file("tail") as queue:
        topic_id = queue.topic(topic).id
        places: storage.Places = {}
        if not every:
            with queue.system.reading() as snapshot:
                places = storage.log_ends(snapshot, topic_id)
        while left is None or left > 0:
            with queue.system.reading() as snapshot:
                storage.topic(snapshot, topic_id)  # it may have been deleted
                found, places = storage.read_on(snapshot, topic_id, places)
            for logged in found[:left]:
                show_message(_shown(logged, as_json))
            left = None if left is None else left - len(found)
            if not found:
                if no_follow:
                    return
                sys.stdout.flush()
                pause.wait(_LOOK_S)


def _shown(logged: storage.Logged, as_json: bool) -> str:
    record: dict[str, Any] = {
        "id": logged.id,
        **body_record(logged.body),
        "priority": logged.priority,
        "created_at": time_of(logged.created_ms),
    }
    if as_json:
        return json.dumps(record)
    return "(damaged)" if record["message"] is None else str(record["message"])
