"""Options that several commands have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from blockqueue import Subscriber

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = ("", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(rf"(\d{{1,15}}) ?({'|'.join(_UNITS)})", re.ASCII)

YES = click.option("--yes", is_flag=True, help="Do not ask.")
LIMIT = click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many."
)


def duration(value: str) -> str:
    """Check a duration as in ``300ms``, ``5s`` or ``1h30m``; both faces read it as text."""
    from blockqueue.storage import ValidationError

    from ._durations import milliseconds

    try:
        milliseconds("the duration", value)
    except ValidationError as error:
        raise click.BadParameter(str(error)) from error
    return value


def size(value: str) -> int:
    """Read a number of bytes as in ``0``, ``64MiB`` or ``1GiB``."""
    found = _SIZE.fullmatch(str(value).strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no size like 0, 512KiB, 64MiB or 1GiB")
    return int(found[1]) << 10 * _UNITS.index(found[2])


def _headers(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        if name in headers:
            raise click.BadParameter(f"{name!r} is given twice")
        headers[name] = value
    return headers


HEADERS = click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="NAME=VALUE",
    help="Repeatable.",
)

_RETRIES = (
    click.option("--max-attempts", type=click.IntRange(min=1), help="Dead after so many failures."),
    click.option("--retry-initial", type=duration, help="The delay before the first retry."),
    click.option("--retry-max", type=duration, help="No delay is longer."),
    click.option("--retry-multiplier", type=float, help="How much longer each delay is."),
    click.option("--retry-jitter", type=float, help="Spreads a delay by ± this part, 0 to 1."),
)
_LEASES = (
    click.option("--visibility", type=duration, help="How long a lease lasts."),
    click.option("--claim-limit", type=click.IntRange(min=1), help="How many a claim takes."),
)


def retry_options(command: F) -> F:
    """Add what a retry policy is made of; the command gets it as ``policy``."""
    for option in reversed(_RETRIES):
        command = option(command)
    return command


def subscriber_options(command: F) -> F:
    """Add all that a subscriber can be told; what is not given is left to its defaults."""
    command = retry_options(command)
    for option in reversed(_LEASES):
        command = option(command)
    return command


def subscriber_of(name: str, options: dict[str, Any]) -> Subscriber:
    """Return a subscriber with those options that were given."""
    from blockqueue import Subscriber

    return Subscriber(name, **{key: value for key, value in options.items() if value is not None})


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost, unless ``--yes``."""
    if not yes:
        click.confirm(question, abort=True, err=True)
