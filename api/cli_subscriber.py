"""``blockqueue subscriber``."""

from __future__ import annotations

from typing import Any

import click

from ._cli_options import YES, confirm, retry_options, subscriber_of, subscriber_options
from ._cli_rows import say, span, table
from ._cli_source import JSON, SUBSCRIBER, TOPIC, Source, acting_options, source_options
from ._cli_status import COLUMNS, statuses

_PREVIEWED = 100


@click.group()
def subscriber() -> None:
    """Add, list, delete and pause subscribers."""


@subscriber.command()
@TOPIC
@click.argument("subscriber")
@subscriber_options
@acting_options
@JSON
def add(source: Source, topic: str, subscriber: str, as_json: bool, **options: Any) -> None:
    """Add SUBSCRIBER to TOPIC. It gets what is published from now on."""
    with source.opened() as queue:
        queue.add_subscribers(topic, [subscriber_of(subscriber, options)])
    said = {"topic": topic, "subscriber": subscriber}
    say(said, as_json, f"added {subscriber!r} to topic {topic!r}")


@subscriber.command("list")
@TOPIC
@source_options
@JSON
def list_(source: Source, topic: str, as_json: bool) -> None:
    """List the subscribers of TOPIC with their counts."""
    with source.opened() as queue:
        found = statuses(queue, topic)
    table(found, COLUMNS, as_json, "it has no subscriber: nothing can be published")


@subscriber.command()
@TOPIC
@SUBSCRIBER
@YES
@acting_options
@JSON
def delete(source: Source, topic: str, subscriber: str, yes: bool, as_json: bool) -> None:
    """Delete SUBSCRIBER with all that waits for it."""
    with source.opened() as queue:
        confirm(f"Delete {subscriber!r} of {topic!r} with all that waits for it?", yes)
        queue.delete_subscriber(topic, subscriber)
    said = {"topic": topic, "subscriber": subscriber, "deleted": True}
    say(said, as_json, f"deleted {subscriber!r} of topic {topic!r}")


@subscriber.command()
@TOPIC
@SUBSCRIBER
@acting_options
@JSON
def pause(source: Source, topic: str, subscriber: str, as_json: bool) -> None:
    """Let SUBSCRIBER get nothing. Messages wait for it."""
    with source.opened() as queue:
        queue.pause(topic, subscriber)
    said = {"topic": topic, "subscriber": subscriber, "paused": True}
    say(said, as_json, f"paused {subscriber!r} of topic {topic!r}")


@subscriber.command()
@TOPIC
@SUBSCRIBER
@acting_options
@JSON
def resume(source: Source, topic: str, subscriber: str, as_json: bool) -> None:
    """End a pause."""
    with source.opened() as queue:
        queue.resume(topic, subscriber)
    said = {"topic": topic, "subscriber": subscriber, "paused": False}
    say(said, as_json, f"resumed {subscriber!r} of topic {topic!r}")


@subscriber.command()
@retry_options
@JSON
def preview(as_json: bool, **options: Any) -> None:
    """Show when a message that always fails would be tried again, and when it is dead.

    Nothing is opened or made: try options here before you give them to `add`.
    """
    from blockqueue.storage import nominal_delay_ms

    policy = subscriber_of("preview", options).stored()
    policy.check()
    rows: list[dict[str, Any]] = []
    passed_ms = 0
    for failure in range(1, min(policy.max_attempts, _PREVIEWED + 1)):
        delay_ms = round(nominal_delay_ms(policy, failure))
        passed_ms += delay_ms
        rows.append({"failure": failure, "then": "retry", "delay_s": delay_ms / 1000})
        rows[-1]["since_first"] = span(passed_ms)
    if policy.max_attempts <= _PREVIEWED:
        rows.append({"failure": policy.max_attempts, "then": "dead letter"})
    table(rows, ("failure", "then", "delay_s", "since_first"), as_json, "")
    if not as_json:
        click.echo(f"\nEach delay is spread by ±{policy.retry_jitter:.0%}.")
