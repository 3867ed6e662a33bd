"""A database that is known by several names is one database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blockqueue import BlockQueue
from blockqueue.storage import DatabaseUnusable, backup, restore

from .embedded_helpers import open_queue
from .test_backup import texts
from .test_doctor import problems


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """Another name, in another folder, of the database ``queue.db``."""
    (tmp_path / "links").mkdir()
    found = tmp_path / "links/other.db"
    found.symlink_to(tmp_path / "queue.db")
    return found


def test_all_who_open_a_database_share_its_lock_and_hints(tmp_path: Path, link: Path) -> None:
    """By whatever name: or they would neither exclude nor wake each other."""
    with open_queue(tmp_path) as (queue, _), BlockQueue(link) as other:
        waiting = other.start_claim("cart", "worker", wait=30)
        queue.publish("cart", "a")
        assert len(waiting.result(30)) == 1
        names = {each.name for each in tmp_path.iterdir()}
        assert {"queue.db-lock", "queue.db-hints", "queue.db-wal"} <= names
        assert os.listdir(link.parent) == [link.name]


def test_a_database_is_made_where_a_link_leads(tmp_path: Path, link: Path) -> None:
    with BlockQueue(link) as queue:
        queue.create_topic("cart", ["worker"])
    assert link.is_symlink()
    assert (tmp_path / "queue.db").is_file()


def test_a_log_is_looked_at_whatever_the_name_is(tmp_path: Path, link: Path) -> None:
    """SQLite keeps it beside the file itself; what it would drop must not be dropped."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish_many("cart", [f"{number}" for number in range(20)])
        for number in range(20):
            queue.publish("cart", f"{number}")
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("queue.db", "queue.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
    data = bytearray((copy / "queue.db-wal").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "queue.db-wal").write_bytes(data)
    link.unlink()
    link.symlink_to(copy / "queue.db")

    assert set(problems(link)) == {"log"}
    with pytest.raises(DatabaseUnusable, match="would drop"):
        BlockQueue(link)


def test_a_restore_leaves_a_link_as_it_is(tmp_path: Path, link: Path) -> None:
    """And replaces what it leads to."""
    copy = tmp_path / "copy.db"
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "a")
        backup(str(link), str(copy))
        queue.publish("cart", "b")

    kept = restore(str(copy), str(link), overwrite=True)

    assert link.is_symlink()
    assert kept is not None
    assert Path(kept).parent == tmp_path
    assert texts(link) == ["a"]
    assert texts(Path(kept)) == ["a", "b"]
