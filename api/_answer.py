"""What a face answers with, whoever sends it."""

from __future__ import annotations

from typing import Any, NamedTuple

import falcon

from blockqueue.storage import BlockQueueError, RateLimited, Unauthorized

JSON = "application/json"
# What a client may do about these is: try again, after so many seconds.
_RETRY_AFTER = {429: "1", 503: "1", 507: "5"}

Headers = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: str = JSON


def give(resp: falcon.Response, answer: Answer) -> None:
    """Put an answer into a response."""
    resp.status = falcon.code_to_http_status(answer.status)
    resp.data = answer.body
    if answer.content_type != JSON:
        resp.content_type = answer.content_type
    resp.set_headers(answer.headers)


def headers_of(error: falcon.HTTPError) -> Headers:
    """Return the headers that an error brings along."""
    own: Any = error.headers or {}
    return tuple(dict(own).items())


def remedy(error: BlockQueueError) -> Headers:
    """Return the header that says what may help: a token, or to try again later."""
    if isinstance(error, Unauthorized):
        return (("WWW-Authenticate", "Bearer"),)
    if isinstance(error, RateLimited):
        return (("Retry-After", str(error.retry_after)),)
    return retry_after(error.status)


def retry_after(status: int) -> Headers:
    """Return the header that says when to try again, if that may help."""
    after = _RETRY_AFTER.get(status)
    return () if after is None else (("Retry-After", after),)
