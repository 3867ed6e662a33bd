"""The queue that a command works on: a file, or a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from ._cli_group import NOT_FOUND, USAGE, Failed

if TYPE_CHECKING:
    from blockqueue import BlockQueue
    from blockqueue.client import Client

    #: A file's queue or a server's: the same methods.
    Queue = BlockQueue | Client

F = TypeVar("F", bound=Callable[..., Any])

DB = click.option(
    "--db",
    default="blockqueue.db",
    show_default=True,
    envvar="BLOCKQUEUE_DB",
    type=click.Path(),
    help="The database file.",
)
JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="BLOCKQUEUE_JSON",
    help="Print JSON, an object a line.",
)


def _refuse_url(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"{ctx.command_path} works on the file only: give --db, not --url")


#: For commands that cannot do without the file, and say so.
_NO_URL = click.option("--url", hidden=True, expose_value=False, callback=_refuse_url)


def file_option(command: F) -> F:
    """Add ``--db`` alone, for a command that works on the file only."""
    return DB(_NO_URL(command))


_URL = click.option("--url", envvar="BLOCKQUEUE_URL", help="A server's address, instead of --db.")
_TOKEN_FILE = click.option(
    "--token-file",
    envvar="BLOCKQUEUE_TOKEN_FILE",
    type=click.Path(),
    help="A file with the token for the server; else BLOCKQUEUE_TOKEN.",
)

AUDIT_LOG = click.option(
    "--audit-log",
    envvar="BLOCKQUEUE_AUDIT_LOG",
    help="A file for the audit log, one JSON object a line.",
)


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a topic, or of a subscriber, from the file."""
    db = ctx.params.get("db")
    if ctx.params.get("url") is not None or db is None or not os.path.isfile(db):
        return []
    from blockqueue import BlockQueue, BlockQueueError

    try:
        with BlockQueue(db) as queue:
            if param.name == "topic":
                found = queue.topics()
            else:
                found = [each.name for each in queue.subscribers(ctx.params["topic"])]
    except BlockQueueError:
        return []  # a shell that completes is no place for errors
    return [name for name in found if name.startswith(incomplete)]


TOPIC = click.argument("topic", shell_complete=_names)
SUBSCRIBER = click.argument("subscriber", shell_complete=_names)

_TYPED = ParameterSource.COMMANDLINE
# The weakest first.
_STRENGTH = (
    ParameterSource.DEFAULT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.ENVIRONMENT,
    _TYPED,
)
_FRESH_S = 10.0


class Source:
    """Where a command finds its queue. The stronger of ``--db`` and ``--url`` is meant."""

    def __init__(self, db: str, url: str | None, token_file: str | None) -> None:
        self.db = db
        self.url = url
        self._token_file = token_file

    @contextmanager
    def opened(self, *, make: bool = False) -> Iterator[Queue]:
        """Open the queue; ``make`` the file if it is missing. Errors name what is nearest."""
        if self.url is None:
            with self.file(make=make) as queue:
                yield queue
            return
        try:
            from blockqueue.client import Client
        except ImportError as error:
            raise Failed(f"--url needs more: {error}") from error
        from blockqueue.client import ServerUnreachable

        with Client(self.url, self._token(), timeout=_FRESH_S) as client:
            try:
                with _helpful(client):
                    yield client
            except ServerUnreachable as error:
                raise ServerUnreachable(
                    f"{error}. Is a server running at {self.url}? `blockqueue serve` starts one; "
                    "without --url, commands work on the file --db"
                ) from error

    @contextmanager
    def file(self, what: str | None = None, *, make: bool = False) -> Iterator[BlockQueue]:
        """Open the file; ``what``: the command that can't do without."""
        if self.url is not None:
            raise click.UsageError(f"{what or 'this'} works on the file only: give --db, not --url")
        with opened_file(self.db, make=make) as queue, _helpful(queue):
            yield queue

    def _token(self) -> str | None:
        if self._token_file is None:
            return os.environ.get("BLOCKQUEUE_TOKEN") or None
        try:
            with open(self._token_file, encoding="ascii") as file:
                return file.read().strip()
        except (OSError, UnicodeError) as error:
            raise Failed(f"cannot read the token: {error}", USAGE) from error


