"""What a handler is called with: its parameters say what it wants."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from blockqueue.storage import ValidationError

from ._job import Job
from ._run import Run

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Undecodable(Exception):
    """The payload is not what the handler takes."""


class Arguments:
    """Makes a handler's arguments out of a run: its payload, and the job if it takes two.

    The type of the first parameter, or ``kind``, says what the payload is: ``str``, ``bytes``
    or the job as they are, anything else is decoded from JSON by msgspec.
    """

    def __init__(self, handler: Callable[..., object], kind: Any = None) -> None:
        wanted = _required(handler)
        if kind is None:
            kind = _annotation(handler, wanted[0])
        self._with_job = len(wanted) == 2
        self._read = _reader(kind)

    def of(self, run: Run) -> tuple[Any, ...]:
        """Raises Undecodable."""
        payload = self._read(run)
        return (payload, Job(run)) if self._with_job else (payload,)


def is_async(handler: Callable[..., object]) -> bool:
    function = _function(handler)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def _required(handler: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that a call must give."""
    if not callable(handler):
        raise ValidationError(f"a handler is a function, not {handler!r}")
    _check_kind(handler)
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except ValueError as error:
        raise ValidationError(f"what {handler!r} takes is not known: {error}") from error
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and each.default is each.empty:
            raise ValidationError(f"nobody gives {handler!r} its argument {each.name!r}")
    wanted = [
        each for each in parameters if each.kind in _POSITIONAL and each.default is each.empty
    ]
    if not wanted and parameters and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        wanted = parameters[:1]  # *args, or a single one with a default
    if not 1 <= len(wanted) <= 2:
        raise ValidationError(
            f"a handler takes a payload, and the job as a second argument if it likes; "
            f"{handler!r} takes {len(wanted)}"
        )
    return wanted


def _check_kind(handler: Callable[..., object]) -> None:
    """Refuse what does nothing when it is called."""
    function = _function(handler)
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise ValidationError(f"{handler!r} has a 'yield': nobody would go through it")


def _function(handler: Any) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def _annotation(handler: Callable[..., object], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is parameter.empty:
        return Job
    function = _function(handler)
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return typing.get_type_hints(function).get(parameter.name, Job)
    except NameError as error:
        raise ValidationError(
            f"the type of {parameter.name!r} is not known where {handler!r} is defined "
            f"({error}): give it as type="
        ) from error


def _reader(kind: Any) -> Callable[[Run], Any]:
    if kind is str:
        return _text
    if kind is bytes:
        return _bytes
    if kind == str | bytes:
        return _message
    if inspect.isclass(kind) and hasattr(kind, "receipt_token"):  # a Job, or a kind of Delivery
        return Job
    try:
        if isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
            raise TypeError("msgspec does not know it")
        decoder = msgspec.json.Decoder(kind)
    except TypeError as error:
        raise ValidationError(f"messages cannot be decoded as {kind!r}: {error}") from error
    return functools.partial(_decoded, decoder, getattr(kind, "__name__", str(kind)))


def _message(run: Run) -> str | bytes:
    message: str | bytes = run.held.message
    return message


def _text(run: Run) -> str:
    message = _message(run)
    try:
        return message if isinstance(message, str) else message.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(f"the payload is not text: {error}") from error


def _bytes(run: Run) -> bytes:
    message = _message(run)
    return message.encode() if isinstance(message, str) else message


def _decoded(decoder: msgspec.json.Decoder[Any], name: str, run: Run) -> Any:
    try:
        return decoder.decode(_message(run))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Undecodable(f"the payload is not JSON of {name}: {error}") from error
