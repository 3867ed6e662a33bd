"""Processes that are killed with a transaction open, and just after one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockqueue import BlockQueue

from .embedded_helpers import WAIT_S, background
from .embedded_processes import Script

TRANSACTION = """
import sys
from blockqueue import BlockQueue

queue = BlockQueue(sys.argv[1])
(held,) = queue.claim("cart", "worker", lease="1h")
with queue.transaction() as tx:
    tx.execute("INSERT INTO orders (name) VALUES ('book')")
    queue.publish("cart", "new", tx=tx)
    held.complete(tx=tx)
    if sys.argv[2] == "before":
        print("ready", flush=True)
        sys.stdin.readline()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_9_around_the_commit_leaves_both_or_neither(tmp_path: Path, when: str) -> None:
    """The program's row, the publish and the ack: one fate. Others wait, and then go on."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish("cart", "old")
        with queue.transaction() as tx:
            tx.execute("CREATE TABLE orders (name TEXT)")
        script = Script(tmp_path, TRANSACTION, path, when)
        try:
            script.hear("ready")
            published = background(lambda: queue.publish("cart", "other"))
            assert published.running() or when == "after" or not published.done()
        finally:
            script.kill()
        published.result(WAIT_S)

        with queue.transaction() as tx:
            rows = tx.execute("SELECT name FROM orders")
        found = sorted(str(each.message) for each in queue.claim("cart", "worker", limit=9))
        (status,) = queue.subscribers("cart")
    if when == "before":
        assert (rows, found, status.leased) == ([], ["other"], 2)
    else:
        assert (rows, found, status.leased) == ([("book",)], ["new", "other"], 2)


FORK = """
import os, sys
from blockqueue import BlockQueue, QueueClosed

queue = BlockQueue(sys.argv[1])
with queue.transaction() as tx:
    tx.execute("INSERT INTO orders (name) VALUES ('book')")
    pid = os.fork()
    if pid == 0:
        for call in (lambda: tx.execute("SELECT 1"), lambda: queue.publish("cart", "x")):
            try:
                call()
            except Exception as error:
                print(type(error).__name__, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print("done", flush=True)
queue.close()
"""


def test_a_child_forked_in_the_middle_leaves_its_parents_transaction_alone(
    tmp_path: Path,
) -> None:
    """It cannot use the queue; the parent commits."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        with queue.transaction() as tx:
            tx.execute("CREATE TABLE orders (name TEXT)")
        script = Script(tmp_path, FORK, path)
        try:
            script.hear("QueueClosed")
            script.hear("QueueClosed")
            script.hear("done")
            script.end()
        finally:
            script.kill()
        with queue.transaction() as tx:
            assert tx.execute("SELECT name FROM orders") == [("book",)]
