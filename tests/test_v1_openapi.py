"""The description of ``/v1`` for programs and for people."""

from __future__ import annotations

import html.parser
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from blockqueue.api.v1.routes import OPERATIONS

from .http_server import Server
from .v1_client import Client
from .v1_fixtures import client, server

__all__ = ["client", "server"]


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    answer = server.send("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/vnd.oai.openapi+json;version=3.1"
    found: dict[str, Any] = answer.json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_the_document_has_exactly_the_routes(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/v1"}]
    assert {(method, path) for method, path, _ in operations(document)} == {
        (each.method, each.path) for each in OPERATIONS
    }
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """With its parameters, its answers, and the refusals that all have in common."""
    tags = {each["name"] for each in document["tags"]}
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert all(f"{{{name}}}" in path for name in in_path)
        assert path.count("{") == len(in_path)
        assert {"500", "503"} <= operation["responses"].keys()
        assert ("404" in operation["responses"]) == ("{topic}" in path)
        assert ("requestBody" in operation) <= (method in {"POST", "PUT"})


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                target: Any = document
                for step in reference.removeprefix("#/").split("/"):
                    target = target[step]
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(document)


def test_the_examples_are_accepted(client: Client, document: dict[str, Any]) -> None:
    """In an order in which each finds what it needs: none is an invalid request."""
    made = document["paths"]["/topics"]["post"]["requestBody"]["content"]["application/json"]
    client.send("POST", "/v1/topics", made["example"]).ok(201)
    for method, path, operation in operations(document):
        if "requestBody" not in operation or path == "/topics":
            continue
        body = operation["requestBody"]["content"]["application/json"]["example"]
        answer = client.send(method, "/v1" + path_of(path, operation), body)
        assert answer.status != 400, (path, answer)
        assert str(answer.status) in operation["responses"], path


def path_of(path: str, operation: dict[str, Any]) -> str:
    for each in operation["parameters"]:
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", each["example"])
    return path


class _Page(html.parser.HTMLParser):
    """Collects what a page refers to and what it holds, and sees that tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.tags: set[str] = set()
        self.code: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in {"meta", "link"}:
            self._open.append(tag)
        if tag == "pre":
            self.code.append("")
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            if name == "id":
                assert value not in self.names
                self.names.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.code[-1] += data


def test_the_page_is_whole_without_anything_from_elsewhere(server: Server) -> None:
    """No script, and every link leads to something that is there."""
    answer = server.send("GET", "/docs")

    assert answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = _Page(answer.body.decode())
    assert "script" not in page.tags
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.names
        else:
            assert server.send("GET", link).status == 200


def test_the_page_shows_every_operation_with_a_command(
    server: Server, document: dict[str, Any]
) -> None:
    page = _Page(server.send("GET", "/docs").body.decode())

    assert {each[2]["operationId"] for each in operations(document)} <= page.names
    assert len(page.code) == len(OPERATIONS)
    for command in page.code:
        words = shlex.split(command)
        assert words[0] == "curl"
        if "-d" in words:
            json.loads(words[words.index("-d") + 1])


def test_the_style_is_served(server: Server) -> None:
    answer = server.send("GET", "/docs/style.css")

    assert answer.headers["Content-Type"].startswith("text/css")
    assert b"prefers-color-scheme: dark" in answer.body
