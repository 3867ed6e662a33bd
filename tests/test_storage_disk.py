"""A disk that fails: whoever meets it, all work ends, and the next start shows what was written."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from blockqueue import BlockQueue
from blockqueue.storage import (
    BlockQueueError,
    CommitUnknown,
    DatabaseUnusable,
    DiskFull,
    Store,
    Subscriber,
    Unavailable,
    create_topic,
    topics,
)

from .broken_disk import READ, SYNC, WRITE, BrokenDisk, broken_disk
from .embedded_helpers import WAIT_S, eventually, open_queue
from .http_server import create_topic as make_topic
from .http_server import publish, read, serving

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def disk() -> Iterator[BrokenDisk]:
    """All databases that the test opens are on it."""
    with broken_disk() as made:
        yield made


def names(store: Store) -> set[str]:
    with store.reading() as snapshot:
        return {topic.name for topic in topics(snapshot)}


def make(store: Store, name: str) -> None:
    create_topic(store, name, [Subscriber("worker")])


def begin(store: Store) -> None:
    with store.transaction():
        pass


# What is done when the disk breaks; where it breaks; what the caller is told.
_PATHS: list[tuple[Callable[[Store], object], str, str, type[BlockQueueError]]] = [
    (names, READ, "-wal", Unavailable),
    (names, READ, ".db", DatabaseUnusable),
    (begin, READ, "-wal", Unavailable),
    (lambda store: make(store, "new"), READ, ".db", Unavailable),
    (lambda store: make(store, "new"), WRITE, "-wal", CommitUnknown),
    (lambda store: make(store, "new"), SYNC, "-wal", CommitUnknown),
]


@pytest.mark.parametrize(
    ("work", "kind", "file", "told"),
    _PATHS,
    ids=["reading", "opening a reader", "beginning", "a statement", "writing", "committing"],
)
def test_an_io_error_ends_all_work_and_loses_nothing(
    tmp_path: Path,
    disk: BrokenDisk,
    work: Callable[[Store], object],
    kind: str,
    file: str,
    told: type[BlockQueueError],
) -> None:
    """A disk that failed once may have forgotten what it was given: only a new start tells."""
    path = tmp_path / "queue.db"
    store = Store(path)
    make(store, "first")
    if file == ".db":  # an empty log, and nothing in memory yet
        store.close()
        store = Store(path)
    else:
        with Store(path).transaction() as tx:  # by somebody else: it must be read
            tx.execute("CREATE TABLE other (x)")
        names(store)
        with Store(path).transaction() as tx:
            tx.execute("CREATE TABLE another (x)")
    disk.break_at(kind, file)

    with pytest.raises(told):
        work(store)

    disk.heal()
    for refused in (names, begin, lambda store: make(store, "later")):
        with pytest.raises(BlockQueueError):
            refused(store)
    store.close()
    store = Store(path)
    assert {"first"} <= names(store) <= {"first", "new"}
    store.close()


@pytest.mark.parametrize("kind", [WRITE, SYNC])
@pytest.mark.parametrize("end", [Store.checkpoint, Store.close])
def test_an_io_error_at_a_checkpoint_ends_all_work(
    tmp_path: Path, disk: BrokenDisk, kind: str, end: Callable[[Store], None]
) -> None:
    """Nobody is told an error, as all answers were right; what was written stays in the log."""
    path = tmp_path / "queue.db"
    store = Store(path)
    make(store, "first")
    disk.break_at(kind, ".db")

    end(store)

    assert isinstance(store.failed, Unavailable)
    disk.heal()
    store.close()
    assert path.with_name("queue.db-wal").stat().st_size > 0
    store = Store(path)
    assert names(store) == {"first"}
    store.close()


@pytest.mark.parametrize(
    ("code", "told"),
    [(apsw.SQLITE_FULL, DiskFull), (apsw.SQLITE_NOMEM, Unavailable)],
)
def test_what_may_pass_by_itself_ends_nothing(
    tmp_path: Path, disk: BrokenDisk, code: int, told: type[BlockQueueError]
) -> None:
    """No room, no memory: nothing was written, and the next one may succeed."""
    store = Store(tmp_path / "queue.db")
    if code == apsw.SQLITE_FULL:
        disk.break_at(WRITE, "-wal", code=code)
    else:
        store.close()
        store = Store(tmp_path / "queue.db")
        disk.break_at(READ, ".db", code=code)

    with pytest.raises(told, match="nothing was written"):
        make(store, "first")

    disk.heal()
    make(store, "first")
    assert names(store) == {"first"}
    store.close()


def test_a_reader_that_meets_a_broken_disk_stops_the_queue(
    tmp_path: Path, disk: BrokenDisk
) -> None:
    """Though nobody writes: the sweeper tells the writer, and that one tells the program."""
    fatal: list[BlockQueueError] = []
    with open_queue(tmp_path):
        pass
    with BlockQueue(tmp_path / "queue.db", on_fatal=fatal.append) as queue:
        disk.break_at(READ, ".db")
        with pytest.raises(BlockQueueError):
            queue.topics()
        eventually(lambda: bool(fatal))
        disk.heal()
    assert "the disk failed" in str(fatal[0])


# A server.

_LAUNCHER = f"""
import sys
sys.path.insert(0, {str(_ROOT)!r})
from tests.broken_disk import BrokenDisk
disk = BrokenDisk(%r)
disk.break_at(%r, %r)
from blockqueue.api.cli import main
main()
"""


@pytest.mark.parametrize(
    ("kind", "file", "request_"),
    [
        (SYNC, "-wal", ("POST", "/topics/cart/messages", {"message": "unknown"})),
        (READ, ".db", ("GET", "/v1/topics/cart/subscribers", None)),
        (SYNC, ".db", None),
    ],
    ids=["at a commit", "at a read", "at the end"],
)
def test_a_server_on_a_broken_disk_exits_and_the_next_shows_what_was_written(
    tmp_path: Path, kind: str, file: str, request_: tuple[str, str, object] | None
) -> None:
    """Not with 0, so that whatever started it starts it anew."""
    path, switch = tmp_path / "queue.db", tmp_path / "switch"
    with serving(path) as server:
        make_topic(server, "cart")
        publish(server, "cart", "first")
        assert server.stop() == 0
    launcher = _LAUNCHER % (str(switch), kind, file)
    with serving(path, launcher=launcher) as server:
        if request_ is None:
            publish(server, "cart", "second")
        switch.touch()
        if request_ is None:
            server.signal(signal.SIGTERM)
        else:
            assert server.send(*request_).status == 503
        assert server.wait(WAIT_S) == 1
        assert server.errors.splitlines()[-1].startswith("Error: stopped: the disk failed")

    expected = {"first", "second"} if request_ is None else {"first"}
    with serving(path) as server:
        found = {each["message"] for each in read(server, "cart")}
        assert expected <= found <= expected | {"unknown"}
