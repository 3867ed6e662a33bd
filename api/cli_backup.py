"""``blockqueue backup`` and ``blockqueue restore``."""

from __future__ import annotations

import sys

import click
from tqdm import tqdm

from blockqueue import storage
from blockqueue.storage import AlreadyExists, BlockQueueError

from ._cli_audit import audited
from ._cli_group import Failed, failed
from ._cli_rows import say
from ._cli_source import AUDIT_LOG, JSON, file_option

_MIB = 1024 * 1024


def _refused(error: BlockQueueError) -> Failed:
    found = failed(error)
    if isinstance(error, AlreadyExists):
        return Failed(f"{error}; --force overwrites it", found.exit_code)
    return found


@click.command()
@click.argument("file", type=click.Path())
@file_option
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option(
    "--rate",
    default=storage.RATE_BYTES_S // _MIB,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="At most so many MiB a second.",
)
@JSON
def backup(file: str, db: str, force: bool, rate: float, as_json: bool) -> None:
    """Copy the database to FILE while it is used, and check the copy.

    Nobody who publishes or consumes is held up. FILE appears when the copy is whole.
    """
    try:
        with tqdm(unit="B", unit_scale=True, disable=None, file=sys.stderr) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            nbytes = storage.backup(
                db, file, overwrite=force, rate_bytes_s=rate * _MIB, on_progress=show
            )
    except BlockQueueError as error:
        raise _refused(error) from error
    said = f"{file}: {nbytes / _MIB:.1f} MiB, checked"
    say({"file": file, "bytes": nbytes}, as_json, said)


@click.command()
@click.argument("file", type=click.Path())
@file_option
@click.option("--force", is_flag=True, help="Replace a database that is there; it is kept.")
@JSON
@AUDIT_LOG
def restore(file: str, db: str, force: bool, as_json: bool, audit_log: str | None) -> None:
    """Put the backup FILE in the place of the database. Stop the server before.

    What was published after the backup is gone, what was acknowledged after it comes again,
    every receipt that was given before is void, and tokens are what they were: revoke again
    what was revoked since.
    """
    with audited(audit_log, "restore", db=db, file=file):
        try:
            kept = storage.restore(file, db, overwrite=force)
        except BlockQueueError as error:
            raise _refused(error) from error
    if kept is not None and not as_json:
        click.echo(f"the database that was there is kept: {kept}")
    said = {"db": db, "file": file, "kept": None if kept is None else str(kept)}
    say(said, as_json, f"{db} is what {file} was")
