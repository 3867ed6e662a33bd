"""``blockqueue topic``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ._cli_options import YES, confirm, duration, subscriber_of, subscriber_options
from ._cli_rows import say, span, table, time_of
from ._cli_source import JSON, TOPIC, Source, acting_options, source_options
from ._cli_status import COLUMNS, statuses

if TYPE_CHECKING:
    from blockqueue.client import Topic as Remote
    from blockqueue.storage import Topic


@click.group()
def topic() -> None:
    """Make, list, show, delete and pause topics."""


@topic.command()
@click.argument("topic")
@click.option(
    "--subscriber", "names", multiple=True, required=True, help="A subscriber. Repeatable."
)
@click.option("--retention", type=duration, help="How long done messages are kept; else 168h.")
@subscriber_options
@acting_options
@JSON
def create(
    source: Source,
    topic: str,
    names: tuple[str, ...],
    retention: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make TOPIC with its subscribers. The database is made if it is missing.

    The options of subscribers are for all of them; `subscriber add` adds one with others.
    """
    subscribers = [subscriber_of(name, options) for name in names]
    if retention is None:
        with source.opened(make=True) as queue:
            made = queue.create_topic(topic, subscribers)
    else:
        with source.file("--retention", make=True) as local:
            made = local.create_topic(topic, subscribers, retention=retention)
    say(_record(made), as_json, f"made topic {topic!r} with {', '.join(names)}")


@topic.command("list")
@source_options
@JSON
def list_(source: Source, as_json: bool) -> None:
    """List all topics."""
    with source.opened() as queue:
        found = [_record(queue.topic(name)) for name in queue.topics()]
    table(found, ("topic", "paused", "retention", "created_at"), as_json, "there is no topic")


@topic.command()
@TOPIC
@source_options
@JSON
def show(source: Source, topic: str, as_json: bool) -> None:
    """Show TOPIC with its subscribers."""
    with source.opened() as queue:
        found = _record(queue.topic(topic))
        subscribers = statuses(queue, topic)
    if as_json:
        say({**found, "subscribers": subscribers}, True, "")
        return
    table([found], ("topic", "paused", "retention", "created_at"), False, "")
    click.echo()
    table(subscribers, COLUMNS, False, "it has no subscriber: nothing can be published")


@topic.command()
@TOPIC
@YES
@acting_options
@JSON
def delete(source: Source, topic: str, yes: bool, as_json: bool) -> None:
    """Delete TOPIC with its subscribers and messages."""
    with source.opened() as queue:
        queue.topic(topic)
        confirm(f"Delete topic {topic!r} with all its messages?", yes)
        queue.delete_topic(topic)
    say({"topic": topic, "deleted": True}, as_json, f"deleted topic {topic!r}")


@topic.command()
@TOPIC
@acting_options
@JSON
def pause(source: Source, topic: str, as_json: bool) -> None:
    """Let nothing of TOPIC be consumed. Publishing goes on."""
    with source.opened() as queue:
        queue.pause(topic)
    say({"topic": topic, "paused": True}, as_json, f"paused topic {topic!r}")


@topic.command()
@TOPIC
@acting_options
@JSON
def resume(source: Source, topic: str, as_json: bool) -> None:
    """End a pause."""
    with source.opened() as queue:
        queue.resume(topic)
    say({"topic": topic, "paused": False}, as_json, f"resumed topic {topic!r}")


def _record(found: Topic | Remote) -> dict[str, Any]:
    """Return a topic; a server does not tell its retention."""
    retention_ms: int | None = getattr(found, "retention_ms", None)
    return {
        "topic": found.name,
        "paused": bool(found.paused),
        "retention": None if retention_ms is None else span(retention_ms),
        "created_at": time_of(found.created_ms),
    }
