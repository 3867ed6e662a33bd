"""How ``/v1`` says what is wrong: problem details (RFC 9457) with a stable ``code``."""

from __future__ import annotations

import http
import logging
from typing import Annotated, NamedTuple
from urllib.parse import quote

import falcon
import msgspec

from blockqueue.api._answer import Answer, Headers, headers_of, remedy, retry_after
from blockqueue.api._request_info import info_of
from blockqueue.storage import BlockQueueError, CommitUnknown, Refused, TopicNotFound

logger = logging.getLogger("blockqueue.http")

PROBLEM_JSON = "application/problem+json"
#: Names the error's class. Several have one code, and clients need to tell them apart: a
#: commit that is unknown from one that never was. Not in the body, which the contract fixes.
ERROR_HEADER = "X-BlockQueue-Error"
_TYPE = "https://blockqueue.dev/problems/"


class Code(NamedTuple):
    """A stable word for one kind of refusal."""

    name: str
    status: int


VALIDATION_ERROR = Code("validation_error", 400)
UNAUTHORIZED = Code("unauthorized", 401)
FORBIDDEN = Code("forbidden", 403)
TOPIC_NOT_FOUND = Code("topic_not_found", 404)
RESOURCE_NOT_FOUND = Code("resource_not_found", 404)
CONFLICT = Code("conflict", 409)
RATE_LIMITED = Code("rate_limited", 429)
BUFFER_PRESSURE = Code("buffer_pressure", 429)
WRITER_UNHEALTHY = Code("writer_unhealthy", 503)
SERVICE_UNAVAILABLE = Code("service_unavailable", 503)
INTERNAL_ERROR = Code("internal_error", 500)

CODES = (
    VALIDATION_ERROR,
    UNAUTHORIZED,
    FORBIDDEN,
    TOPIC_NOT_FOUND,
    RESOURCE_NOT_FOUND,
    CONFLICT,
    RATE_LIMITED,
    BUFFER_PRESSURE,
    WRITER_UNHEALTHY,
    SERVICE_UNAVAILABLE,
    INTERNAL_ERROR,
)
_BY_NAME = {code.name: code for code in CODES}
# Falcon's own refusals, and those of an embedding program's middleware.
_BY_STATUS = {
    400: VALIDATION_ERROR,
    401: UNAUTHORIZED,
    403: FORBIDDEN,
    404: RESOURCE_NOT_FOUND,
    409: CONFLICT,
}
_WITH_PATH = {TOPIC_NOT_FOUND, UNAUTHORIZED}


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a request was refused."""

    type: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri"})]
    title: Annotated[str, msgspec.Meta(description="The standard text of the status.")]
    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    detail: Annotated[str, msgspec.Meta(description="What is wrong, for people to read.")]
    code: Annotated[str, msgspec.Meta(extra_json_schema={"enum": [code.name for code in CODES]})]
    instance: (
        Annotated[str, msgspec.Meta(description="The path, where it is what was not found.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    message_ids: (
        Annotated[
            list[str],
            msgspec.Meta(
                description="After a publish of which nobody knows whether it was written: the "
                "ids that its messages have if it was. Publish again with the same "
                "idempotency key to find out."
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


def is_v1(path: str) -> bool:
    """Say whether a path belongs to this contract."""
    return path.startswith("/v1") and path[3:4] in {"", "/", "?"}


def id_header(request: str) -> Headers:
    return (("X-Request-Id", request),)


def problem(
    code: Code,
    detail: str,
    request: str,
    *,
    status: int | None = None,
    path: bytes | None = None,
    error: BlockQueueError | None = None,
) -> Answer:
    """Return a refusal. ``path`` is shown as ``instance``, ``error`` by headers.

    What messages of a commit that is unknown have for ids is shown as ``message_ids``.
    """
    status = status or code.status
    ids = error.ids if isinstance(error, CommitUnknown) else ()
    body = Problem(
        type=_TYPE + code.name,
        title=_title(status),
        status=status,
        detail=detail,
        code=code.name,
        instance=msgspec.UNSET if path is None else quote(path),
        message_ids=list(ids) or msgspec.UNSET,
    )
    headers = id_header(request)
    if error is None:
        headers += retry_after(status)
    else:
        headers += (*remedy(error), (ERROR_HEADER, type(error).__name__))
    return Answer(status, _encode(body), headers, PROBLEM_JSON)


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def refusal(error: BaseException, request: str) -> Answer:
    """Return the answer for an error; what is not ours is told to the log alone."""
    if not isinstance(error, BlockQueueError):
        logger.error("request %s failed", request, exc_info=error)
        return problem(INTERNAL_ERROR, "the server has met an unexpected error", request)
    code = _code_of(error)
    if code.status >= 500:
        logger.error("request %s was refused: %s", request, error)
    if code is INTERNAL_ERROR:
        return problem(code, "the server has met an unexpected error", request, error=error)
    return problem(code, str(error), request, error=error)


def refusal_at_once(req: falcon.Request, error: TopicNotFound | Refused) -> Answer:
    """Return the answer for what was refused before anything was done for the request."""
    code = TOPIC_NOT_FOUND if isinstance(error, TopicNotFound) else _code_of(error)
    # As it was sent, so with its slash.
    path = req.env["PATH_INFO"].encode("latin-1") if code in _WITH_PATH else None
    return problem(code, str(error), info_of(req).id, path=path, error=error)


def _code_of(error: BlockQueueError) -> Code:
    if isinstance(error, TopicNotFound):  # it was there when the request began
        return RESOURCE_NOT_FOUND
    if isinstance(error, CommitUnknown) or error.status == 507:
        return SERVICE_UNAVAILABLE
    return _BY_NAME.get(error.code, INTERNAL_ERROR)


def http_refusal(req: falcon.Request, error: falcon.HTTPError) -> Answer:
    """Return the answer for what Falcon, or an embedding program's middleware, refuses."""
    request, headers = info_of(req).id, headers_of(error)
    if error.status_code == 405:
        return Answer(405, b"", id_header(request) + headers)
    if isinstance(error, falcon.HTTPRouteNotFound):
        text = b"there is nothing at this path\n"
        return Answer(404, text, id_header(request), "text/plain; charset=utf-8")
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        code = SERVICE_UNAVAILABLE if error.status_code >= 500 else VALIDATION_ERROR
    path = req.path.encode() if code is UNAUTHORIZED else None
    detail = error.description or error.title or "the request is refused"
    answer = problem(code, detail, request, status=error.status_code, path=path)
    return answer._replace(headers=answer.headers + headers)
