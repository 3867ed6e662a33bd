"""The command line: ``blockqueue`` and ``python -m blockqueue``."""

from __future__ import annotations

import logging
import os
import sys

import click

import blockqueue

from ._cli_group import Lazy, Program

_COMMANDS = {
    "serve": Lazy(".cli_serve", "serve", "Serve the queue over HTTP."),
    "topic": Lazy(".cli_topic", "topic", "Make, list, show, delete and pause topics."),
    "subscriber": Lazy(".cli_subscriber", "subscriber", "Add, list, delete and pause subscribers."),
    "publish": Lazy(".cli_publish", "publish", "Publish messages: words, lines or files."),
    "consume": Lazy(".cli_consume", "consume", "Print messages, or run a command for each."),
    "peek": Lazy(".cli_peek", "peek", "Look at what waits, without taking it."),
    "tail": Lazy(".cli_tail", "tail", "Print what is published as it comes."),
    "status": Lazy(".cli_status", "status", "Show what waits, is in flight and is dead."),
    "top": Lazy(".cli_status", "top", "Show the status again and again."),
    "dlq": Lazy(".cli_dlq", "dlq", "List, replay and drop dead letters."),
    "schedule": Lazy(".cli_schedule", "schedule", "Make and look after schedules."),
    "work": Lazy(".cli_work", "work", "Let a Python function handle messages."),
    "retries": Lazy(".cli_retries", "retries", "List, replay or drop what failed."),
    "token": Lazy(".cli_token", "token", "Make, list and revoke tokens."),
    "doctor": Lazy(".cli_doctor", "doctor", "Look whether a database is whole."),
    "config": Lazy(".cli_config", "config", "Check and show what options are set to."),
    "completion": Lazy(".cli_completion", "completion", "Print the completion for a shell."),
    "bench": Lazy(".cli_bench", "bench", "Measure what a queue does on this disk."),
    "version": Lazy(".cli_version", "version", "Print this program's version and its parts'."),
    "backup": Lazy(".cli_backup", "backup", "Copy a database while it is used."),
    "restore": Lazy(".cli_backup", "restore", "Put a backup in a database's place."),
}
_SERVERS = frozenset({"serve", "work"})

_EPILOG = """
\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict,
5 unavailable (try later), 130 interrupted. doctor has its own.
"""


@click.group(
    cls=Program,
    lazy=_COMMANDS,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(blockqueue.__version__, prog_name="blockqueue")
@click.option(
    "--config",
    envvar="BLOCKQUEUE_CONFIG",
    type=click.Path(),
    help="A TOML file with options; else blockqueue.toml, if it is there.",
)
@click.pass_context
def main(ctx: click.Context, config: str | None) -> None:
    """A durable publish/subscribe message queue in one SQLite file.

    Every option can be set in the environment (BLOCKQUEUE_DB, BLOCKQUEUE_URL,
    BLOCKQUEUE_PUBLISH_PRIORITY) and in a TOML file. What is typed is stronger than the
    environment, and that is stronger than the file.
    """
    if ctx.invoked_subcommand not in _SERVERS:  # which have options for that
        logging.basicConfig(
            stream=sys.stderr,
            level=logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
        )
    if (config is not None or os.path.isfile("blockqueue.toml")) and ctx.invoked_subcommand:
        _configure(ctx, config, ctx.invoked_subcommand)


def _configure(ctx: click.Context, given: str | None, name: str) -> None:
    """Take options from the file; ``config`` itself says what is wrong with it."""
    from ._cli_config import Config, find

    path = find(given)
    if path is not None and name not in {"config", "completion", "version"}:
        assert isinstance(ctx.command, Program)
        ctx.default_map = {name: Config(ctx.command, path).defaults(name)}
