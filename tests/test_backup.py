"""Backups: of a queue that is in use, checked, and back again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blockqueue import BlockQueue, LeaseLost
from blockqueue.api.cli import main
from blockqueue.storage import DatabaseUnusable, backup, restore

from .embedded_helpers import open_queue
from .http_server import create_topic, publish, read, serving
from .test_doctor import problems


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def texts(path: Path) -> list[str | bytes]:
    with BlockQueue(path) as queue:
        return [each.message for each in queue.claim("cart", "worker", limit=1000)]


def test_a_backup_is_one_moment_of_a_queue_that_goes_on(tmp_path: Path) -> None:
    """Whoever publishes meanwhile is not held up, and is not in it."""
    target = tmp_path / "copy.db"
    seen: list[tuple[int, int]] = []
    with open_queue(tmp_path) as (queue, _):
        for number in range(60):
            queue.publish("cart", f"{number} " + os.urandom(20_000).hex())

        def go_on(done: int, total: int) -> None:
            seen.append((done, total))
            queue.publish("cart", "meanwhile")

        nbytes = backup(str(tmp_path / "queue.db"), str(target), on_progress=go_on)

    assert len(seen) > 1
    assert seen[-1] == (nbytes, nbytes)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db"]
    found = texts(target)
    assert len(found) == 60
    assert "meanwhile" not in found
    assert len(texts(tmp_path / "queue.db")) == 60 + len(seen)


def test_a_backup_of_a_running_server(tmp_path: Path) -> None:
    """By the command, beside it."""
    path, target = tmp_path / "queue.db", tmp_path / "copy.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", "a", "b")
        result = run("backup", target, "--db", path)
        assert result.exit_code == 0, result.output
        assert result.output.endswith("MiB, checked\n")
        publish(server, "cart", "c")
        assert [each["message"] for each in read(server, "cart")] == ["a", "b", "c"]

    assert texts(target) == ["a", "b"]


def test_what_is_there_is_only_overwritten_by_force(tmp_path: Path) -> None:
    """Yesterday's backup is better than none."""
    target = tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
    target.write_text("yesterday")

    refused = run("backup", target, "--db", tmp_path / "queue.db")
    assert refused.exit_code == 4
    assert refused.output == f"Error: {target} is there already; --force overwrites it\n"
    assert target.read_text() == "yesterday"

    assert run("backup", "--force", target, "--db", tmp_path / "queue.db").exit_code == 0
    assert texts(target) == ["a"]


def test_a_database_is_not_overwritten_by_a_backup(tmp_path: Path) -> None:
    """Not by force either: its log would be taken for the backup's."""
    path, other = tmp_path / "queue.db", tmp_path / "other.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        with BlockQueue(other) as used:
            used.create_topic("cart", ["worker"])

            refused = run("backup", "--force", other, "--db", path)

            assert (refused.exit_code, "restore" in refused.output) == (4, True)
            used.publish("cart", "of the other")
        assert run("backup", "--force", path, "--db", path).exit_code == 4
    assert run("backup", "--force", path, "--db", path).exit_code == 4
    assert texts(path) == ["a"]
    assert texts(other) == ["of the other"]


def test_two_backups_to_one_file_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    """As when one by cron takes longer than an hour: the second is refused, the first is whole."""
    path, target = tmp_path / "queue.db", tmp_path / "copy.db"
    seen: list[Result] = []
    with open_queue(tmp_path) as (queue, _):
        for number in range(60):
            queue.publish("cart", f"{number} " + os.urandom(20_000).hex())

        def start_another(done: int, total: int) -> None:
            seen.append(run("backup", "--force", target, "--db", path))

        backup(str(path), str(target), on_progress=start_another)

    assert {result.exit_code for result in seen} == {4}
    assert seen[0].output == f"Error: {target} is being made by another program\n"
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db"]
    assert len(texts(target)) == 60


def test_what_a_killed_backup_has_left_is_no_obstacle(tmp_path: Path) -> None:
    """Nor is it of use: it is written anew, and for its owner alone."""
    path, target = tmp_path / "queue.db", tmp_path / "copy.db"
    part = tmp_path / "copy.db.part"
    part.write_bytes(b"x" * 100_000)
    part.chmod(0o644)
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        backup(str(path), str(target))

    assert target.stat().st_mode & 0o777 == 0o600
    assert not part.exists()
    assert texts(target) == ["a"]


def test_a_damaged_database_makes_no_backup(tmp_path: Path) -> None:
    """The last good one stays, and the damage is named."""
    path, target = tmp_path / "queue.db", tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        queue.change(lambda tx: tx.change("UPDATE block SET data = zeroblob(9)", ()))
    target.write_text("yesterday")

    result = run("backup", "--force", target, "--db", path)

    assert result.exit_code == 1
    assert "is damaged" in result.output
    assert target.read_text() == "yesterday"
    assert not target.with_name("copy.db.part").exists()


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    """A typing error must not look like a backup."""
    target = tmp_path / "copy.db"
    for made in ([], ["copy.db"]):
        result = run("backup", "--force", target, "--db", tmp_path / "queue.db")

        assert (result.exit_code, "there is no database" in result.output) == (1, True)
        assert os.listdir(tmp_path) == made
        target.touch()


# The way back.


