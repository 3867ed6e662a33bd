"""``blockqueue schedule``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from blockqueue import Schedule, ScheduleSpec

from ._cli_options import HEADERS, LIMIT, YES, confirm
from ._cli_rows import say, table
from ._cli_source import JSON, TOPIC, Source, acting_options, not_found, source_options
from ._cli_views import pages, run_record, schedule_record

if TYPE_CHECKING:
    from blockqueue.client import Schedule as Remote

    from ._cli_source import Queue

_COLUMNS = ("name", "cron", "timezone", "paused", "next_run_at", "message")
_RUNS = ("scheduled_for", "status", "message_id", "finished_at", "error")


@click.group()
def schedule() -> None:
    """Make, list, change, pause and run schedules: messages that are published by cron.

    A schedule is named by its NAME or its id.
    """


@schedule.command()
@TOPIC
@click.argument("name")
@click.argument("cron")
@click.argument("message")
@click.option("--timezone", default="UTC", show_default=True, help="Whose clocks CRON means.")
@click.option("--priority", default=0, type=int, help="-1000 to 1000, higher first.")
@click.option("--correlation-id", help="Handed through to consumers.")
@HEADERS
@acting_options
@JSON
def create(source: Source, topic: str, as_json: bool, **spec: Any) -> None:
    """Publish MESSAGE to TOPIC whenever CRON says, like '0 7 * * MON-FRI'."""
    with source.opened() as queue:
        made = schedule_record(queue.schedules(topic).create(ScheduleSpec(**spec)))
    say(made, as_json, f"made schedule {made['name']!r}: next at {made['next_run_at']}")


@schedule.command("list")
@TOPIC
@source_options
@JSON
def list_(source: Source, topic: str, as_json: bool) -> None:
    """List the schedules of TOPIC."""
    with source.opened() as queue:
        found = [schedule_record(each) for each in pages(queue.schedules(topic).page, None)]
    table(found, _COLUMNS, as_json, "there is no schedule")


@schedule.command()
@TOPIC
@click.argument("name")
@source_options
@JSON
def show(source: Source, topic: str, name: str, as_json: bool) -> None:
    """Show a schedule with its latest runs."""
    with source.opened() as queue:
        found = _find(queue, topic, name)
        runs = _runs(queue, topic, found.uid, 5)
    record = schedule_record(found)
    if as_json:
        say({**record, "runs": runs}, True, "")
        return
    table([record], _COLUMNS, False, "")
    click.echo()
    table(runs, _RUNS, False, "it never ran")


@schedule.command()
@TOPIC
@click.argument("name")
@click.option("--cron")
@click.option("--message")
@click.option("--timezone")
@click.option("--priority", type=int)
@click.option("--rename", help="The new name.")
@acting_options
@JSON
def update(
    source: Source, topic: str, name: str, rename: str | None, as_json: bool, **given: Any
) -> None:
    """Change what is given of a schedule; the rest stays. The next run is reckoned anew."""
    given["name"] = rename
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("say what to change: --cron, --message, …")
    with source.opened() as queue:
        found = _find(queue, topic, name)
        before: dict[str, Any] = schedule_record(found)
        kept: dict[str, Any] = {key: before[key] for key in ScheduleSpec.__struct_fields__}
        if isinstance(found, Schedule):
            kept["message"] = found.body.payload  # bytes stay bytes
        spec = ScheduleSpec(**(kept | changes))
        after = schedule_record(queue.schedules(topic).update(found.uid, spec, found.version))
    say(after, as_json, f"changed schedule {after['name']!r}: next at {after['next_run_at']}")


@schedule.command()
@TOPIC
@click.argument("name")
@acting_options
@JSON
def pause(source: Source, topic: str, name: str, as_json: bool) -> None:
    """Let a schedule not fire."""
    with source.opened() as queue:
        queue.schedules(topic).pause(_find(queue, topic, name).uid)
    say({"name": name, "paused": True}, as_json, f"paused schedule {name!r}")


@schedule.command()
@TOPIC
@click.argument("name")
@acting_options
@JSON
def resume(source: Source, topic: str, name: str, as_json: bool) -> None:
    """End a pause. If the next run is past by now, it fires once."""
    with source.opened() as queue:
        queue.schedules(topic).resume(_find(queue, topic, name).uid)
    say({"name": name, "paused": False}, as_json, f"resumed schedule {name!r}")


@schedule.command("run-now")
@TOPIC
@click.argument("name")
@click.option("--force", is_flag=True, help="Even while the previous run is unfinished.")
@acting_options
@JSON
def run_now(source: Source, topic: str, name: str, force: bool, as_json: bool) -> None:
    """Publish a schedule's message now; the next run stays as it is."""
    with source.opened() as queue:
        run = run_record(queue.schedules(topic).run_now(_find(queue, topic, name).uid, force))
    say(run, as_json, f"{run['status']} {run['message_id'] or run['error'] or ''}".rstrip())


@schedule.command()
@TOPIC
@click.argument("name")
@LIMIT
@source_options
@JSON
def runs(source: Source, topic: str, name: str, limit: int, as_json: bool) -> None:
    """List the runs of a schedule, the latest first."""
    with source.opened() as queue:
        found = _runs(queue, topic, _find(queue, topic, name).uid, limit)
    table(found, _RUNS, as_json, "it never ran")


@schedule.command()
@TOPIC
@click.argument("name")
@YES
@acting_options
@JSON
def delete(source: Source, topic: str, name: str, yes: bool, as_json: bool) -> None:
    """Delete a schedule with its runs. What it has published stays."""
    with source.opened() as queue:
        uid = _find(queue, topic, name).uid
        confirm(f"Delete schedule {name!r}?", yes)
        queue.schedules(topic).delete(uid)
    say({"name": name, "deleted": True}, as_json, f"deleted schedule {name!r}")


def _find(queue: Queue, topic: str, name: str) -> Schedule | Remote:
    """Return a schedule by its name or id."""
    names: list[str] = []
    for each in pages(queue.schedules(topic).page, None):
        if name in (each.name, each.uid):
            found: Schedule | Remote = each
            return found
        names.append(each.name)
    raise not_found("schedule", name, names)


def _runs(queue: Queue, topic: str, uid: str, limit: int) -> list[dict[str, Any]]:
    page = partial(queue.schedules(topic).run_page, uid)
    return [run_record(run) for run in pages(page, limit)]
