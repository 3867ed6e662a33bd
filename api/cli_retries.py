"""``blockqueue retries``: look at what failed, and replay or drop it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import click
import msgspec
from tqdm import tqdm

from blockqueue import BlockQueue, storage
from blockqueue.storage import BlockQueueError, BucketEntry, MessageRef, State

from ._cli_audit import audited
from ._cli_group import NOT_FOUND, Failed, failed
from ._cli_source import AUDIT_LOG, JSON, SUBSCRIBER, TOPIC, file_option, not_found, opened_file
from ._durations import milliseconds
from ._retries_view import HEADER, record, row, shortened

_STATES = {
    "waiting": (State.WAITING,),
    "dead": (State.DEAD,),
    "all": (State.WAITING, State.DEAD),
}
_VERBS = {"replay": ("replay", "replayed"), "drop": ("drop", "dropped")}
# Small, so that consumers and publishers get their turn between two batches.
_BATCH = 200
_OLDER = "Published longer ago than that: 90s, 1h30m."
_NEWER = "Published since that."


def _age(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return an option's duration in milliseconds."""
    if value is None:
        return None
    try:
        age_ms = milliseconds("the age", value)
    except BlockQueueError as error:
        raise click.BadParameter(str(error)) from error
    if age_ms < 0:
        raise click.BadParameter(f"the age {value!r} is negative")
    return age_ms


def _ids(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> list[tuple[str, MessageRef]]:
    """Return the ids with what they say."""
    found = []
    for text in values:
        ref = storage.parse_id(text)
        if ref is None:
            raise click.BadParameter(f"{text!r} is not the id of a message or a delivery")
        found.append((text, ref))
    return found


class Pace:
    """Lets batches begin so that no more than ``rate`` messages a second are touched."""

    def __init__(
        self,
        rate: float | None,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.batch = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))
        self._rate = rate
        self._now = now
        self._wait = wait or threading.Event().wait
        self._due = now()

    def take(self, count: int) -> None:
        """Wait for the turn of ``count`` messages. Time that was lost is not caught up."""
        if self._rate is None:
            return
        while (left := self._due - self._now()) > 0:
            self._wait(left)
        self._due = max(self._due, self._now()) + count / self._rate


class _Choice(msgspec.Struct):
    """Which messages are meant: all conditions that are given must hold."""

    older_ms: int | None
    newer_ms: int | None
    error: str | None
    #: By (priority, seq): the tag, and the id as it was given. Empty: any message.
    wanted: dict[tuple[int, int], tuple[int, str]]
    limit: int | None

    def pick(self, entries: Iterable[BucketEntry], now_ms: int) -> Iterator[BucketEntry]:
        """Yield the entries that are meant. A chosen id leaves ``wanted``."""
        return islice(self._all(entries, now_ms), self.limit)

    def _all(self, entries: Iterable[BucketEntry], now_ms: int) -> Iterator[BucketEntry]:
        by_id = bool(self.wanted)
        for entry in entries:
            key = entry.handle.priority, entry.handle.seq
            if by_id and not self._is_wanted(entry, key):
                continue
            if not self._holds(entry, now_ms):
                continue
            yield entry
            if by_id:
                del self.wanted[key]
                if not self.wanted:
                    return

    def _is_wanted(self, entry: BucketEntry, key: tuple[int, int]) -> bool:
        # A damaged message has lost its tag: its place must do.
        wanted = self.wanted.get(key)
        return wanted is not None and (entry.body is None or wanted[0] == entry.handle.tag)

    def _holds(self, entry: BucketEntry, now_ms: int) -> bool:
        if self.error is not None and self.error.casefold() not in (entry.reason or "").casefold():
            return False
        if self.older_ms is None and self.newer_ms is None:
            return True
        if entry.created_ms is None:
            return False  # damaged: nobody knows how old it is
        age_ms = now_ms - entry.created_ms
        older = self.older_ms is None or age_ms > self.older_ms
        return older and (self.newer_ms is None or age_ms < self.newer_ms)


def _wanted_ids(
    queue: BlockQueue, topic: str, subscriber: str, ids: Sequence[tuple[str, MessageRef]]
) -> dict[tuple[int, int], tuple[int, str]]:
    """Check the names and whose the ids are; return the ids by their place."""
    with queue.system.reading() as snapshot:
        topics = {each.name: each for each in storage.topics(snapshot)}
        if topic not in topics:
            raise not_found("topic", topic, list(topics))
        found = topics[topic]
        names = {each.name: each for each in storage.subscribers(snapshot, found.id)}
        if subscriber not in names:
            raise not_found("subscriber", subscriber, list(names))
        owner = names[subscriber]
    wanted = {}
    for text, ref in ids:
        if ref.owner != (owner.id if ref.is_delivery else found.id):
            kind = f"subscriber {subscriber!r}" if ref.is_delivery else f"topic {topic!r}"
            raise click.ClickException(f"{text} does not belong to {kind}")
        wanted[ref.priority, ref.seq] = ref.tag, text
    return wanted


