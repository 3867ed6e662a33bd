"""``blockqueue serve``: the queue over HTTP."""

from __future__ import annotations

import gc
import os
import sys
from typing import Literal

import click

from blockqueue.storage import BlockQueueError


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
    help="How many requests are handled at once. Long polls that wait need none.",
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
    help="A file for the audit log, one JSON object a line.",
)
def serve(
    db: str,
    host: str,
    port: int,
    threads: int,
    auth: Literal["auto", "required"],
    insecure_no_auth: bool,
    admin_token_file: str | None,
    audit_log: str | None,
) -> None:
    """Serve the queue over HTTP until SIGTERM or Ctrl-C.

    Every option can be set in the environment, too.
    """
    if insecure_no_auth and auth == "required":
        raise click.UsageError("--insecure-no-auth and --auth required exclude each other")
    # Imported here: a command that needs no server starts without one.
    from blockqueue.api.queue import BlockQueue

    from ._listening import Access
    from .server import Server, bound_address, stop_on_signals

    fatal: list[BlockQueueError] = []
    servers: list[Server] = []

    def on_fatal(error: BlockQueueError) -> None:
        fatal.append(error)
        for running in servers:
            running.stop()

    try:
        queue = BlockQueue(db, on_fatal=on_fatal)
    except BlockQueueError as error:
        raise click.ClickException(str(error)) from error
    access = Access("off" if insecure_no_auth else auth, admin_token_file, audit_log)
    try:
        app = access.app(queue, host)
    except (BlockQueueError, OSError) as error:
        queue.close()
        raise click.ClickException(str(error)) from error
    try:
        server = Server(
            app,
            host=host,
            port=port,
            threads=threads,
            on_stop=queue.drain,
        )
    except (OSError, ValueError) as error:
        queue.close()
        raise click.ClickException(f"cannot listen on {host}:{port}: {error}") from error
    servers.append(server)
    if fatal:  # it came before there was a server to stop
        server.stop()
    stop_on_signals(server)
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    click.echo(f"blockqueue serves {os.path.abspath(db)} on {bound_address(host, server.port)}")
    sys.stdout.flush()
    answered = server.run()
    closed = queue.close()
    if fatal:
        raise click.ClickException(f"stopped: {fatal[0]}")
    if not (answered and closed):
        raise click.ClickException("stopped before everything in flight had ended")
