"""The page of all limits says what the code does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from blockqueue import BlockQueue, Subscriber
from blockqueue.actors import BYTES_MAX, MESSAGES_MAX, _restarts, _writer
from blockqueue.api import (
    _keys,
    _listener,
    _metrics_port,
    _nesting,
    _supervisor,
    cli_serve,
    server,
)
from blockqueue.api._patience import Patience
from blockqueue.api.cli_serve import serve
from blockqueue.storage import (
    DEFAULT_RETENTION_MS,
    MIN_FREE_BYTES,
    OPEN_MS,
    OPEN_MS_MAX,
    _connections,
    _cron,
    _idempotency,
    _schedule_runs,
    _space,
    _store,
    _tokens,
    limits,
)
from blockqueue.worker import _settings

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "limits.md").read_text()
_ROW = re.compile(r"^\| (?!what \|)(?P<what>[^|]+) \| (?P<limit>[^|]+) \| [^|]+ \| [^|]+ \|$", re.M)


def size(count: float) -> str:
    for unit, name in ((1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count:g} bytes"


def time(ms: float) -> str:
    day = 86_400_000
    for unit, one, many in ((365 * day, "year", "years"), (day, "day", "days")):
        if ms >= unit:
            count = ms / unit
            return f"{count:,g} {one if count == 1 else many}"
    if ms >= 3_600_000:
        return f"{ms / 3_600_000:g} h"
    return f"{ms / 1000:g} s" if ms >= 500 else f"{ms:g} ms"


def seconds(value: float) -> str:
    return time(value * 1000)


def count(value: int) -> str:
    return f"{value:,}"


def default(name: str) -> Any:
    """Return what a queue does unless it is told otherwise."""
    return inspect.signature(BlockQueue).parameters[name].default


def option(name: str) -> Any:
    """Return an option of the server."""
    return next(each for each in serve.params if each.name == name)


def polls_part() -> str:
    return f"{server._polls_max(None, 1000) / 1000:g}".replace("0.75", "3/4")


PATIENCE = Patience()
LIMITS: Mapping[str, str] = {
    "a message": size(limits.MESSAGE_BYTES_MAX),
    "the headers of a message, as JSON": size(limits.HEADERS_BYTES_MAX),
    "a correlation id": size(limits.CORRELATION_BYTES_MAX),
    "an idempotency key": size(limits.KEY_BYTES_MAX),
    "the name of a topic, a subscriber, a schedule or a token": size(limits.NAME_BYTES_MAX),
    "a priority, up and down": count(limits.PRIORITY_MAX),
    "messages in one publish, claim or settlement": count(limits.BATCH_MAX),
    "items in one page of a list": count(limits.BATCH_MAX),
    "a delay": time(limits.DELAY_MS_MAX),
    "the text of an error, or of why it was cancelled": size(limits.REASON_BYTES_MAX),
    "a cron expression": count(_cron._EXPRESSION_CHARS_MAX) + " characters",
    "levels of JSON in a request": count(_nesting.NESTING_MAX),
    "a request's line and headers": size(server.HEAD_BYTES_MAX),
    "a request's body": size(server.BODY_BYTES_MAX),
    "messages that wait to be written, of a process": count(MESSAGES_MAX),
    "their bytes": size(BYTES_MAX),
    "how long a write may wait before it begins": seconds(default("timeout")),
    "how long a claim may wait for a message": time(limits.WAIT_MS_MAX),
    "what is written in one commit, in time": seconds(_writer._GROUP_S_MAX),
    "a caller's transaction, open": time(OPEN_MS),
    "such a `timeout`": time(OPEN_MS_MAX),
    "a lease": time(limits.LEASE_MS_MAX),
    "failures of a delivery before it is dead": count(limits.ATTEMPTS_MAX),
    "errors that are kept of a delivery": count(limits.FAILURES_KEPT),
    "a message that all are done with": time(DEFAULT_RETENTION_MS),
    "an idempotency key, at least": time(_idempotency._KEPT_MS),
    "runs of a schedule": time(_schedule_runs._KEPT_MS),
    "tokens": count(_tokens.TOKENS_MAX),
    "scopes of a token": count(_tokens._SCOPES_MAX),
    "room that is left free on the disk": size(MIN_FREE_BYTES),
    "the same on a small disk, a part of it": f"1/{_space._SHARE}",
    "the ballast beside the file": size(_space.BALLAST_BYTES),
    "pages of 4 KiB in the log, before they are moved into the file": count(_store._WAL_PAGES_MAX),
    "the log that a long reader holds, with a warning": size(_space.LOG_WARN_BYTES),
    "the log that a long reader holds, at most": size(_space.LOG_BYTES_MAX),
    "messages in a block": count(limits.BLOCK_MESSAGES_MAX),
    "bytes in a block, unless one message has more": size(limits.BLOCK_BYTES_MAX),
    "blocks in memory, of a process": size(_store._CACHE_BYTES),
    "readers at a time, of a process": count(_connections.READERS_MAX),
    "requests that are worked on": count(option("threads").default),
    "connections": count(server._CONNECTIONS_MAX),
    "descriptors kept for all else": count(server._DESCRIPTORS_KEPT),
    "clients in the system's backlog": count(_listener.BACKLOG),
    "long polls that wait, a part of the connections": polls_part(),
    "processes": count(cli_serve._WORKERS_MAX),
    "from a connection to the first byte of a request": seconds(PATIENCE.idle_s),
    "from there to the end of the headers": seconds(PATIENCE.head_s),
    "for a body, or for taking an answer": seconds(PATIENCE.body_s),
    "and a second more for each": size(PATIENCE.bytes_per_s),
    "to end what is in flight, at a stop": seconds(server._DRAIN_S),
    "restarts of a part that fails": count(_restarts.RESTARTS_MAX),
    "how long a process may hold the lock without a sign of life": seconds(_supervisor._LOCK_S_MAX),
    "how long a process believes what it knows of a token": seconds(_keys._BELIEVED_S),
    "what a token may do, as a process remembers it": count(_keys._REMEMBERED_MAX),
    "jobs that a `Worker` does at a time": count(_settings.CONCURRENCY_MAX),
    "how long a scraper at `--metrics-port` may be silent": seconds(_metrics_port._SILENT_S),
}


def check(page: str) -> None:
    assert {row["what"]: row["limit"] for row in _ROW.finditer(page)} == LIMITS


def test_the_page_says_what_the_code_does() -> None:
    """Every row is compared, and no line of a table is anything else."""
    check(PAGE)
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line == "| what | limit | there | change it |"]
    assert len(lines) == len(LIMITS) + len(heads)


@pytest.mark.parametrize("change", [("| 1 MiB |", "| 2 MiB |"), ("| a lease ", "| a loan ")])
def test_control_another_number_or_row_is_noticed(change: tuple[str, str]) -> None:
    with pytest.raises(AssertionError):
        check(PAGE.replace(*change))


def test_every_limit_of_what_is_sent_and_kept_is_on_the_page() -> None:
    """A new constant of the storage needs a row; but for one that follows from others."""
    missing = [
        name
        for name, value in vars(limits).items()
        if name.isupper()
        and isinstance(value, int)
        and not {size(value), time(value), count(value)} & set(LIMITS.values())
    ]
    assert missing == ["FRAME_BYTES_MAX"]


def test_what_the_page_says_of_defaults_is_so() -> None:
    assert f"`max_attempts` ({Subscriber('x').max_attempts} by default)" in PAGE
    assert f"`--threads`, up to {option('threads').type.max}" in PAGE
    assert f"within {_restarts.WITHIN_S:g} s" in PAGE
