"""The log at the start: a torn tail is normal, a flipped bit before it must not pass unseen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from blockqueue.storage import DatabaseUnusable, Store, Subscriber, create_topic, topics
from blockqueue.storage import _store as store_module
from blockqueue.storage._wal import Log, scan_log

_HEADER, _FRAME = 32, 24 + 4096


def make(path: Path, count: int, first: int = 0) -> list[int]:
    """Make topics, and leave the log as a kill does; return its length after each commit."""
    store = Store(path)
    lengths = []
    for number in range(first, first + count):
        create_topic(store, f"topic-{number}", [Subscriber("worker")])
        lengths.append(path.with_name("queue.db-wal").stat().st_size)
    copy = path.with_name("copy")
    copy.mkdir(exist_ok=True)
    for name in ("queue.db", "queue.db-wal"):
        shutil.copy(path.with_name(name), copy / name)
    store.close()
    return lengths


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def count_topics(path: Path) -> int:
    store = Store(path)
    with store.reading() as snapshot:
        found = len(topics(snapshot))
    store.close()
    return found


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, list[int]]:
    """A database whose log holds ten commits, and where each of them ends."""
    lengths = make(tmp_path / "queue.db", 10)
    return tmp_path / "copy/queue.db", lengths


def test_a_whole_log_is_fine(killed: tuple[Path, list[int]]) -> None:
    """All its frames are counted."""
    path, lengths = killed

    assert scan_log(str(path)) == Log(lengths[-1], (lengths[-1] - _HEADER) // _FRAME)
    assert count_topics(path) == 10


def test_no_log_is_fine(tmp_path: Path) -> None:
    """Nor is an empty one, or one that is shorter than its header."""
    path = tmp_path / "queue.db"
    assert scan_log(str(path)) == Log(0)
    for size in (0, 31, 32):
        path.with_name("queue.db-wal").write_bytes(b"\0" * size)
        assert not scan_log(str(path)).is_corrupt


@pytest.mark.parametrize("field", [0, 4, 9, 17, 23, 24, 2_000, 4_119])
@pytest.mark.parametrize("commit", [0, 4, 8])
def test_a_flipped_bit_before_the_last_commit_is_refused(
    killed: tuple[Path, list[int]], commit: int, field: int
) -> None:
    """Wherever in a frame it is. SQLite would drop what follows without a word."""
    path, lengths = killed
    flip(path.with_name("queue.db-wal"), lengths[commit] - _FRAME + field)

    with pytest.raises(DatabaseUnusable, match="blockqueue doctor"):
        Store(path)

    assert path.with_name("queue.db-wal").stat().st_size == lengths[-1]


def test_without_the_look_commits_would_be_lost(
    killed: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: SQLite opens it, and finds nothing wrong."""
    path, lengths = killed
    flip(path.with_name("queue.db-wal"), lengths[4] - 1)
    monkeypatch.setattr(store_module, "check_log", lambda path: Log(0))

    assert count_topics(path) < 10


@pytest.mark.parametrize("offset", [0, 5, 8, 17, 31])
def test_a_damaged_header_before_commits_is_refused(
    killed: tuple[Path, list[int]], offset: int
) -> None:
    """The whole log would be dropped."""
    path, _ = killed
    flip(path.with_name("queue.db-wal"), offset)

    with pytest.raises(DatabaseUnusable, match="damaged at frame 0"):
        Store(path)


@pytest.mark.parametrize("lost", [1, 100, _FRAME, _FRAME + 1])
def test_a_torn_tail_is_normal(killed: tuple[Path, list[int]], lost: int) -> None:
    """A power cut has cut the last commit short: it had not been answered."""
    path, lengths = killed
    os.truncate(path.with_name("queue.db-wal"), lengths[-1] - lost)

    assert count_topics(path) == 9


def test_a_last_commit_with_a_hole_is_normal(killed: tuple[Path, list[int]]) -> None:
    """Its frames reach the disk in any order; afterwards the log begins anew."""
    path, lengths = killed
    wal = path.with_name("queue.db-wal")
    assert lengths[-1] - lengths[-2] >= 2 * _FRAME
    flip(wal, lengths[-2] + 100)
    log = scan_log(str(path))
    assert (log.bad, log.commits_after, log.is_corrupt) == (
        (lengths[-2] - _HEADER) // _FRAME + 1,
        1,
        False,
    )

    store = Store(path)

    assert wal.stat().st_size == 0
    store.close()
    assert count_topics(path) == 9


def test_frames_of_an_earlier_log_do_not_count(tmp_path: Path) -> None:
    """A log is written over from its start; what lies behind is old."""
    path = tmp_path / "queue.db"
    store = Store(path)
    for number in range(20):
        create_topic(store, f"topic-{number}", [Subscriber("worker")])
    store._checkpoint(0)
    create_topic(store, "new", [Subscriber("worker")])

    log = scan_log(str(path))

    assert 0 < log.frames < (log.nbytes - _HEADER) // _FRAME
    assert log.bad is None
    flip(path.with_name("queue.db-wal"), log.nbytes - 10)
    assert scan_log(str(path)) == log
    store.close()
