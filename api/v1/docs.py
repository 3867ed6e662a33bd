"""The OpenAPI document as a page for people: plain HTML, no script, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from shlex import quote
from typing import Any, ClassVar

import falcon

from blockqueue.api._needs import OBSERVE, Needs

from . import openapi
from ._schemas import REF, Schema
from ._table import PREFIX

_HOST = "http://localhost:8080"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page() -> str:
    """Return the page."""
    document = openapi.document()
    info = document["info"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    by_tag = {tag["name"]: _tag(tag, operations) for tag in document["tags"]}
    objects = document["components"]["schemas"]
    title = escape(f"{info['title']} {info['version']}")
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title>",
            '<link rel="stylesheet" href="/docs/style.css"></head><body>',
            f"<nav><p>{title}</p><ul>",
            *(f'<li><a href="#{escape(name)}">{escape(name)}</a></li>' for name in by_tag),
            '<li><a href="#Objects">Objects</a></li></ul></nav>',
            f"<main><h1>{title}</h1>{_text(info['description'])}",
            '<p>The same <a href="/openapi.json">as OpenAPI</a>.</p>',
            *by_tag.values(),
            '<section id="Objects"><h2>Objects</h2>',
            *(_object(name, schema) for name, schema in objects.items()),
            "</section></main></body></html>",
        )
    )


def _text(text: str) -> str:
    """Return paragraphs in which `words` in backticks are code."""
    paragraphs = (_inline(each) for each in text.split("\n\n"))
    return "".join(f"<p>{each}</p>" for each in paragraphs)


def _inline(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _tag(tag: dict[str, str], operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    name = escape(tag["name"])
    shown = [_operation(*each) for each in operations if tag["name"] in each[2]["tags"]]
    introduction = f'<section id="{name}"><h2>{name}</h2>{_text(tag["description"])}'
    return introduction + "".join(shown) + "</section>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    name = escape(operation["operationId"])
    where = escape(PREFIX + path)
    parts = [
        f'<article id="{name}"><h3><span class="{method.lower()}">{method}</span> ',
        f"<code>{where}</code></h3><p><strong>{_inline(operation['summary'])}</strong></p>",
        _text(operation["description"]) if "description" in operation else "",
        _parameters(operation["parameters"]),
        _body(operation),
        _answers(operation["responses"]),
        f"<pre><code>{escape(_curl(method, path, operation))}</code></pre></article>",
    ]
    return "".join(parts)


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>",
            escape(each["in"]),
            _kind(each["schema"]) + _limits(each["schema"]),
            _inline(each["description"]),
        )
        for each in parameters
    ]
    return _table(("Parameter", "In", "Type", ""), rows)


def _body(operation: dict[str, Any]) -> str:
    if "requestBody" not in operation:
        return ""
    body = operation["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    optional = "" if body["required"] else " (may be left out)"
    return f"<p>Body: {_kind(schema)}{_limits(schema)}{optional}</p>"


def _answers(responses: dict[str, dict[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = []
    for status, response in responses.items():
        shown = ""
        for media_type, content in response.get("content", {}).items():
            schema = content["schema"]
            if media_type == "application/json":
                schema = schema["properties"]["data"]
            shown = _kind(schema)
        rows.append((escape(status), _inline(response["description"]), shown))
    return _table(("Status", "", "Data"), rows)


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    words = ["curl", *(["-X", method] if method != "GET" else [])]
    words.append(quote(_HOST + PREFIX + path))
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        words += ["\\\n  -d", quote(json.dumps(example, ensure_ascii=False))]
    return " ".join(words)


def _object(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(member)}</code>",
            _kind(each) + _limits(each),
            ("" if member in required else "May be absent. ")
            + _inline(each.get("description", "")),
        )
        for member, each in schema.get("properties", {}).items()
    ]
    head = f'<article id="object-{escape(name)}"><h3>{escape(name)}</h3>'
    table = _table(("Member", "Type", ""), rows)
    return head + _text(schema.get("description", "")) + table + "</article>"


def _kind(schema: Schema) -> str:
    """Say in words and links what a schema wants."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(REF))
        return f'<a href="#object-{name}">{name}</a>'
    if "enum" in schema:
        values = [each for each in schema["enum"] if each is not None]
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in values)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else [each for each in kinds if each != "null"]
    if kinds == ["array"]:
        return f"list of {_kind(schema['items'])}"
    if not kinds and "anyOf" in schema:
        choices = [each for each in schema["anyOf"] if each != {"type": "null"}]
        return " or ".join(map(_kind, choices))
    if kinds == ["object"] and "additionalProperties" in schema:
        return "object of strings"
    return escape(schema.get("format", " or ".join(kinds)))


def _limits(schema: Schema) -> str:
    """Say in words how long, how large, how many, and what if it is absent."""
    said = [
        f"{schema.get(low, '')} to {schema.get(high, '')} {unit}".strip()
        for low, high, unit in (
            ("minimum", "maximum", ""),
            ("minLength", "maxLength", "characters"),
            ("minItems", "maxItems", "items"),
        )
        if high in schema
    ]
    if "default" in schema:
        said.append(f"default <code>{escape(json.dumps(schema['default']))}</code>")
    return f" <small>({', '.join(said)})</small>" if said else ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    heads = "".join(f"<th>{each}</th>" for each in head)
    cells = ("".join(f"<td>{each}</td>" for each in row) for row in rows)
    body = "".join(f"<tr>{each}</tr>" for each in cells)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


@cache
def _page() -> bytes:
    return page().encode()


@cache
def _style() -> bytes:
    return resources.files("blockqueue.api.v1").joinpath("docs.css").read_bytes()


class DocsResource:
    """GET /docs"""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        resp.set_headers(_HEADERS)
        resp.data = _page()


class StyleResource:
    """GET /docs/style.css"""

    needs: ClassVar[Needs] = {"GET": OBSERVE}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "text/css; charset=utf-8"
        resp.set_headers(_HEADERS)
        resp.data = _style()


def add_routes(app: falcon.App[Any, Any]) -> None:
    """Serve the page on ``app``."""
    app.add_route("/docs", DocsResource())
    app.add_route("/docs/style.css", StyleResource())
