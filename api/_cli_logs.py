"""The options of a command that writes a log, and its log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ._cli_group import INTERRUPTED, failure_of

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("blockqueue")

_FORMAT = click.option(
    "--log-format",
    default="text",
    show_default=True,
    envvar="BLOCKQUEUE_LOG_FORMAT",
    show_envvar=True,
    type=click.Choice(["text", "json"]),
    help="How the log on stderr is written: for people, or a JSON object a line.",
)
_LEVEL = click.option(
    "--log-level",
    default="info",
    show_default=True,
    envvar="BLOCKQUEUE_LOG_LEVEL",
    show_envvar=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is less than this is not logged.",
)


def logged(command: F) -> F:
    """Add the options of the log; the command is run once it is set up.

    In JSON even what the command fails with is a record of the log.
    """

    @_FORMAT
    @_LEVEL
    @functools.wraps(command)
    def run(*args: Any, log_format: str, log_level: str, **options: Any) -> None:
        # Imported here: a command that writes no log starts without one.
        from ._logs import configure

        configure(log_format, log_level)
        if log_format == "json":
            _run(functools.partial(command, *args, **options))
        else:
            command(*args, **options)

    wrapped: Any = run
    return wrapped  # type: ignore[no-any-return]


def _run(command: Callable[[], object]) -> None:
    try:
        command()
    except KeyboardInterrupt:
        logger.info("interrupted")
        click.get_current_context().exit(INTERRUPTED)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        logger.critical("%s", failure.format_message())
        click.get_current_context().exit(failure.exit_code)