def test_a_restore_brings_back_that_moment(tmp_path: Path) -> None:
    """What came after it is gone, what was done after it comes again; the old one is kept."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish_many("cart", ["a", "b"])
        backup(str(path), str(copy))
        (first,) = queue.claim("cart", "worker", limit=1)
        first.ack()
        queue.publish("cart", "c")

    assert run("restore", copy, "--db", path).exit_code == 4
    result = run("restore", "--force", copy, "--db", path)

    assert result.exit_code == 0, result.output
    assert problems(path) == {}
    assert texts(path) == ["a", "b"]
    (kept,) = (each for each in tmp_path.glob("queue.db.replaced-*") if "-wal" not in each.name)
    assert texts(kept) == ["b", "c"]
    assert not path.with_name("queue.db.part").exists()


def test_ids_and_receipts_from_after_the_backup_are_nobody_elses(tmp_path: Path) -> None:
    """A consumer of then holds nothing, though the same numbers are given again."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        backup(str(path), str(copy))
        lost = queue.publish("cart", "lost")
        (old,) = queue.claim("cart", "worker", limit=1)
        old_receipt = old.receipt_token
    restore(str(copy), str(path), overwrite=True)

    with BlockQueue(path) as queue:
        other = queue.publish("cart", "other")
        (new,) = queue.claim("cart", "worker", limit=1)

        assert other.id != lost.id
        assert (new.id, new.delivery_count) == (old.id, old.delivery_count)
        assert new.receipt_token != old_receipt
        with pytest.raises(LeaseLost):
            queue.ack("cart", "worker", [(old.id, old_receipt)])
        new.ack()


def test_a_database_that_is_in_use_is_not_replaced(tmp_path: Path) -> None:
    """Not even by force; once its server has ended, it is."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", "a")
        backup(str(path), str(copy))
        publish(server, "cart", "b")

        refused = run("restore", "--force", copy, "--db", path)

        assert refused.exit_code == 4
        assert "is in use: stop every program that has it open" in refused.output
        assert [each["message"] for each in read(server, "cart")] == ["a", "b"]
        assert server.stop() == 0
    assert run("restore", "--force", copy, "--db", path).exit_code == 0
    assert texts(path) == ["a"]


def test_what_is_no_file_is_neither_opened_nor_replaced(tmp_path: Path) -> None:
    """Neither a pipe nor a device, by force or not, and nothing is made beside it."""
    with open_queue(tmp_path):
        pass
    queue, pipe = str(tmp_path / "queue.db"), str(tmp_path / "pipe")
    os.mkfifo(pipe)
    before = set(tmp_path.iterdir())
    for use in (
        lambda: BlockQueue(pipe),
        lambda: backup(queue, pipe, overwrite=True),
        lambda: backup(pipe, str(tmp_path / "copy.db")),
        lambda: restore(queue, pipe, overwrite=True),
        lambda: restore(pipe, str(tmp_path / "new.db")),
    ):
        with pytest.raises(DatabaseUnusable, match=r"not a file|there is no"):
            use()
    assert "not a file" in str(problems(tmp_path / "pipe"))
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert set(tmp_path.iterdir()) == before


def test_a_killed_server_is_no_obstacle(tmp_path: Path) -> None:
    """Its log goes aside with its database, and does not end up in the restored one."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with serving(path) as server:
        create_topic(server, "cart")
        publish(server, "cart", "a")
        backup(str(path), str(copy))
        publish(server, "cart", "b")
    assert path.with_name("queue.db-wal").stat().st_size > 0

    assert restore(str(copy), str(path), overwrite=True) is not None
    assert not path.with_name("queue.db-wal").exists()
    assert texts(path) == ["a"]


@pytest.mark.parametrize("damage", ["text", "cut", "log"])
def test_what_is_no_whole_backup_is_refused(tmp_path: Path, damage: str) -> None:
    """The database stays as it is."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        backup(str(path), str(copy))
    if damage == "text":
        copy.write_text("Dear Sir or Madam, " * 1000)
    elif damage == "cut":
        os.truncate(copy, copy.stat().st_size // 8192 * 4096)
    else:
        copy.with_name("copy.db-wal").write_bytes(b"x" * 100)

    with pytest.raises(DatabaseUnusable):
        restore(str(copy), str(path), overwrite=True)

    assert texts(path) == ["a"]


def test_what_is_restored_is_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the file that it was copied from, which may have changed, or be read wrongly."""
    path, copy = tmp_path / "queue.db", tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        backup(str(path), str(copy))

    def copy_badly(source: str, target: str) -> None:
        Path(target).write_bytes(Path(source).read_bytes())
        os.truncate(target, os.stat(target).st_size // 8192 * 4096)

    monkeypatch.setattr("blockqueue.storage._backup.shutil.copyfile", copy_badly)
    with pytest.raises(DatabaseUnusable):
        restore(str(copy), str(path), overwrite=True)

    assert texts(path) == ["a"]
    assert not path.with_name("queue.db.part").exists()


DOCS = Path(__file__).resolve().parent.parent / "docs/backup.md"


def test_the_commands_of_the_page_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, each ends well."""
    monkeypatch.chdir(tmp_path)
    with BlockQueue("blockqueue.db") as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish("cart", "a")
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("blockqueue ")]
    assert len(lines) == 2
    for line in lines:
        result = run(*line.split()[1:])
        assert result.exit_code == 0, result.output
    assert texts(tmp_path / "blockqueue.db") == ["a"]
