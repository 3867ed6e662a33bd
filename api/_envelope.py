"""The first contract's way of saying things: ``{"message", "data"?, "error"?}``."""

from __future__ import annotations

import json
import logging
from typing import Any, TypeVar

import falcon
import msgspec

from blockqueue.storage import BlockQueueError, CommitUnknown, ValidationError

from ._answer import Answer, headers_of, remedy, retry_after
from ._nesting import check_nesting

logger = logging.getLogger("blockqueue.http")

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
SUCCESS = _encode({"message": "success"})
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
            value = decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # What follows may be anything, so only the first value must be UTF-8.
            text = body.decode(errors="surrogateescape").lstrip(" \t\r\n")
            _, end = json.JSONDecoder().raw_decode(text)
            body = text[:end].encode(errors="surrogateescape")
            value = decoder.decode(body)
        check_nesting(body)  # of the first value, so it must be known where that ends
    except msgspec.ValidationError as error:
        raise ValidationError(f"the JSON is not what is expected: {error}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValidationError(f"the body is not JSON in UTF-8: {error}") from error
    except RecursionError:
        raise ValidationError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise ValidationError(f"the body is not JSON: {error}") from error
    return value


def refusal(error: BaseException) -> Answer:
    """Return the answer for an error; what is not ours is told to the log alone."""
    if not isinstance(error, BlockQueueError):
        logger.error("a request failed", exc_info=error)
        return _refusal(500, "internal error")
    if error.status >= 500:
        logger.error("a request was refused: %s", error)
    text = str(error)
    if isinstance(error, CommitUnknown) and error.ids:
        text += f"; if it was, the message ids are: {', '.join(error.ids)}"
    return Answer(error.status, failure(error.status, text), remedy(error))


def _refusal(status: int, text: str) -> Answer:
    return Answer(status, failure(status, text), retry_after(status))


def http_refusal(error: falcon.HTTPError) -> Answer:
    """Return the answer for what Falcon refuses."""
    headers = headers_of(error)
    if error.status_code == 405:
        return Answer(405, b"", headers)
    answer = _refusal(error.status_code, error.description or error.title or "bad request")
    return answer._replace(headers=headers + answer.headers)
