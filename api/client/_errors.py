"""From answers to errors: the same classes that the embedded face raises.

Unavailable
└── ServerUnreachable     no connection: nothing was sent, nothing was done
CommitUnknown
└── AnswerLost            sent, and no answer came: it may have been done or not
StrangeAnswer             what answered is no BlockQueue server
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from blockqueue.storage import (
    BackPressure,
    BlockQueueError,
    CommitUnknown,
    CorruptBlock,
    DatabaseError,
    LeaseLost,
    RateLimited,
    Unavailable,
)

from ._requests import Answer, Request, strange

_ERROR_HEADER = "x-blockqueue-error"


class ServerUnreachable(Unavailable):
    """No connection to the server could be made in time. Nothing was done."""

    code = "server_unreachable"


class AnswerLost(CommitUnknown):
    """The request was sent, and no answer came in time. It may have been done or not."""

    code = "answer_lost"


class _Problem(msgspec.Struct):
    """The body of a refusal."""

    code: str
    detail: str = ""
    message_ids: list[str] = []


def _tree(root: type[BlockQueueError]) -> Iterator[type[BlockQueueError]]:
    """Yield the classes that a server may name, a parent before its children."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == root.__module__:
            yield from _tree(child)


_BY_NAME = {kind.__name__: kind for kind in _tree(BlockQueueError)}
# It wants to know where the damage ends, which no server tells.
_BY_NAME[CorruptBlock.__name__] = DatabaseError
_BY_CODE: dict[str, type[BlockQueueError]] = {}
for _kind in _BY_NAME.values():
    _BY_CODE.setdefault(_kind.code, _kind)

# Said by a server or a proxy that has not looked at the request, or may be asked again.
_GATEWAY = frozenset({429, 502, 503, 504})


def check(answer: Answer, request: Request) -> None:
    """Raise the error that an answer stands for, if it is one."""
    if answer.status == 204 and request.method == "DELETE":
        return
    if 200 <= answer.status < 300 and answer.content_type == "application/json":
        return
    if answer.status < 400 or answer.content_type != "application/problem+json":
        if answer.status in _GATEWAY:
            raise AnswerLost(f"something between here and the server answered {answer.status}")
        raise strange(answer)
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise strange(answer, str(error)) from error
    kind = _BY_NAME.get(answer.headers.get(_ERROR_HEADER, "")) or _BY_CODE.get(problem.code)
    detail = problem.detail or problem.code
    if kind is CommitUnknown:
        raise CommitUnknown(detail, problem.message_ids)
    if kind is RateLimited:
        after = answer.headers.get("retry-after", "")
        raise RateLimited(detail, int(after) if after.isdecimal() else 1)
    raise (kind or BlockQueueError)(detail)


def is_undone(error: BaseException) -> bool:
    """Say whether an error means that nothing was done, and that later it may go well."""
    return isinstance(error, Unavailable | BackPressure | RateLimited)


def is_doubtful(error: BaseException) -> bool:
    """Say whether an error leaves open if something was done."""
    return isinstance(error, CommitUnknown)


def lease_lost(lost: list[str], of: int) -> LeaseLost:
    """Return the error for leases that had ended."""
    shown = ", ".join(lost[:5])
    return LeaseLost(f"{len(lost)} of {of} leases had ended: {shown}", lost)
