"""What is installed is what the checkout holds."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.resources
from pathlib import Path

import pytest

import blockqueue

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("actors", "api", "storage")

# The tests also run against the built wheel, away from the packages' sources.
in_checkout = pytest.mark.skipif(not (ROOT / "actors").is_dir(), reason="no sources here")


def read_setup() -> configparser.RawConfigParser:
    """Read setup.cfg as setuptools does: without interpolation."""
    setup = configparser.RawConfigParser()
    assert setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def package_of(folder: Path) -> str:
    """Name the package that a folder of the checkout is installed as."""
    if folder == ROOT / "api/facade":
        return "blockqueue"
    if folder == ROOT / "api/client":
        return "blockqueue.client"
    if folder == ROOT / "api/otel":
        return "blockqueue.otel"
    if folder == ROOT / "api/testing":
        return "blockqueue.testing"
    if folder == ROOT / "api/worker":
        return "blockqueue.worker"
    return "blockqueue." + ".".join(folder.relative_to(ROOT).parts)


@in_checkout
def test_every_folder_with_modules_is_a_listed_package() -> None:
    """An unlisted folder would import in a checkout and be missing from the wheel."""
    folders = {module.parent for layer in LAYERS for module in (ROOT / layer).rglob("*.py")}

    listed = set(read_setup()["options"]["packages"].split())

    assert {package_of(folder) for folder in folders} == listed


@in_checkout
def test_every_package_has_an_init() -> None:
    """Without one a folder is a namespace, which the type checkers treat differently."""
    missing = [
        name for name in (*LAYERS, "api/facade") if not (ROOT / name / "__init__.py").exists()
    ]

    assert missing == []


@in_checkout
def test_every_data_file_is_shipped() -> None:
    """A file that is not a module reaches the wheel only if package_data names it."""
    shipped = set[Path]()
    for package, patterns in read_setup()["options.package_data"].items():
        folder = ROOT / (
            "api/facade" if package == "blockqueue" else package.split(".", 1)[1].replace(".", "/")
        )
        for pattern in patterns.replace(",", " ").split():
            shipped.update(folder.glob(pattern))

    files = {
        path
        for layer in LAYERS
        for path in (ROOT / layer).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }

    assert files - shipped == set()


def test_the_version_is_the_one_in_setup_cfg() -> None:
    """The version is written down once, or the copies agree."""
    assert blockqueue.__version__ == read_setup()["metadata"]["version"]


def test_the_package_says_that_it_is_typed() -> None:
    """Without py.typed a caller's type checker ignores every annotation."""
    assert (importlib.resources.files("blockqueue") / "py.typed").is_file()


def test_nothing_but_blockqueue_is_installed_at_the_top() -> None:
    """`import actors` must not reach ours: that name belongs to the caller."""
    owners = importlib.metadata.packages_distributions()

    ours = {name for name, packages in owners.items() if "blockqueue" in packages}

    # A bare checkout has nothing installed.
    assert ours <= {"blockqueue"}
