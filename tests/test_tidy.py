"""The style as a test: what a reviewer should never have to say twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("storage", "actors", "api")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100

PACKAGES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
SCRIPTS = sorted(path for name in ("examples", "scripts") for path in (ROOT / name).glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EVERYTHING = [*PACKAGES, *SCRIPTS, *TESTS]
ASSETS = sorted((ROOT / "api" / "ui" / "assets").glob("*"))

# The tests also run against the built wheel, away from the packages' sources.
pytestmark = pytest.mark.skipif(not PACKAGES, reason="no sources here")


def where(path: Path, line: int) -> str:
    """Name a place in a form that editors and terminals can follow."""
    return f"{path.relative_to(ROOT)}:{line}"


def read_lines(path: Path) -> list[str]:
    """Read a module as lines."""
    return path.read_text(encoding="utf-8").splitlines()


def walk(path: Path) -> Iterator[ast.AST]:
    """Walk a module's syntax tree."""
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path)))


def find_text(pattern: str, paths: list[Path]) -> list[str]:
    """Find the lines that a pattern matches, strings and comments included."""
    return [
        where(path, number)
        for path in paths
        for number, line in enumerate(read_lines(path), 1)
        if re.search(pattern, line)
    ]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of everything that a module imports."""
    package = ["blockqueue", *path.relative_to(ROOT).parts[:-1]]
    for node in walk(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def layer_of(name: str) -> str | None:
    """Name the layer that an import reaches; the facade, at the top, sees all of them."""
    first, *rest = name.split(".")
    if first != "blockqueue":
        return None
    return rest[0] if rest and rest[0] in LAYERS else "api"


def test_no_file_is_too_long_to_read_at_once() -> None:
    """Past this length a file holds more than one noun: split it."""
    long = [
        path for path in [*PACKAGES, *SCRIPTS, *ASSETS] if len(read_lines(path)) > FILE_LINES_MAX
    ]

    assert [str(path.relative_to(ROOT)) for path in long] == []


def test_no_function_is_longer_than_a_screen() -> None:
    """Past this length a function does more than one thing: name the parts."""
    long = [
        where(path, node.lineno)
        for path in EVERYTHING
        for node in walk(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]

    assert long == []


def test_no_line_is_wider_than_the_page() -> None:
    """Long strings and comments too: the formatter leaves those alone."""
    assert find_text(rf"^.{{{LINE_COLUMNS_MAX + 1},}}", [*EVERYTHING, *ASSETS]) == []


def test_nothing_is_left_for_later() -> None:
    """A note to oneself is an issue, not a comment."""
    assert find_text(r"\b(TO[D]O|FIX[M]E|XX[X])\b", [*EVERYTHING, *ASSETS]) == []


def test_no_text_becomes_markup_or_script() -> None:
    """What the dashboard shows is anybody's: it becomes text nodes and attributes."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bFunction\("

    assert find_text(ways, ASSETS) == []


def test_nothing_sleeps() -> None:
    """A sleep is a guess: wait for an event, a condition or a queue, with a timeout."""
    sleeps = r"\btime\.sleep\b|\bfrom time import\b.*\bsleep\b"

    assert find_text(sleeps, [*PACKAGES, *TESTS]) == []


def test_only_the_command_line_prints() -> None:
    """The output of a program that embeds a queue is its own: log instead."""
    prints = [
        where(path, node.lineno)
        for path in PACKAGES
        if not path.match("api/cli*.py")
        for node in walk(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]

    assert prints == []


def test_the_standard_librarys_sqlite_is_never_used() -> None:
    """It may be old enough to lose a WAL, and two SQLites in one process break file locks."""
    found = [
        where(path, line)
        for path in PACKAGES
        for line, name in imports(path)
        if name.split(".")[0] == "sqlite3"
    ]

    assert found == []


def waits_for_ever(call: ast.Call) -> bool:
    """Tell whether an ask has neither a timeout nor block=False."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    timeout, block = given.get("timeout"), given.get("block")
    bounded = timeout is not None and not (
        isinstance(timeout, ast.Constant) and timeout.value is None
    )
    return not bounded and not (isinstance(block, ast.Constant) and block.value is False)


def asks_an_actor(call: ast.Call) -> bool:
    """Tell whether this is a ref's ask; ``System.ask`` only returns a promise."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "ask"):
        return False
    asked = call.func.value
    return not (isinstance(asked, ast.Attribute) and asked.attr == "system") and not (
        isinstance(asked, ast.Name) and asked.id in {"self", "system"}
    )


def test_no_question_waits_for_ever() -> None:
    """An actor that dies between the check and the put never answers."""
    asks = [
        where(path, node.lineno)
        for path in PACKAGES
        if not path.is_relative_to(ROOT / "storage")
        for node in walk(path)
        if isinstance(node, ast.Call) and asks_an_actor(node) and waits_for_ever(node)
    ]

    assert asks == []


def test_imports_only_go_down() -> None:
    """The front knows the actors, the actors know the storage, never the other way round."""
    upwards = [
        f"{where(path, line)} imports {name}"
        for path in PACKAGES
        for line, name in imports(path)
        if (reached := layer_of(name)) is not None
        and LAYERS.index(reached) > LAYERS.index(path.relative_to(ROOT).parts[0])
    ]

    assert upwards == []
