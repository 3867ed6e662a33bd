"""``blockqueue doctor``: is this database healthy?"""

from __future__ import annotations

import json

import click

from blockqueue import storage

from ._cli_lock import lock_watched
from ._cli_source import JSON, file_option

_CODES = {storage.OK: 0, storage.WARNING: 1, storage.ERROR: 2}


@click.command()
@file_option
@click.option("--quick", is_flag=True, help="Leave out what reads the whole file.")
@JSON
@click.pass_context
def doctor(ctx: click.Context, db: str, quick: bool, as_json: bool) -> None:
    """Look whether a database is whole, and whether it has room and time.

    Never writes, and may be used while a server runs. The exit code is 0 if all is well, 1
    for a warning, 2 for an error.
    """
    worst = 0
    with lock_watched(db):
        for found in storage.examine(db, quick=quick):
            worst = max(worst, _CODES[found.level])
            if as_json:
                click.echo(json.dumps(found._asdict()))
            else:
                click.echo(f"{found.level:8} {found.check:11} {found.detail}")
    ctx.exit(worst)