def source_options(command: F) -> F:
    """Add ``--db``, ``--url`` and ``--token-file``; the command gets them as ``source``."""

    @click.pass_context
    def run(
        ctx: click.Context, /, db: str, url: str | None, token_file: str | None, **rest: Any
    ) -> Any:
        db_strength, url_strength = [_STRENGTH.index(_source(ctx, name)) for name in ("db", "url")]
        if url is not None and db_strength == url_strength == _STRENGTH.index(_TYPED):
            raise click.UsageError("choose one of --db and --url")
        meant = None if db_strength > url_strength else url
        return command(source=Source(db, meant, token_file), **rest)

    wrapped: Any = DB(_URL(_TOKEN_FILE(update_wrapper(run, command))))
    return cast(F, wrapped)


def acting_options(command: F) -> F:
    """Add what ``source_options`` does, and ``--audit-log``, for what an operator decides.

    A server notes by itself what it is told to do; what is done to the file is noted here.
    """

    @click.pass_context
    def run(ctx: click.Context, /, source: Source, audit_log: str | None, **rest: Any) -> Any:
        if source.url is not None:
            return command(source=source, **rest)
        from ._cli_audit import audited

        about = {name: rest[name] for name in ("topic", "subscriber", "name") if name in rest}
        with audited(audit_log, " ".join(_words(ctx)), **about):
            return command(source=source, **rest)

    wrapped: Any = source_options(AUDIT_LOG(update_wrapper(run, command)))
    return cast(F, wrapped)


def _words(ctx: click.Context) -> list[str]:
    """Return the words of a command, without the program's own name."""
    return [] if ctx.parent is None else [*_words(ctx.parent), str(ctx.info_name)]


def _source(ctx: click.Context, name: str) -> ParameterSource:
    return ctx.get_parameter_source(name) or ParameterSource.DEFAULT


def check_file(path: str) -> None:
    """Refuse to make a database out of a typing error."""
    hint = f"; `blockqueue topic create NAME --subscriber NAME --db {path}` makes one"
    if not os.path.isfile(path):
        raise Failed(f"there is no database {path}{hint}", USAGE)
    if os.path.getsize(path) == 0:
        raise Failed(f"{path} is empty, not a database{hint}", USAGE)


@contextmanager
def opened_file(path: str, *, make: bool = False) -> Iterator[BlockQueue]:
    """Open a database; ``make`` it if it is missing. Whoever waits for it is told for whom."""
    if not make:
        check_file(path)
    from blockqueue import BlockQueue

    from ._cli_lock import lock_watched

    with lock_watched(path), BlockQueue(path) as queue:
        yield queue


@contextmanager
def _helpful(queue: Queue) -> Iterator[None]:
    """Name the nearest topic or subscriber to one that does not exist."""
    from blockqueue.storage import BlockQueueError, SubscriberNotFound, TopicNotFound

    params = click.get_current_context().params
    try:
        yield
    except (TopicNotFound, SubscriberNotFound) as error:
        topic, subscriber = params.get("topic"), params.get("subscriber")
        try:
            if isinstance(error, TopicNotFound) and topic is not None:
                raise not_found("topic", topic, queue.topics()) from error
            if isinstance(error, SubscriberNotFound) and topic and subscriber is not None:
                names = [each.name for each in queue.subscribers(topic)]
                raise not_found("subscriber", subscriber, names) from error
        except BlockQueueError:  # who may not list the topics is told what was wrong
            raise error from None
        raise


def not_found(kind: str, name: str, names: list[str]) -> Failed:
    """Return the error for a name that is none of ``names``."""
    text = f"there is no {kind} {name!r}"
    if not names:
        return Failed(f"{text}; there is no {kind} at all", NOT_FOUND)
    nearest = get_close_matches(name, names, n=1, cutoff=0.0)
    return Failed(f"{text}; the nearest is {nearest[0]!r}", NOT_FOUND)
