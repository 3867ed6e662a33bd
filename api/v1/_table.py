"""The table of operations: routing, checks and the OpenAPI document all come from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import cleandoc
from typing import Any, NamedTuple

from blockqueue.api._answer import Answer
from blockqueue.api._needs import Need

from . import _problem
from ._bodies import BodyReader
from ._call import Call
from ._problem import Code

Handler = Callable[[Call], Answer]

PREFIX = "/v1"


class Parameter(NamedTuple):
    """A query parameter.

    ``read`` makes its value from the text, None if it is not there, or raises
    ValidationError. ``schema`` is what the document says of it.
    """

    name: str
    read: Callable[[str | None], Any]
    schema: Mapping[str, Any]
    description: str


class Operation(NamedTuple):
    """What one method of one path does.

    ``path`` is without the prefix. ``need``: what a token must be allowed. ``answers``: the
    type of the data by status, the usual one first; None for an empty answer. ``hot``: its
    topic is looked up in memory.
    """

    method: str
    path: str
    need: Need
    id: str
    tag: str
    summary: str
    description: str
    handle: Handler
    query: Sequence[Parameter]
    body: BodyReader | None
    answers: dict[int, Any]
    problems: Sequence[Code]
    hot: bool

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def status(self) -> int:
        """The status of success, unless the handler says another."""
        usual: int = next(iter(self.answers))
        return usual


class Routes:
    """The operations of one module, which share a tag.

    Use its methods as decorators. The handler's name becomes the operation's id, the first
    line of its docstring the summary and the rest the description.
    """

    def __init__(self, tag: str, description: str) -> None:
        self.tag = tag
        self.description = description
        self.operations: list[Operation] = []
        self.get = partial(self._add, "GET")
        self.post = partial(self._add, "POST")
        self.put = partial(self._add, "PUT")
        self.delete = partial(self._add, "DELETE")

    def _add(
        self,
        method: str,
        path: str,
        need: Need,
        *,
        answers: dict[int, Any],
        query: Sequence[Parameter] = (),
        body: Any = None,
        body_may_be_empty: bool = False,
        problems: Sequence[Code] = (),
        hot: bool = False,
    ) -> Callable[[Handler], Handler]:
        reader = None if body is None else BodyReader(body, may_be_empty=body_may_be_empty)

        def declare(handle: Handler) -> Handler:
            summary, _, description = cleandoc(handle.__doc__ or "").partition("\n\n")
            first, *others = handle.__name__.split("_")
            operation = Operation(
                method,
                path,
                need,
                first + "".join(map(str.title, others)),
                self.tag,
                summary.removesuffix("."),
                description,
                handle,
                query,
                reader,
                answers,
                _all_problems(path, query, reader, problems),
                hot,
            )
            self.operations.append(operation)
            return handle

        return declare


def _all_problems(
    path: str, query: Sequence[Parameter], body: BodyReader | None, own: Sequence[Code]
) -> list[Code]:
    """Add what follows from an operation's path and input."""
    codes = set(own)
    if query or body is not None:
        codes.add(_problem.VALIDATION_ERROR)
    if "{topic}" in path:
        codes |= {_problem.TOPIC_NOT_FOUND, _problem.RESOURCE_NOT_FOUND}
    codes |= {_problem.UNAUTHORIZED, _problem.FORBIDDEN, _problem.RATE_LIMITED}
    codes |= {_problem.SERVICE_UNAVAILABLE, _problem.INTERNAL_ERROR}
    return [code for code in _problem.CODES if code in codes]
