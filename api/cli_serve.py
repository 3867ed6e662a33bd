"""``blockqueue serve``: the queue over HTTP."""

from __future__ import annotations

import os
import sys
from typing import Literal

import click

from ._cli_logs import logged
from ._cli_options import size

_WORKERS_MAX = 64


def _workers(value: str) -> int:
    """Read a number of processes, or ``auto`` for one a core."""
    if value == "auto":
        return min(os.cpu_count() or 1, _WORKERS_MAX)
    if value.isascii() and value.isdigit() and 1 <= int(value) <= _WORKERS_MAX:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither auto nor a number from 1 to {_WORKERS_MAX}")


@click.command()
@click.option(
    "--db",
    default="blockqueue.db",
    show_default=True,
    envvar="BLOCKQUEUE_DB",
    show_envvar=True,
    type=click.Path(),
    help="The database file, made if it is missing.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="BLOCKQUEUE_HOST",
    show_envvar=True,
    help="The address to listen on.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    envvar="BLOCKQUEUE_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--threads",
    default=16,
    show_default=True,
    envvar="BLOCKQUEUE_THREADS",
    show_envvar=True,
    type=click.IntRange(1, 256),
    help="How many requests a process handles at once. Long polls that wait need none.",
)
@click.option(
    "--max-polls",
    default=None,
    envvar="BLOCKQUEUE_MAX_POLLS",
    show_envvar=True,
    type=click.IntRange(1),
    help="How many long polls may wait in a process; else what the limit of open files allows.",
)
@click.option(
    "--workers",
    default="1",
    show_default=True,
    envvar="BLOCKQUEUE_WORKERS",
    show_envvar=True,
    type=_workers,
    metavar="INTEGER|auto",
    help="How many processes serve; auto: one a core.",
)
@click.option(
    "--min-free",
    default="16MiB",
    show_default=True,
    envvar="BLOCKQUEUE_MIN_FREE",
    show_envvar=True,
    type=size,
    metavar="SIZE",
    help="With less free on the disk (at most a sixteenth) nothing is published; 0: no floor.",
)
@click.option(
    "--auth",
    default="auto",
    show_default=True,
    envvar="BLOCKQUEUE_AUTH",
    show_envvar=True,
    type=click.Choice(["auto", "required"]),
    help="Whether a token is needed: always, or as soon as one was made.",
)
@click.option(
    "--insecure-no-auth",
    default=False,
    is_flag=True,
    envvar="BLOCKQUEUE_INSECURE_NO_AUTH",
    show_envvar=True,
    help="Let everybody in who can reach the address, whatever tokens there are.",
)
@click.option(
    "--admin-token-file",
    default=None,
    envvar="BLOCKQUEUE_ADMIN_TOKEN_FILE",
    show_envvar=True,
    type=click.Path(),
    help="A file with a token of your own that may do everything.",
)
@click.option(
    "--audit-log",
    default=None,
    envvar="BLOCKQUEUE_AUDIT_LOG",
    show_envvar=True,
    type=click.Path(),
    help="A file for the audit log, one JSON object a line; else it is part of the log.",
)
@click.option(
    "--access-log",
    default=False,
    is_flag=True,
    envvar="BLOCKQUEUE_ACCESS_LOG",
    show_envvar=True,
    help="Log every request and its answer.",
)
@logged
def serve(
    db: str,
    host: str,
    port: int,
    threads: int,
    max_polls: int | None,
    workers: int,
    min_free: int,
    auth: Literal["auto", "required"],
    insecure_no_auth: bool,
    admin_token_file: str | None,
    audit_log: str | None,
    access_log: bool,
) -> None:
    """Serve the queue over HTTP until SIGTERM or Ctrl-C.

    With several workers, one that ends is replaced, and SIGHUP replaces all, one by one.

    Every option can be set in the environment, too.
    """
    if insecure_no_auth and auth == "required":
        raise click.UsageError("--insecure-no-auth and --auth required exclude each other")
    # Imported here: a command that needs no server starts without one.
    from ._listening import Access
    from ._service_manager import ServiceManager
    from ._serving import ServingFailed, Site, serve_alone, serve_as_worker, supervise
    from ._worker_link import Link

    def on_serving(address: str) -> None:
        text = f"serves {os.path.abspath(db)} on {address}"
        click.echo(f"blockqueue {text}")
        sys.stdout.flush()
        manager.tell_ready(text)

    access = Access("off" if insecure_no_auth else auth, admin_token_file, audit_log)
    site = Site(db, host, port, threads, max_polls, min_free, access, access_log)
    link = Link.inherited()
    manager = ServiceManager.inherited()
    try:
        if link is not None:
            serve_as_worker(link, site)
        elif workers == 1:
            serve_alone(site, on_serving, manager)
        else:
            supervise(site, workers, on_serving, manager)
    except ServingFailed as error:
        if link is not None:
            sys.exit(1)  # the supervisor says why
        raise click.ClickException(str(error)) from error
