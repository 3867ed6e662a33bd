"""Groups of commands that are loaded when they are used, and what their errors exit with."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    from blockqueue.storage import BlockQueueError

FAILED, USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130

# By the status that a server answers with.
_EXIT_CODES = {
    400: USAGE,
    404: NOT_FOUND,
    409: CONFLICT,
    429: UNAVAILABLE,
    503: UNAVAILABLE,
    507: UNAVAILABLE,
}


class Failed(click.ClickException):
    """A command that has failed, with the code that it exits with."""

    def __init__(self, text: str, exit_code: int = FAILED) -> None:
        super().__init__(text)
        vars(self)["exit_code"] = exit_code  # click declares it for whole classes


class Lazy(NamedTuple):
    """Where a command is: a function of a module of this package, named as the module ends."""

    module: str
    attribute: str
    help: str


class Program(click.Group):
    """The whole program: ``--help`` and completion show its commands without loading them."""

    def __init__(self, *args: Any, lazy: dict[str, Lazy], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._lazy = lazy
        for name, found in lazy.items():
            self.add_command(click.Command(name, short_help=found.help))

    def load(self, name: str) -> click.Command:
        """Return a command as it is."""
        found = self._lazy[name]
        command: click.Command = getattr(import_module(found.module, __package__), found.attribute)
        _name_variables(command, ("BLOCKQUEUE", name))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is run; it is the only one that is loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.load(name), rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What goes wrong is said in a line, with a stable exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            _fail(error)


def _name_variables(command: click.Command, path: tuple[str, ...]) -> None:
    """Let each option be set by a variable that is named as it is typed."""
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None:
            words = "_".join((*path, long_name(option)))
            option.envvar = words.upper().replace("-", "_")
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            _name_variables(each, (*path, name))


def long_name(option: click.Option) -> str:
    """Return an option as it is typed, without the dashes at the front."""
    return max(option.opts, key=len).lstrip("-")


def failed(error: BlockQueueError) -> Failed:
    """Return what a command fails with that has met ``error``."""
    from blockqueue.storage import CommitUnknown, DatabaseError

    # Nobody knows if it was done, or the file is broken: "try later" would be the wrong advice.
    if isinstance(error, CommitUnknown | DatabaseError):
        return Failed(str(error))
    return Failed(str(error), _EXIT_CODES.get(error.status, FAILED))


def failure_of(error: Exception) -> click.ClickException | None:
    """Return what a command fails with that has met ``error``; None: that is a bug."""
    from blockqueue.storage import BlockQueueError

    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return Failed(str(error))
    return failed(error) if isinstance(error, BlockQueueError) else None


def _fail(error: Exception) -> NoReturn:
    raise failure_of(error) or error from error
