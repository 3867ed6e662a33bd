"""The first contract's way of saying things: ``{"message", "data"?, "error"?}``."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple, TypeVar

import falcon
import msgspec

from blockqueue.storage import BlockQueueError, ValidationError

logger = logging.getLogger("blockqueue")

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
SUCCESS = _encode({"message": "success"})
# What a client may do about these is: try again.
_RETRY_AFTER = {429: "1", 503: "1", 507: "5"}
_WIRE_VALUES = {404: "not found", 409: "Conflict"}


def success(data: Any) -> bytes:
    return _encode({"message": "success", "data": data})


def failure(status: int, error: str) -> bytes:
    return _encode({"message": _WIRE_VALUES.get(status, "failure"), "error": error})


def first_value(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode the first JSON value of a body; what follows is ignored, as the contract says.

    Raises ValidationError saying what is wrong.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # What follows may be anything, so only the first value must be UTF-8.
            text = body.decode(errors="surrogateescape").lstrip(" \t\r\n")
            _, end = json.JSONDecoder().raw_decode(text)
            return decoder.decode(text[:end].encode(errors="surrogateescape"))
    except msgspec.ValidationError as error:
        raise ValidationError(f"the JSON is not what is expected: {error}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValidationError(f"the body is not JSON in UTF-8: {error}") from error
    except RecursionError:
        raise ValidationError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"the body is not JSON: {error}") from error


def install(app: falcon.App[Any, Any]) -> None:
    """Make an app answer every error in the envelope, and never with a traceback."""
    app.add_error_handler(Exception, _on_error)
    app.add_error_handler(falcon.HTTPError, _on_http_error)


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def refusal(error: BaseException) -> Answer:
    """Return the answer for an error; what is not ours is told to the log alone."""
    if not isinstance(error, BlockQueueError):
        logger.error("a request failed", exc_info=error)
        return _refusal(500, "internal error")
    if error.status >= 500:
        logger.error("a request was refused: %s", error)
    return _refusal(error.status, str(error))


def _refusal(status: int, text: str) -> Answer:
    after = _RETRY_AFTER.get(status)
    headers = (("Retry-After", after),) if after is not None else ()
    return Answer(status, failure(status, text), headers)


def give(resp: falcon.Response, answer: Answer) -> None:
    """Put an answer into a response."""
    resp.status = falcon.code_to_http_status(answer.status)
    resp.data = answer.body
    resp.set_headers(answer.headers)


def _on_error(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    give(resp, refusal(error))


def _on_http_error(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    assert isinstance(error, falcon.HTTPError)
    resp.set_headers(dict(error.headers or {}))
    if error.status_code == 405:
        resp.status = error.status
        resp.data = b""
        return
    text = error.description or error.title or "the request is wrong"
    give(resp, _refusal(error.status_code, text))
