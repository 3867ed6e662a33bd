"""``blockqueue dlq``: dead letters."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from blockqueue.storage import State

from ._cli_group import NOT_FOUND, Failed
from ._cli_options import LIMIT, YES, confirm
from ._cli_rows import say, table
from ._cli_source import JSON, SUBSCRIBER, TOPIC, Source, acting_options, source_options
from ._cli_views import pages, view_record

if TYPE_CHECKING:
    from blockqueue import BlockQueue
    from blockqueue.client import Client

_COLUMNS = ("id", "failure_count", "reason", "created_at", "message")
_BATCH = 200
_ALL = click.option("--all", "every", is_flag=True, help="All dead letters of the subscriber.")


@click.group()
def dlq() -> None:
    """List, replay and drop dead letters: messages that failed too often.

    `blockqueue retries` does the same with filters, at a rate, and for what will be retried.
    """


@dlq.command("list")
@TOPIC
@SUBSCRIBER
@LIMIT
@source_options
@JSON
def list_(source: Source, topic: str, subscriber: str, limit: int, as_json: bool) -> None:
    """List dead letters with their last error, the newest first."""
    with source.opened() as queue:
        found = pages(partial(queue.dead_page, topic, subscriber), limit)
        records = [_record(queue, topic, subscriber, view) for view in found]
    table(records, _COLUMNS, as_json, "there is no dead letter")


@dlq.command()
@TOPIC
@SUBSCRIBER
@click.argument("ids", nargs=-1)
@_ALL
@acting_options
@JSON
def replay(
    source: Source, topic: str, subscriber: str, ids: tuple[str, ...], every: bool, as_json: bool
) -> None:
    """Make dead letters visible again, as if they were new."""
    _check(ids, every)
    with source.opened() as queue:
        done = queue.replay(topic, subscriber, None if every else list(ids))
    _report("replayed", done, ids, as_json)


@dlq.command()
@TOPIC
@SUBSCRIBER
@click.argument("ids", nargs=-1)
@_ALL
@YES
@acting_options
@JSON
def drop(
    source: Source,
    topic: str,
    subscriber: str,
    ids: tuple[str, ...],
    every: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give dead letters up for good. On the file only."""
    _check(ids, every)
    wanted = {each.lower() for each in ids}
    with source.file("dlq drop") as queue:
        bucket = queue.bucket(topic, subscriber)
        chosen = [entry for entry in bucket.entries((State.DEAD,)) if every or entry.id in wanted]
        confirm(f"Drop {len(chosen)} dead letters of {subscriber!r} for good?", yes)
        done = 0
        with tqdm(total=len(chosen), unit="msg", disable=None, file=sys.stderr) as bar:
            for start in range(0, len(chosen), _BATCH):
                part = chosen[start : start + _BATCH]
                done += bucket.drop(part)
                bar.update(len(part))
    _report("dropped", done, ids, as_json)


def _check(ids: tuple[str, ...], every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("name dead letters by their IDs, or give --all")


def _report(verb: str, done: int, ids: tuple[str, ...], as_json: bool) -> None:
    say({verb: done}, as_json, f"{verb} {done}")
    missing = len(set(ids)) - done
    if missing > 0:
        raise Failed(f"{missing} of them are no dead letters of the subscriber", NOT_FOUND)


def _record(queue: BlockQueue | Client, topic: str, subscriber: str, view: Any) -> dict[str, Any]:
    failures = queue.failure_page(topic, subscriber, view.message_id, 1).items
    return {**view_record(view), "reason": failures[0].error if failures else None}
