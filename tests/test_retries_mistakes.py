"""`blockqueue retries` answers mistakes with one clear line, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from blockqueue import BlockQueue
from blockqueue.api.cli_retries import retries

from .retries_bucket import Prepared


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path / "queue.db")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cardt counter", "there is no topic 'cardt'; the nearest is 'cart'"),
        ("cart countre", "there is no subscriber 'countre'; the nearest is 'counter'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    prepared: Prepared, words: str, said: str
) -> None:
    shown = CliRunner().invoke(retries, [*words.split(), "--db", str(prepared.path)])

    assert (shown.exit_code, shown.stdout, shown.stderr) == (3, "", f"Error: {said}\n")


def test_an_empty_queue_has_no_nearest_name(tmp_path: Path) -> None:
    BlockQueue(tmp_path / "queue.db").close()

    shown = CliRunner().invoke(retries, ["a", "b", "--db", str(tmp_path / "queue.db")])

    assert shown.stderr == "Error: there is no topic 'a'; there is no topic at all\n"


def test_a_wrong_path_makes_no_database(tmp_path: Path) -> None:
    missing = tmp_path / "typo.db"
    shown = CliRunner().invoke(retries, ["a", "b"], env={"BLOCKQUEUE_DB": str(missing)})
    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"Error: there is no database {missing}; ")

    missing.touch()
    shown = CliRunner().invoke(retries, ["a", "b", "--db", str(missing)])
    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"Error: {missing} is empty, not a database; ")

    assert [each.name for each in tmp_path.iterdir()] == ["typo.db"]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header\n" * 100)

    shown = CliRunner().invoke(retries, ["a", "b", "--db", str(path)])

    assert (shown.exit_code, shown.stderr) == (1, f"Error: {path} is not a database\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--replay --drop", "choose one of --replay and --drop"),
        ("--dry-run", "--dry-run and --rate go with --replay or --drop"),
        ("--rate 5", "--dry-run and --rate go with --replay or --drop"),
        ("--replay --rate 0", "0 is not in the range"),
        ("--limit 0", "0 is not in the range"),
        ("--older-than 3d", "'3d' is not a duration"),
        ("--newer-than -3h", "'-3h' is negative"),
        ("--id 17", "'17' is not the id of a message or a delivery"),
        ("--state late", "'late' is not one of"),
    ],
)
def test_wrong_options_are_refused(prepared: Prepared, arguments: str, said: str) -> None:
    refused = prepared.run(*arguments.split())

    assert refused.exit_code == 2
    assert said in refused.stderr
    assert len(prepared.states()) == 2


def test_an_id_of_somebody_else_is_refused(prepared: Prepared) -> None:
    with BlockQueue(prepared.path) as queue:
        queue.create_topic("other topic", ["counter"])
        elsewhere = queue.publish("other topic", "x").id
    others = prepared.delivery_id(prepared.dead, "other")

    assert "belong to topic 'cart'" in prepared.run("--replay", "--id", elsewhere).stderr
    assert "belong to subscriber 'counter'" in prepared.run("--drop", "--id", others).stderr
    assert len(prepared.states()) == 2


def test_an_id_that_is_not_in_the_bucket_is_an_error(prepared: Prepared) -> None:
    with BlockQueue(prepared.path) as queue:
        fresh = queue.publish("cart", "fine").id

    done = prepared.run("--replay", "--id", fresh, "--id", prepared.dead)

    assert (done.exit_code, done.stdout) == (3, "replayed 1 of 1 message\n")
    assert done.stderr == f"Error: not among them: {fresh}\n"
