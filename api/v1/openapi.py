"""The OpenAPI document, made from the table of operations."""

from __future__ import annotations

import http
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import falcon
import msgspec

import blockqueue
from blockqueue.api._needs import OBSERVE, Needs

from . import _problem
from ._parameters import NAME_SCHEMA
from ._problem import Code, Problem
from ._schemas import REF, Schema, example_of, schemas_of
from ._table import PREFIX, Operation
from .routes import OPERATIONS, TABLE

MEDIA_TYPE = "application/vnd.oai.openapi+json;version=3.1"

_DESCRIPTION = (
    "A durable message queue. A topic has subscribers; every message that is published to the "
    "topic is delivered to each of them, at least once, under a lease.\n\n"
    "Answers are in `data`; refusals are problem details (RFC 9457) with a stable `code`. "
    "Members' names may be in any case, null stands for an absent member, and a member that is "
    "not known is refused. A body has at most 16 MiB. Lengths are counted in bytes of UTF-8."
)
_PATH_PARAMETERS: dict[str, tuple[str, Schema]] = {
    "topic": ("The topic's name.", {"type": "string", "minLength": 1, **NAME_SCHEMA}),
    "sub": ("The subscriber's name.", {"type": "string", "minLength": 1, **NAME_SCHEMA}),
    "message_id": ("The message's id.", {"type": "string", "minLength": 1}),
    "id": ("The id.", {"type": "string", "minLength": 1}),
}
_PATH_EXAMPLES = {
    "topic": "orders",
    "sub": "worker",
    "message_id": "0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61",
    "id": "0198d5c0-4a8e-8000-9c1e-5a3b7f0d2e61",
}
_REQUEST_ID = {"$ref": "#/components/headers/RequestId"}
_REQUEST_ID_HEADER = {
    "description": "The request's own, if it had one of 1 to 128 printable ASCII characters.",
    "schema": {"type": "string"},
}
_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `blockqueue token create`, with a scope for the operation's action "
    "on its topic; on all topics where the path has none.",
}
# Where the next request of a kind finds what this one has made.
_TOPIC = {"topic": "$request.path.topic"}
_SUBSCRIBER = _TOPIC | {"sub": "$request.path.sub"}
_LINKS: dict[str, tuple[dict[str, str], Sequence[str]]] = {
    "createTopic": ({"topic": "$response.body#/data/name"}, ["topic"]),
    "publishMessage": (_TOPIC | {"id": "$response.body#/data/message_id"}, ["topic", "id"]),
    "createSchedule": (_TOPIC | {"id": "$response.body#/data/id"}, ["topic", "id"]),
    "claimMessages": (
        _SUBSCRIBER | {"message_id": "$response.body#/data/0/id"},
        ["topic", "sub", "message_id"],
    ),
}
_RECEIPT = "$response.body#/data/0/receipt_token"
_LOCATION = {"description": "Where the message is.", "schema": {"type": "string"}}


@cache
def document() -> dict[str, Any]:
    """Return the document. It is always the same: do not change it."""
    kinds = [Problem]
    kinds += [operation.body.kind for operation in OPERATIONS if operation.body is not None]
    kinds += [kind for each in OPERATIONS for kind in each.answers.values() if kind is not None]
    schemas, components = schemas_of(kinds)
    known = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        shown = _operation(operation, known, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = shown
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "BlockQueue",
            "version": blockqueue.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX}],
        "tags": [{"name": each.tag, "description": each.description} for each in TABLE],
        "paths": paths,
        "components": {
            "headers": {"RequestId": _REQUEST_ID_HEADER},
            "schemas": components,
            "securitySchemes": {"token": _TOKEN},
        },
    }


def _operation(
    operation: Operation, known: dict[str, Schema], components: dict[str, Schema]
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": _parameters(operation),
        # Without one, too: as long as no token was made nobody needs one.
        "security": [{"token": [operation.need.action]}, {}],
    }
    if operation.description:
        shown["description"] = operation.description
    if operation.body is not None:
        schema = known[repr(operation.body.kind)]
        content = {"schema": schema, "example": example_of(schema, components)}
        required = not operation.body.may_be_empty
        shown["requestBody"] = {"required": required, "content": {"application/json": content}}
    shown["responses"] = {
        str(status): _success(operation, status, None if kind is None else known[repr(kind)])
        for status, kind in sorted(operation.answers.items())
    } | _refusals(operation.problems)
    return shown


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name][0],
            "schema": _PATH_PARAMETERS[name][1],
            "example": _PATH_EXAMPLES[name],
        }
        for name in operation.parameters
    ]
    in_query = [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "schema": dict(parameter.schema),
        }
        for parameter in operation.query
    ]
    return in_path + in_query


def _success(operation: Operation, status: int, data: Schema | None) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": _REQUEST_ID}
    if status == 202 and operation.id == "publishMessage":
        headers["Location"] = _LOCATION
    shown: dict[str, Any] = {"description": http.HTTPStatus(status).phrase, "headers": headers}
    links = _links(operation)
    if links:
        shown["links"] = links
    if data is not None:
        schema = {"type": "object", "required": ["data"], "properties": {"data": data}}
        shown["content"] = {"application/json": {"schema": schema}}
    return shown


def _links(operation: Operation) -> dict[str, Any]:
    """Say which operations can go on with what this one answers."""
    values, names = _LINKS.get(operation.id, ({}, []))
    links: dict[str, Any] = {}
    for other in OPERATIONS:
        if not names or other.parameters != names or other is operation:
            continue
        if "id" in names and other.path.split("/")[3] not in operation.path:
            continue
        link: dict[str, Any] = {"operationId": other.id, "parameters": values}
        settles = other.body is not None and not other.body.may_be_empty
        if operation.id == "claimMessages" and settles:
            link["requestBody"] = {"receipt_token": _RECEIPT}
        links[other.id] = link
    return links


def _refusals(codes: Sequence[Code]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(code.status, []).append(f"`{code.name}`")
    return {
        str(status): {
            "description": " or ".join(names),
            "headers": {"X-Request-Id": _REQUEST_ID},
            "content": {_problem.PROBLEM_JSON: {"schema": {"$ref": REF + Problem.__name__}}},
        }
        for status, names in sorted(by_status.items())
    }


@cache
def _body() -> bytes:
    return msgspec.json.encode(document())


class OpenApiResource:
    """GET /openapi.json"""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = MEDIA_TYPE
        resp.data = _body()


def add_routes(app: falcon.App[Any, Any]) -> None:
    """Serve the document on ``app``."""
    app.add_route("/openapi.json", OpenApiResource())
