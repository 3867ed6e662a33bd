"""``blockqueue token``: who may do what over HTTP."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import click

from blockqueue.storage import BlockQueueError, Token, TokenLimits

from ._cli_audit import audited
from ._cli_source import AUDIT_LOG, JSON, file_option, opened_file
from ._durations import milliseconds

_DAYS = re.compile(r"(\d{1,6})d", re.ASCII)
_COUNT_MAX = 2**31 - 1
_ROW = "{:>4}  {:20}  {:8}  {:20}  {:20}  {}"
_SCOPE = (
    "What it may do: publish, consume, manage or observe, a colon, and a topic, a prefix like "
    "orders.* or * for all. Repeatable."
)


def _lifetime(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a duration in seconds. Other durations have no days, as in Go."""
    if value is None:
        return None
    days = _DAYS.fullmatch(value)
    try:
        return int(days[1]) * 86400.0 if days else milliseconds("the duration", value) / 1000
    except BlockQueueError as error:
        raise click.BadParameter(f"{error}, or 30d") from error


@click.group()
def token() -> None:
    """Make, list and revoke the tokens with which programs come over HTTP.

    As soon as there is one, nobody gets in without.
    """


@token.command()
@click.argument("name")
@file_option
@JSON
@click.option("--scope", "scopes", multiple=True, required=True, help=_SCOPE)
@click.option("--expires", callback=_lifetime, metavar="DURATION", help="Like 12h or 30d.")
@click.option("--requests-per-second", type=float, help="At most so many requests.")
@click.option("--bytes-per-second", type=float, help="At most so much in requests' bodies.")
@click.option(
    "--polls", type=click.IntRange(1, _COUNT_MAX), help="At most so many long polls that wait."
)
@click.option("--in-flight", type=click.IntRange(1, _COUNT_MAX), help="At most so many at a time.")
@AUDIT_LOG
def create(
    name: str,
    db: str,
    as_json: bool,
    scopes: tuple[str, ...],
    expires: float | None,
    requests_per_second: float | None,
    bytes_per_second: float | None,
    polls: int | None,
    in_flight: int | None,
    audit_log: str | None,
) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept.

    Limits hold in each server process. Without any, nothing is limited.
    """
    limits = TokenLimits(requests_per_second, bytes_per_second, polls, in_flight)
    with opened_file(db, make=True) as queue, audited(audit_log, "token create", token=name):
        made = queue.tokens.create(name, scopes, expires=expires, limits=limits)
    if as_json:
        click.echo(json.dumps({"id": made.id, "name": name, "token": made.secret}))
        return
    click.echo("Keep it, it is not shown again:", err=True)
    click.echo(made.secret)


@token.command("list")
@file_option
@JSON
def list_(db: str, as_json: bool) -> None:
    """List all tokens that were ever made, without their secrets."""
    with opened_file(db) as queue:
        now_ms = queue.system.clock.now_ms()
        found = queue.tokens.list()
    if not as_json:
        click.echo(_ROW.format("ID", "NAME", "STATE", "EXPIRES", "LAST USED", "SCOPES"))
    for each in found:
        click.echo(_record(each, now_ms) if as_json else _row(each, now_ms))


@token.command()
@click.argument("name")
@file_option
@JSON
@AUDIT_LOG
def revoke(name: str, db: str, as_json: bool, audit_log: str | None) -> None:
    """Make a token worthless. Every running server refuses it within a second."""
    with opened_file(db) as queue, audited(audit_log, "token revoke", token=name):
        number = queue.tokens.revoke(name)
    if as_json:
        click.echo(json.dumps({"id": number, "name": name, "state": "revoked"}))
    else:
        click.echo(f"revoked {name!r}")


def _row(found: Token, now_ms: int) -> str:
    return _ROW.format(
        found.id,
        found.name,
        _state(found, now_ms),
        _time(found.expires_ms) or "never",
        _time(found.used_ms) or "never",
        " ".join(map(str, found.scopes)),
    )


def _record(found: Token, now_ms: int) -> str:
    limits = {name: getattr(found.limits, name) for name in found.limits.__struct_fields__}
    return json.dumps(
        {
            "id": found.id,
            "name": found.name,
            "state": _state(found, now_ms),
            "scopes": list(map(str, found.scopes)),
            "limits": {name: value for name, value in limits.items() if value is not None},
            "created_at": _time(found.created_ms),
            "expires_at": _time(found.expires_ms),
            "revoked_at": _time(found.revoked_ms),
            "last_used_at": _time(found.used_ms),
        }
    )


def _state(found: Token, now_ms: int) -> str:
    if found.revoked_ms is not None:
        return "revoked"
    return "active" if found.is_live(now_ms) else "expired"


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
