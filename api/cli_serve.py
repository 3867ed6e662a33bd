"""``blockqueue serve``: the queue over HTTP."""

from __future__ import annotations

import gc
import os
import sys

import click

from blockqueue.storage import BlockQueueError


@click.command()
@click.option(
    "--db",
    default="blockqueue.db",
    show_default=True,
    envvar="BLOCKQUEUE_DB",
    type=click.Path(),
    help="The database file, made if it is missing.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="BLOCKQUEUE_HOST",
    help="The address to listen on.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    envvar="BLOCKQUEUE_PORT",
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--threads",
    default=16,
    show_default=True,
    envvar="BLOCKQUEUE_THREADS",
    type=click.IntRange(1, 256),
    help="How many requests are handled at once. Long polls that wait need none.",
)
def serve(db: str, host: str, port: int, threads: int) -> None:
    """Serve the queue over HTTP until SIGTERM or Ctrl-C.

    Every option can be set in the environment as BLOCKQUEUE_DB, BLOCKQUEUE_HOST,
    BLOCKQUEUE_PORT and BLOCKQUEUE_THREADS.
    """
    # Imported here: a command that needs no server starts without one.
    from blockqueue.api.queue import BlockQueue

    from .app import create_app
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
    try:
        server = Server(
            create_app(queue),
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
