"""Every fault is survived, every control is noticed; and the script tells no lies about it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from blockqueue import BlockQueue

from .crash_server import ROOT, child_environment
from .faults.case import Fault, Result, Say, telling
from .faults.integrity import check_database
from .faults.kill_server import KillServer
from .faults.registry import ALL, PROCESS
from .faults.report import Outcome, Report, lines, markdown

SCRIPT = ROOT / "scripts/faults.py"


def report_of(outcome: Outcome) -> Report:
    return Report(7, "2026-01-02", "scripts/faults.py", outcomes=[outcome])


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({each.id for each in ALL}) == len(ALL)
    assert all(0 < each.ci <= each.night for each in ALL)


def test_a_run_without_problems_held() -> None:
    outcome = Outcome("T0", "nothing", result=Result({"cycles": 3}), control=Result({}, ["lost"]))

    assert outcome.is_good
    assert outcome.word == "held"
    assert list(lines(outcome))[1].split() == ["cycles", "3"]
    assert "| T0 | nothing | held | cycles: 3 | caught |" in markdown(report_of(outcome))


def test_a_problem_is_told() -> None:
    outcome = Outcome("T0", "nothing", result=Result({}, ["a message was lost"]))

    assert not report_of(outcome).is_good
    assert outcome.word == "BROKEN"
    assert any("a message was lost" in line for line in lines(outcome))


def test_a_control_that_was_not_noticed_is_told() -> None:
    outcome = Outcome("T0", "nothing", result=Result(), control=Result())

    assert not report_of(outcome).is_good
    assert outcome.word == "CONTROL NOT CAUGHT"
    assert markdown(report_of(outcome)).endswith("| missed |\n")


def test_what_was_not_run_never_counts_as_passed() -> None:
    outcome = Outcome("T0", "nothing", missing="strace is missing")

    assert outcome.word == "not run: strace is missing"
    assert "not run: strace is missing" in next(iter(lines(outcome)))
    assert "held" not in markdown(report_of(outcome))


class Broken(KillServer):
    """A fault whose control never gets to what it is about."""

    def control(self, folder: Path, seed: int, say: Say) -> Result:
        raise OSError(f"{folder}: the control of {self.id} is lost: ")


class DoesNotStart(KillServer):
    def control(self, folder: Path, seed: int, say: Say) -> Result:
        return Result({}, ["the server ended by itself: ImportError"])


class Loses(KillServer):
    def control(self, folder: Path, seed: int, say: Say) -> Result:
        return Result({}, ["ready only after 6.0 s", "lost: 'm', answered with 200"])


@pytest.mark.skipif(not SCRIPT.exists(), reason="no scripts here")
@pytest.mark.parametrize(
    ("fault", "found"),
    [(Broken(), []), (DoesNotStart(), []), (Loses(), ["lost: 'm', answered with 200"])],
    ids=lambda value: type(value).__name__,
)
def test_a_control_is_caught_only_for_what_it_has_broken(
    fault: Fault, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    script = importlib.import_module("faults")

    assert script.attempt_control(fault, tmp_path / "control", 1).problems == found


def test_a_file_that_contradicts_itself_is_a_problem_though_sqlite_finds_none(
    tmp_path: Path,
) -> None:
    path = tmp_path / "queue.db"
    with BlockQueue(str(path)) as queue:
        queue.create_topic("cart", ["counter"])
        queue.publish_many("cart", ["a", "b"])
        queue.ack("cart", "counter", queue.claim("cart", "counter", limit=1))
    assert check_database(path) == []

    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DELETE FROM block")

    (problem,) = check_database(path)
    assert problem.startswith("contradiction: messages that are still to be delivered")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", PROCESS, ids=lambda fault: fault.id)
def test_a_fault_that_is_let_in_is_noticed(fault: Fault, tmp_path: Path) -> None:
    """The budgets of CI run the faults themselves; here are their controls."""
    missing = fault.missing()
    if missing is not None:
        pytest.skip(missing)

    problems = fault.control(tmp_path, 5, print).problems
    assert telling(fault.tells, problems), problems


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="no scripts here")
def test_the_script_runs_a_fault_and_its_control_and_writes_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    command = [sys.executable, str(SCRIPT), "--only", "T1", "--cycles", "2", "--seed", "22"]

    done = subprocess.run(
        [*command, "--control", "--json", str(path)],
        env=child_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (outcome,) = json.loads(path.read_text())["outcomes"]
    assert (outcome["id"], outcome["result"]["problems"]) == ("T1", [])
    assert outcome["result"]["figures"]["cycles"] == 2
    assert outcome["control"]["problems"]
    table = subprocess.run(
        [sys.executable, str(SCRIPT), "--markdown", str(path)],
        env=child_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "| T1 | kill -9 of the server | held |" in table.stdout
