"""``blockqueue publish``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from tqdm import tqdm

from ._cli_group import USAGE, Failed
from ._cli_options import HEADERS, duration
from ._cli_source import JSON, TOPIC, Source, source_options

if TYPE_CHECKING:
    from blockqueue import BlockQueue, Message
    from blockqueue.client import Client

_CHUNK = 64 * 1024
_LINE_MAX = 1024 * 1024  # a message is not larger


def _at(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}: write 2027-01-31T07:00:00+01:00") from error
    if found.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone: add +01:00, say, or Z")
    return found


@click.command()
@TOPIC
@click.argument("messages", nargs=-1)
@click.option("--file", "files", multiple=True, type=click.Path(), help="One message. Repeatable.")
@click.option(
    "--batch",
    default=100,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="At most so many in one commit.",
)
@click.option("--key", help="Idempotency key; of several messages: KEY:1, KEY:2, …")
@click.option("--delay", type=duration, help="Visible only that long after.")
@click.option("--at", callback=_at, metavar="TIME", help="Visible at that time instead.")
@click.option("--priority", default=0, type=int, help="-1000 to 1000, higher first.")
@HEADERS
@click.option("--correlation-id", help="Handed through to consumers.")
@click.option("--quiet", "-q", is_flag=True, help="Print no ids.")
@source_options
@JSON
def publish(
    source: Source,
    topic: str,
    messages: tuple[str, ...],
    files: tuple[str, ...],
    batch: int,
    key: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Publish MESSAGES to TOPIC, or files, or each line of the standard input.

    An id a line is printed once its message is on the disk. With --key, a publish that was
    broken off can be repeated: what was written before is not written again.
    """
    if messages and files:
        raise click.UsageError("give messages or --file, not both")
    if options["delay"] is not None and options["at"] is not None:
        raise click.UsageError("choose one of --delay and --at")
    options["schedule_at"] = options.pop("at")
    many = len(messages) + len(files) != 1
    with source.opened() as queue, _bar(many, quiet) as bar:
        number = 0
        for part in _parts(messages, files, batch):
            made = [_message(text, number + i, key, many, options) for i, text in enumerate(part)]
            _publish(queue, topic, made, quiet, as_json)
            number += len(part)
            bar.update(len(part))


def _bar(many: bool, quiet: bool) -> tqdm[Any]:
    # Ids on the same terminal would tear the bar to pieces.
    shown = many and (quiet or not sys.stdout.isatty())
    return tqdm(unit="msg", disable=None if shown else True, file=sys.stderr)


def _message(
    text: str, index: int, key: str | None, many: bool, options: dict[str, Any]
) -> Message:
    from blockqueue import Message

    own = f"{key}:{index + 1}" if key is not None and many else key
    return Message(text, idempotency_key=own, **options)


def _publish(
    queue: BlockQueue | Client, topic: str, made: Sequence[Message], quiet: bool, as_json: bool
) -> None:
    for receipt in queue.publish_many(topic, made):
        if as_json:
            said = {"id": receipt.id, "duplicate": bool(receipt.duplicate)}
            click.echo(json.dumps(said))
        elif not quiet:
            click.echo(receipt.id)


def _parts(messages: Sequence[str], files: Sequence[str], batch: int) -> Iterator[Sequence[str]]:
    """Yield the messages in batches."""
    if not messages and not files:
        if sys.stdin.isatty():
            click.echo("each line is a message; Ctrl-D ends", err=True)
        yield from _lines(sys.stdin.buffer, batch)
        return
    listed: Iterable[str] = messages or map(_read, files)
    texts = list(listed)
    for start in range(0, len(texts), batch):
        yield texts[start : start + batch]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return _text(file.read(_LINE_MAX + 1), path)
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}", USAGE) from error


def _lines(stream: BinaryIO, batch: int) -> Iterator[list[str]]:
    """Yield lines as they come: a slow writer's are not held back to fill a batch."""
    rest, number = b"", 0
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_MAX:
            raise Failed(f"line {number + len(whole) + 1} is longer than 1 MiB")
        for start in range(0, len(whole), batch):
            part = whole[start : start + batch]
            yield [_text(line, f"line {number + i + 1}") for i, line in enumerate(part)]
            number += len(part)
    if rest:
        yield [_text(rest, f"line {number + 1}")]


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Failed(f"{where} is not text in UTF-8: byte {error.start + 1}", USAGE) from error
