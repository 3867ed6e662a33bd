"""The benchmark itself works: it measures, judges and says so. Its figures are not tested here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from .http_server import child_environment

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

# The tests also run where only the packages are.
pytestmark = pytest.mark.skipif(not (SCRIPTS / "bench.py").is_file(), reason="no scripts here")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, made to do as little as it can."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    module = importlib.import_module("bench")
    figures = importlib.import_module("bench_figures")
    tiny = figures.Sizes(
        rounds=1,
        calls=4,
        turn=2,
        threads=4,
        singles=16,
        slice_s=0.1,
        connections=2,
        polls=5,
        crowd=5,
        samples=3,
        fan_out=3,
        fan_outs=2,
        park_s=0.05,
        backlog=2_000,
        acked=1_000,
        cycled=1_000,
        keys=1_000,
        leased=1_000,
        priorities=3,
        runs=20,
        delayed=100,
        delayed_s=0.1,
        topics=5,
        idle_s=0.1,
        wal_pages=1,
    )
    monkeypatch.setattr(module, "QUICK", tiny)
    # Whatever the tests' disk is: nothing is judged here.
    monkeypatch.setattr(module, "_filesystem", lambda path: "ext4")
    return module


IN_PROCESS = (
    *("publish-many", "cycle", "singles", "fan-out", "rows", "wake-all"),
    *("random-acks", "keys", "priorities", "counters", "delayed", "worker"),
)
WITH_CHILDREN = (
    *("posts", "wake", "parked", "polls-2000", "backlog", "idle"),
    *("auth", "v1-batches", "v1-cycle", "client", "workers", "workers-wake", "metrics", "help"),
)

IN_A_BROWSER = ("dashboard",)


def check_row(bench: Any, folder: Path, row: str) -> None:
    """Check that a row ends with at least one figure that is judged, and cleans up."""
    figures = bench.run([row], bench.QUICK, str(folder))

    assert any(each.met is not None for each in figures)
    assert all(each.value >= 0 for each in figures)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("row", IN_PROCESS)
def test_a_row_measures_something(bench: Any, tmp_path: Path, row: str) -> None:
    """It must not wait for the next full run to be seen failing."""
    check_row(bench, tmp_path, row)


@pytest.mark.slow
@pytest.mark.parametrize("row", WITH_CHILDREN)
def test_a_row_with_other_processes_measures_something(
    bench: Any, tmp_path: Path, row: str
) -> None:
    """These start servers and clients, which are to find the code under test."""
    check_row(bench, tmp_path, row)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_browser")
@pytest.mark.parametrize("row", IN_A_BROWSER)
def test_a_row_in_a_browser_measures_something(bench: Any, tmp_path: Path, row: str) -> None:
    check_row(bench, tmp_path, row)


def test_every_row_is_tried_here(bench: Any) -> None:
    """A new row belongs into one of the lists."""
    assert {*IN_PROCESS, *WITH_CHILDREN, *IN_A_BROWSER} == set(bench.ROWS)


def figure(bench: Any, **wanted: float) -> Any:
    """Return a figure of 2 with what is wanted of it."""
    return bench.Figure("a figure", 2.0, "×", **wanted)


def test_a_figure_is_judged_by_what_is_wanted(bench: Any) -> None:
    """At least and at most include the figure itself; nothing wanted, nothing judged."""
    assert figure(bench, at_least=2).met is True
    assert figure(bench, at_least=2.1).met is False
    assert figure(bench, at_most=2).met is True
    assert figure(bench, at_most=1.9).met is False
    assert figure(bench).met is None


@pytest.mark.parametrize(("at_least", "code", "word"), [(2, 0, "met"), (3, 1, "NOT met")])
def test_the_exit_code_says_whether_all_is_met(
    bench: Any, monkeypatch: pytest.MonkeyPatch, at_least: float, code: int, word: str
) -> None:
    """A script around it need not read the table."""
    monkeypatch.setitem(bench.ROWS, "cycle", lambda _: [figure(bench, at_least=at_least)])

    result = CliRunner().invoke(bench.main, ["--quick", "--only", "cycle"])

    assert result.exit_code == code
    assert "a figure  " in result.stdout
    assert word in result.stdout


def test_the_figures_come_as_json_too(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With - there is nothing but JSON on the standard output."""
    monkeypatch.setitem(bench.ROWS, "cycle", lambda _: [figure(bench, at_least=1)])

    result = CliRunner().invoke(bench.main, ["--quick", "--only", "cycle", "--json", "-"])

    report = json.loads(result.stdout)
    assert [each["met"] for each in report["figures"]] == [True]
    assert report["machine"]["cpus"] >= 1


def test_a_disk_in_memory_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that costs nothing makes every figure wrong."""
    monkeypatch.setattr(bench, "_filesystem", lambda path: "tmpfs")

    result = CliRunner().invoke(bench.main, ["--quick"])

    assert result.exit_code == 2
    assert "in memory" in result.stderr
