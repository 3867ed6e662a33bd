"""A forked child lets go of the store without harming its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blockqueue.storage import FileLock, Store, topics

# Runs in a process of its own: forking the test runner would fork its threads' locks too.
SCRIPT = """
import os, sys, threading
import conftest
from blockqueue.storage import FileLock, QueueClosed, Store, Subscriber, create_topic, topics

path, ending = sys.argv[1:]
store = Store(path)
create_topic(store, "before", [Subscriber("worker")])
with store.reading() as snapshot:  # so that a reader is open, too
    assert len(topics(snapshot)) == 1


def child():
    store.abandon()
    for use in (store.reading, store.transaction):
        try:
            with use():
                sys.exit("an abandoned store was used")
        except QueueClosed:
            pass
    store.close()
    try:
        transaction.__exit__(None, None, None)  # where a child that was forked inside ends up
        sys.exit("a child has committed what was its parent's")
    except QueueClosed:
        pass
    if ending == "abrupt":
        os._exit(0)
    sys.exit(0)


transaction = store.transaction()
tx = transaction.__enter__()  # the fork happens while the write lock is held
pid = os.fork()
if pid == 0:
    child()
_, status = os.waitpid(pid, 0)
assert status == 0, status

other = FileLock(path + "-lock")
assert not other.try_acquire(), "the child has freed its parent's lock"
tx.execute("INSERT INTO meta (key, value) VALUES ('still', x'')")
transaction.__exit__(None, None, None)
assert other.try_acquire()
other.release()
create_topic(store, "after", [Subscriber("worker")])
with store.reading() as snapshot:
    assert len(topics(snapshot)) == 2
    assert snapshot.rows("PRAGMA integrity_check") == [("ok",)]
if ending == "crash":
    os._exit(0)
store.close()
"""


@pytest.mark.parametrize("ending", ["normal", "abrupt", "crash"])
def test_a_forked_child_that_abandons_the_store_harms_nobody(tmp_path: Path, ending: str) -> None:
    """It frees no lock and closes nothing under its parent, however it or its parent ends."""
    path = tmp_path / "queue.db"
    environment = dict(os.environ)
    paths = [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), ending],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    store = Store(path)
    with store.reading() as snapshot:
        assert [topic.name for topic in topics(snapshot)] == ["after", "before"]
        assert snapshot.rows("PRAGMA integrity_check") == [("ok",)]
    store.close()


def test_two_locks_on_one_file_exclude_each_other(tmp_path: Path) -> None:
    """In one process, too: they are two descriptors."""
    one, other = FileLock(str(tmp_path / "lock")), FileLock(str(tmp_path / "lock"))

    one.acquire()
    assert not other.try_acquire()
    one.release()
    assert other.try_acquire()
    one.close()
    other.close()
