"""Write docs/reference/: the HTTP calls from the OpenAPI document, Python from its docstrings.

--check: write nothing; exit with 1 if what is there is not what would be written.
"""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import blockqueue
from blockqueue.api.v1 import openapi

_FOLDER = Path(__file__).resolve().parent.parent / "docs/reference"
_MADE = "<!-- made by: scripts/make_reference.py, from docstrings and the OpenAPI document -->\n"
_SECTION = re.compile(r"^(Args|Raises|Returns):$")
_ENTRY = re.compile(r"^    (\S[^:]*): (.*)$")
#: What is told in an order of its own; all other public names follow in theirs.
_FIRST = ("BlockQueue", "Subscriber", "Message", "Delivery", "Worker", "WorkerGroup", "Job")
#: What the queue hands out, and nobody makes.
_GIVEN = {"Bucket", "Delivery", "Job", "Receipt", "Receipts", "Schedules", "Tokens", "Transaction"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/reference/.")
    parser.add_argument("--check", action="store_true", help="only look whether it is current")
    parser.add_argument("--folder", default=_FOLDER, type=Path)
    arguments = parser.parse_args()
    pages = {"http.md": "\n".join(http_page()), "python.md": "\n".join(python_page())}
    old = [name for name, text in pages.items() if read(arguments.folder / name) != text]
    if not arguments.check:
        arguments.folder.mkdir(exist_ok=True)
        for name in old:
            (arguments.folder / name).write_text(pages[name])
    elif old:
        sys.exit(f"not current: {', '.join(old)}; run scripts/make_reference.py")


def read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


# The HTTP calls.


def http_page() -> Iterator[str]:
    document = openapi.document()
    yield f"# The HTTP calls\n\n{_MADE}\n{document['info']['description']}\n"
    for tag in document["tags"]:
        yield f"## {tag['name']}\n\n{tag['description']}\n"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield from http_operation(method.upper(), path, operation)
    yield "## Objects\n"
    for name, schema in document["components"]["schemas"].items():
        yield from http_object(name, schema)


def http_operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method} /v1{path}\n\n{operation['summary']}\n"
    if "description" in operation:
        yield f"{operation['description']}\n"
    rows = [
        (f"`{each['name']}`", each["in"], kind(each["schema"]), each["description"])
        for each in operation["parameters"]
    ]
    yield from table(("parameter", "in", "type", ""), rows)
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        optional = "" if operation["requestBody"]["required"] else " (may be left out)"
        yield f"Body: {kind(schema)}{optional}\n"
    yield from table(
        ("status", "", "data"),
        [
            (status, answer["description"], answer_kind(answer))
            for status, answer in operation["responses"].items()
        ],
    )


def answer_kind(answer: dict[str, Any]) -> str:
    for media_type, content in answer.get("content", {}).items():
        schema = content["schema"]
        data = schema.get("properties", {}).get("data")
        return kind(data if data is not None and media_type == "application/json" else schema)
    return ""


def http_object(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield f"{schema['description']}\n"
    required = schema.get("required", ())
    rows = [
        (f"`{member}`", kind(each), "" if member in required else "optional", told(each))
        for member, each in schema.get("properties", {}).items()
    ]
    yield from table(("member", "type", "", ""), rows)


def told(schema: dict[str, Any]) -> str:
    """Say what a member means and what it is if it is absent."""
    default = f"Default: `{schema['default']}`." if "default" in schema else ""
    return " ".join(filter(None, [schema.get("description", ""), default]))


def kind(schema: dict[str, Any]) -> str:
    """Name the type of a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'])}"
    for word in ("anyOf", "oneOf"):
        if word in schema and "type" not in schema:
            found = dict.fromkeys(kind(each) for each in schema[word])
            return " or ".join(each for each in found if each)
    named = schema.get("type", "")
    return " or ".join(named) if isinstance(named, list) else str(named)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f"| {' | '.join(head)} |\n|{'---|' * len(head)}"
        for row in rows:
            cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
            yield f"| {' | '.join(cells)} |"
        yield ""


# Python.


def python_page() -> Iterator[str]:
    yield f"# Python\n\n{_MADE}"
    yield "All of these are in `blockqueue`. `Client` and `AsyncClient` of `blockqueue.client` have"
    yield "the methods of `BlockQueue` for a server elsewhere.\n"
    names = [name for name in blockqueue.__all__ if not name.startswith("__")]
    found = {name: getattr(blockqueue, name) for name in [*_FIRST, *names]}
    errors = {name: each for name, each in found.items() if is_error(each)}
    for name, each in found.items():
        if inspect.isclass(each) and name not in errors:
            yield from python_class(name, each)
    yield "## Errors\n\nEach has a `code` that stays the same.\n"
    yield from error_tree(blockqueue.BlockQueueError, set(errors.values()), 0)


def is_error(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, blockqueue.BlockQueueError)


def error_tree(error: type, public: set[type], depth: int) -> Iterator[str]:
    summary = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
    summary = summary.replace("``", "`")
    yield f"{'  ' * depth}- `{error.__name__}` (`{getattr(error, 'code', '')}`): {summary}"
    for below in sorted(error.__subclasses__(), key=lambda each: each.__name__):
        if below in public:
            yield from error_tree(below, public, depth + 1)


def python_class(name: str, each: type) -> Iterator[str]:
    yield f"## {name}\n"
    if not issubclass(each, enum.Enum) and name not in _GIVEN:
        yield f"`{name}{signature(each)}`\n"
    yield from markdown(inspect.getdoc(each) or "")
    if issubclass(each, enum.Enum):
        yield "".join(f"- `{member.name}`\n" for member in each)
    for member, thing in members(each).items():
        told_of = inspect.getdoc(getattr(each, member)) or ""
        if isinstance(thing, property):
            yield f"### {name}.{member}\n"
            yield from markdown(told_of)
        elif inspect.isfunction(thing) and told_of:
            yield f"### {name}.{member}\n\n`{member}{signature(thing)}`\n"
            yield from markdown(told_of)


def members(each: type) -> dict[str, Any]:
    """Return what a class of ours and those of ours above it have, the class's own first."""
    found: dict[str, Any] = {}
    for base in each.__mro__:
        if base.__module__.startswith("blockqueue."):
            for name, thing in base.__dict__.items():
                if not name.startswith("_"):
                    found.setdefault(name, thing)
    return found


def signature(thing: Callable[..., Any]) -> str:
    found = inspect.signature(thing)
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    text = str(found.replace(parameters=parameters)).replace("'", "")
    text = re.sub(r"<class (?:\w+\.)*(\w+)>", r"\1", text)
    return re.sub(r"<(\w+\.\w+): \d+>", r"\1", text)  # a member of an Enum


def markdown(text: str) -> Iterator[str]:
    """Make paragraphs and lists of a docstring."""
    lines: list[str] = []
    in_section = False
    for line in text.replace("``", "`").split("\n"):
        section, entry = _SECTION.match(line), _ENTRY.match(line)
        if section is not None:
            in_section = True
            lines += [f"{section[1]}:", ""]
        elif in_section and entry is not None:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif in_section and line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            in_section = in_section and not line.strip()
            lines.append(line)
    yield "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    main()