class _Work(msgspec.Struct):
    """What is to be done with the chosen messages, and how much of it has been."""

    queue: BlockQueue
    topic: str
    subscriber: str
    action: str
    as_json: bool
    dry_run: bool
    entries: list[BucketEntry] = []
    done: int = 0
    tried: int = 0

    def collect(self, entries: Iterable[BucketEntry]) -> None:
        """Take the messages, each once, the oldest first, with just the start of each.

        All of them before the first is touched: a message that is replayed moves within
        the bucket, and would be met again.
        """
        found = {(entry.handle.priority, entry.handle.seq): shortened(entry) for entry in entries}
        self.entries = list(reversed(found.values()))

    def run(self, pace: Pace) -> None:
        bucket = self.queue.bucket(self.topic, self.subscriber)
        act = bucket.replay if self.action == "replay" else bucket.drop
        with tqdm(total=len(self.entries), unit="msg", disable=None, file=sys.stderr) as bar:
            for start in range(0, len(self.entries), pace.batch):
                batch = self.entries[start : start + pace.batch]
                pace.take(len(batch))
                self.done += act(batch)
                self.tried += len(batch)
                bar.update(len(batch))

    def confirm(self) -> None:
        messages = _count(len(self.entries))
        click.confirm(f"Drop {messages} of {self.subscriber!r} for good?", abort=True, err=True)

    def report(self) -> None:
        """Say what was done, or with ``dry_run`` what would be."""
        skipped = self.tried - self.done
        if self.as_json:
            said: dict[str, object] = {name: getattr(self, name) for name in _SUMMARY}
            click.echo(json.dumps({**said, "chosen": len(self.entries), "skipped": skipped}))
            return
        infinitive, past = _VERBS[self.action]
        if self.dry_run:
            dead = sum(entry.state == State.DEAD for entry in self.entries)
            waiting = len(self.entries) - dead
            click.echo(
                f"would {infinitive} {_count(len(self.entries))}: {dead} dead, {waiting} waiting"
            )
            return
        click.echo(f"{past} {self.done} of {_count(len(self.entries))}")
        if skipped:
            click.echo(f"{skipped} had left the bucket meanwhile and were let alone", err=True)


_SUMMARY = ("topic", "subscriber", "action", "dry_run", "done")


def _count(number: int) -> str:
    return f"{number} message" if number == 1 else f"{number} messages"


def _list(entries: Iterable[BucketEntry], now_ms: int, as_json: bool) -> None:
    header = not as_json
    for entry in entries:
        if header:
            click.echo(HEADER)
            header = False
        click.echo(record(entry, now_ms) if as_json else row(entry, now_ms))
    if header:
        click.echo("nothing matches", err=True)


def _do(work: _Work, entries: Iterable[BucketEntry], rate: float | None, yes: bool) -> None:
    """Replay or drop what was chosen, after asking; say how far it came in any case."""
    work.collect(entries)
    if work.dry_run:
        if not work.as_json and work.entries:
            _list(reversed(work.entries), work.queue.system.clock.now_ms(), False)
        work.report()
        return
    if work.entries and work.action == "drop" and not yes:
        work.confirm()
    try:
        work.run(Pace(rate))
    finally:
        work.report()


def _check_options(action: str | None, both: bool, dry_run: bool, rate: float | None) -> None:
    if both:
        raise click.UsageError("choose one of --replay and --drop")
    if action is None and (dry_run or rate is not None):
        raise click.UsageError("--dry-run and --rate go with --replay or --drop")


@click.command()
@TOPIC
@SUBSCRIBER
@file_option
@click.option("--state", type=click.Choice(list(_STATES)), default="all", show_default=True)
@click.option("--older-than", "older_ms", callback=_age, metavar="DURATION", help=_OLDER)
@click.option("--newer-than", "newer_ms", callback=_age, metavar="DURATION", help=_NEWER)
@click.option("--error", help="The reason has this in it, in any case.")
@click.option("--id", "ids", callback=_ids, multiple=True, help="This one. Repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest.")
@click.option("--replay", is_flag=True, help="Make the chosen ones visible now.")
@click.option("--drop", is_flag=True, help="Give the chosen ones up for good.")
@click.option("--yes", is_flag=True, help="Do not ask before dropping.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="At most so many a second.")
@JSON
@AUDIT_LOG
def retries(
    topic: str,
    subscriber: str,
    db: str,
    state: str,
    older_ms: int | None,
    newer_ms: int | None,
    error: str | None,
    ids: list[tuple[str, MessageRef]],
    limit: int | None,
    replay: bool,
    drop: bool,
    yes: bool,
    dry_run: bool,
    rate: float | None,
    as_json: bool,
    audit_log: str | None,
) -> None:
    """List the retries and dead letters of SUBSCRIBER, the newest first.

    ATTEMPTS is how often a message was handed out, and how often it failed. With --replay
    or --drop, act on the chosen ones instead, the oldest first. Safe while a server runs
    on the same database: what a consumer takes meanwhile is left alone. Works on the file only;
    `blockqueue dlq` lists and replays dead letters through a server, too.
    """
    action = "replay" if replay else "drop" if drop else None
    _check_options(action, replay and drop, dry_run, rate)
    try:
        with opened_file(db) as queue:
            wanted = _wanted_ids(queue, topic, subscriber, ids)
            choice = _Choice(older_ms, newer_ms, error, wanted, limit)
            now_ms = queue.system.clock.now_ms()
            chosen = choice.pick(queue.bucket(topic, subscriber).entries(_STATES[state]), now_ms)
            if action is None:
                _list(chosen, now_ms, as_json)
            else:
                work = _Work(queue, topic, subscriber, action, as_json, dry_run)
                what = f"retries {action}" + " --dry-run" * dry_run
                with audited(audit_log, what, topic=topic, subscriber=subscriber):
                    _do(work, chosen, rate, yes)
            if choice.wanted and limit is None:
                missing = ", ".join(text for _, text in choice.wanted.values())
                raise Failed(f"not among them: {missing}", NOT_FOUND)
    except BlockQueueError as failure:
        raise failed(failure) from failure
