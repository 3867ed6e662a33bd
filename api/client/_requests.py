"""A request to a server, and the answer to it, without a socket: what both clients share.

An operation is a generator of ``Steps``: it yields requests, is sent their answers, and
returns its result. Whoever drives it decides how to wait.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from blockqueue.storage import BlockQueueError, ValidationError

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and what may be done if its answer is lost."""

    method: str
    #: Below ``/v1``, encoded.
    path: str
    query: Mapping[str, str] = {}
    body: bytes | None = None
    #: Besides those that every request has.
    headers: Mapping[str, str] = {}
    #: How long the server may hold it before it answers, in seconds, besides its work.
    held_s: float = 0.0
    #: Whether doing it twice is as good as once.
    repeatable: bool = True
    #: Whether "not found" is success, once it may have been done already.
    deletes: bool = False


class Answer(msgspec.Struct, frozen=True):
    """An answer, read to its end. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Its type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class StrangeAnswer(BlockQueueError):
    """What answered is no BlockQueue server: the address may be wrong, or a proxy answers.

    The text has the status and how the answer begins. Whether something was done is unknown.
    """

    code = "strange_answer"
    status = 502


#: An operation: yields requests, is sent their answers, returns its result.
Steps = Generator[Request, Answer, T]


class _Data(msgspec.Struct, Generic[T]):
    """The envelope of every success."""

    data: T


def ask(kind: type[T], method: str, path: str, body: Any = None, **options: Any) -> Steps[T]:
    """Send one request, and return the answer's data as ``kind``.

    ``options`` are those of ``Request``. Raises StrangeAnswer if it is something else.
    """
    answer = yield _request(method, path, body, options)
    try:
        data: T = _decoder(kind).decode(answer.body).data
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise strange(answer, str(error)) from error
    return data


def tell(method: str, path: str, body: Any = None, **options: Any) -> Steps[None]:
    """Send one request whose answer says no more than that it is done; see ``ask``."""
    yield _request(method, path, body, options)


def _request(method: str, path: str, body: Any, options: dict[str, Any]) -> Request:
    encoded = None if body is None else _encoded(body)
    return Request(method=method, path=path, body=encoded, **options)


def _encoded(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise ValidationError("a text holds a lone surrogate: not UTF-8") from None
    except TypeError as error:
        raise ValidationError(f"over HTTP {error}") from None


_decoders: dict[Any, msgspec.json.Decoder[_Data[Any]]] = {}


def _decoder(kind: Any) -> msgspec.json.Decoder[_Data[Any]]:
    """Return the decoder of a type; there are about a dozen."""
    found = _decoders.get(kind)
    if found is None:
        found = _decoders[kind] = msgspec.json.Decoder(_Data[kind], dec_hook=_read_hook)
    return found


def _read_hook(kind: type[Any], value: Any) -> Any:
    return kind.read(value)


def strange(answer: Answer, why: str = "") -> StrangeAnswer:
    """Return the error for an answer that makes no sense here."""
    said = answer.body[:200].decode(errors="replace").strip()
    place = answer.headers.get("location")
    hint = f"it points to {place}: give that address" if place else "is this a BlockQueue server?"
    because = f" ({why})" if why else ""
    kind = answer.content_type or "no content type"
    return StrangeAnswer(f"status {answer.status}, {kind}{because}: {hint} It says {said!r}")


def segment(what: str, name: object) -> str:
    """Return a name as a part of a path. Raises ValidationError if it cannot be one."""
    if not isinstance(name, str):
        raise ValidationError(f"a {what} is text, not {type(name).__name__}")
    if not name or "/" in name or name in {".", ".."}:
        raise ValidationError(f"{name!r} is no {what}: it is not empty, '.' or '..', without '/'")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise ValidationError(f"the {what} holds a lone surrogate: not UTF-8") from None


def topic_path(topic: str) -> str:
    return "/topics/" + segment("topic's name", topic)


def subscriber_path(topic: str, subscriber: str) -> str:
    return f"{topic_path(topic)}/subscribers/{segment('subscriber name', subscriber)}"
