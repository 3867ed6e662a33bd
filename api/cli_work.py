"""``blockqueue work``: a worker from the shell."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from ._cli_logs import logged
from ._cli_options import duration
from ._cli_source import SUBSCRIBER, TOPIC, Source, source_options

if TYPE_CHECKING:
    from blockqueue.otel import Tracing
    from blockqueue.worker import Worker


@click.command()
@click.argument("handler", metavar="MODULE:HANDLER")
@TOPIC
@SUBSCRIBER
@click.option(
    "--concurrency",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="How many jobs are done at once.",
)
@click.option(
    "--lease", default="1m", type=duration, show_default=True, help="How long a job is leased."
)
@click.option(
    "--timeout", type=duration, help="How long a job may take; without it, as long as it likes."
)
@click.option(
    "--drain",
    default="30s",
    type=duration,
    show_default=True,
    help="How long SIGTERM lets running jobs go on.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Tell Prometheus at this port of 127.0.0.1 what the worker has done.",
)
@click.option(
    "--otel", is_flag=True, help="Make OpenTelemetry's spans, for the SDK that the process has."
)
@source_options
@logged
def work(
    source: Source,
    handler: str,
    topic: str,
    subscriber: str,
    concurrency: int,
    lease: str,
    timeout: str | None,
    drain: str,
    metrics_port: int | None,
    otel: bool,
) -> None:
    """Let a function do the jobs of a subscriber until SIGTERM or Ctrl-C.

    HANDLER is a function in an importable MODULE; the current folder is searched, too. It is
    called with each message: see ``blockqueue.Worker``.
    """
    from blockqueue.worker import Worker

    function = _find(handler)
    with source.opened() as queue:
        if otel:
            queue.tracing = _tracing()
        worker = Worker(
            queue,
            topic,
            subscriber,
            function,
            concurrency=concurrency,
            lease=lease,
            timeout=timeout,
            drain=drain,
        )
        with ExitStack() as stack:
            if metrics_port is not None:
                _tell(stack, worker, metrics_port)
            click.echo(f"blockqueue works on {topic}/{subscriber} with {handler}")
            sys.stdout.flush()
            worker.run()


def _tell(stack: ExitStack, worker: Worker, port: int) -> None:
    """Serve the worker's metrics until the stack is closed."""
    from ._metrics_port import metrics_port

    try:
        stack.enter_context(metrics_port(port, worker.exposition))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}"
        ) from error


def _tracing() -> Tracing:
    try:
        from blockqueue.otel import Tracing
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    return Tracing()


def _find(handler: str) -> Callable[..., Any]:
    """Import a handler by its name. Raises click's errors for people."""
    module_name, _, path = handler.partition(":")
    if not module_name or module_name.startswith(".") or not path:
        raise click.BadParameter(
            f"{handler!r} is not of the form module:function", param_hint="MODULE:HANDLER"
        )
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise click.ClickException(
            f"there is no module {module_name!r} in {os.getcwd()}, nor among what is installed"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise click.ClickException(f"module {module_name!r} has no {path!r}")
        found = getattr(found, name)
    if not callable(found):
        raise click.ClickException(f"{handler} is not a function")
    function: Callable[..., Any] = found
    return function
