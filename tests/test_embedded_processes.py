"""Several real processes on one file, forked ones too, and what a killed one leaves behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, Subscriber

from .embedded_helpers import WAIT_S, background
from .embedded_processes import Script

Start = Callable[..., Script]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start scripts; those that still run after the test are killed."""
    scripts: list[Script] = []

    def run(text: str, *args: object) -> Script:
        scripts.append(Script(tmp_path, text, *args))
        return scripts[-1]

    yield run
    for script in scripts:
        script.kill()


# Each opens the file at the same time as the others, makes what is missing, publishes, and
# consumes until all that anybody has published is done. Prints what it had in its hands.
WORKER = """
import sys, time
from blockqueue import AlreadyExists, BlockQueue, Subscriber

path, name, processes, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
with BlockQueue(path) as queue:
    try:
        queue.create_topic("cart", [Subscriber("worker", visibility="10m")])
    except AlreadyExists:
        pass
    for batch in range(batches):
        queue.publish_many("cart", [f"{name}-{batch}-{n}" for n in range(10)])
        for delivery in queue.claim("cart", "worker", limit=7):
            print("got", delivery.message)
            delivery.ack()
    print("published", flush=True)
    sys.stdin.readline()
    while deliveries := queue.claim("cart", "worker", limit=7):
        for delivery in deliveries:
            print("got", delivery.message)
        queue.ack("cart", "worker", deliveries)
"""


def test_four_processes_share_a_file_from_its_first_moment(tmp_path: Path, start: Start) -> None:
    """Nothing is lost, and nothing is handed out twice while it is leased."""
    path = tmp_path / "queue.db"
    workers = [start(WORKER, path, name, 4, 15) for name in "abcd"]
    for worker in workers:
        worker.hear("ready")
    for worker in workers:
        worker.say("go")
    # Each reads its output to the end only below; the pipe is large enough for what comes first.
    for worker in workers:
        worker.say("drain")

    found = Counter(line for worker in workers for line in worker.end().splitlines())

    published = {f"got {w}-{b}-{n}" for w in "abcd" for b in range(15) for n in range(10)}
    assert found.pop("published") == 4
    with BlockQueue(path) as queue:
        rest = queue.claim("cart", "worker", limit=1_000)
        found.update(f"got {delivery.message!s}" for delivery in rest)
        queue.ack("cart", "worker", rest)
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased, status.dead) == (0, 0, 0)
    assert found == Counter(published)


def test_a_publish_of_one_process_wakes_who_waits_in_another(tmp_path: Path, start: Start) -> None:
    """Long before the wait is over."""
    script = """
import sys
from blockqueue import BlockQueue

with BlockQueue(sys.argv[1]) as queue:
    print("ready", flush=True)
    sys.stdin.readline()
    queue.publish("cart", "from another process")
"""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        other = start(script, path)
        other.hear("ready")
        waiting = background(lambda: queue.claim("cart", "worker", wait=3600))
        other.say("go")
        (delivery,) = waiting.result(WAIT_S)
        assert delivery.message == "from another process"
        delivery.ack()
        other.end()


FORKED = """
import os, sys
from blockqueue import BlockQueue, QueueClosed

queue = BlockQueue(sys.argv[1])
queue.create_topic("cart", ["worker"])

pid = os.fork()
if pid == 0:
    files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
             if os.path.lexists(f"/proc/self/fd/{fd}")]
    kinds = [name.rpartition("-")[2] for name in files]
    assert "lock" not in kinds, files
    assert kinds.count("hints") <= 2, files  # the mappings' own, which nobody locks
    queue.publish("cart", "child")
    (delivery,) = queue.claim("cart", "worker", limit=1, wait=30)
    delivery.ack()
    with BlockQueue(sys.argv[1]) as another:
        another.publish("cart", "child again")
    assert queue.close()
    try:
        queue.publish("cart", "closed")
    except QueueClosed:
        sys.exit(0)
    sys.exit("a closed queue was used")
queue.publish("cart", "parent")
_, status = os.waitpid(pid, 0)
assert status == 0, status
queue.publish("cart", "parent again")
rest = queue.claim("cart", "worker")
assert len(rest) == 3, rest
queue.ack("cart", "worker", rest)
assert queue.close()
"""


def test_a_forked_child_uses_the_queue_and_its_parent_goes_on(tmp_path: Path, start: Start) -> None:
    """The child opens the file anew, without its parent's threads, handles and locks."""
    assert start(FORKED, tmp_path / "queue.db").end() == ""


OUTLIVES = """
import os, sys
from blockqueue import BlockQueue

path, ending = sys.argv[1:]
queue = BlockQueue(path)
queue.create_topic("cart", ["worker"])
ours, theirs = os.pipe()
pid = os.fork()
if pid == 0:
    queue.publish("cart", "child")
    os.read(ours, 1)
    queue.publish("cart", "child after its parent")
    if ending == "close":
        assert queue.close()
    os._exit(0)
queue.publish("cart", "parent")
assert queue.close()
os.write(theirs, b"x")
_, status = os.waitpid(pid, 0)
assert status == 0, status
os._exit(0)
"""


@pytest.mark.parametrize("ending", ["close", "exit"])
def test_what_a_child_publishes_after_its_parent_has_closed_is_kept(
    tmp_path: Path, start: Start, ending: str
) -> None:
    """Its locks on the file are its own: nobody takes the log away under it."""
    path = tmp_path / "queue.db"
    assert start(OUTLIVES, path, ending).end() == ""
    with BlockQueue(path) as queue:
        (status,) = queue.subscribers("cart")
        assert status.waiting + status.leased == 3


CLOSED = """
import os, sys
from blockqueue import BlockQueue

path = sys.argv[1]
closed = BlockQueue(path)
closed.create_topic("cart", ["worker"])
assert closed.close()
for _ in range(2):  # what a fork leaves locked is met by the next one
    pid = os.fork()
    if pid == 0:
        with BlockQueue(path) as queue:
            queue.publish("cart", "child")
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
with BlockQueue(path) as queue:
    assert len(queue.claim("cart", "worker")) == 2
"""


def test_a_closed_queue_that_is_still_there_harms_no_fork(tmp_path: Path, start: Start) -> None:
    """It has nothing to close, and nothing to hold."""
    assert start(CLOSED, tmp_path / "queue.db").end() == ""


BUSY = """
import os, sys, threading
from blockqueue import BlockQueue

queue = BlockQueue(sys.argv[1])
queue.create_topic("cart", ["worker", "other"])
published, ended = [0] * 3, threading.Event()


def work(number):
    while not ended.is_set():
        queue.publish("cart", "from the parent")
        published[number] += 1
        queue.ack("cart", "worker", queue.claim("cart", "worker", wait=0.01))


threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
children = []
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        queue.publish_many("cart", ["from a child"] * 5)
        assert queue.claim("cart", "other", wait=30)
        assert queue.close()
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
ended.set()
for thread in threads:
    thread.join(30)
assert not any(thread.is_alive() for thread in threads)
queue.ack("cart", "worker", queue.claim("cart", "worker", limit=1000))
status = {each.name: each for each in queue.subscribers("cart")}
total = status["other"].waiting + status["other"].leased
assert total == sum(published) + 8 * 5, (total, published)
assert queue.close()
"""


def test_forks_in_the_midst_of_work_harm_neither_side(tmp_path: Path, start: Start) -> None:
    """Other threads publish and consume as the children are made."""
    assert start(BUSY, tmp_path / "queue.db").end() == ""


HOLDER = """
import sys
from blockqueue import BlockQueue

queue = BlockQueue(sys.argv[1])
held = queue.claim("cart", "worker", limit=5, lease="1s")
queue.publish("cart", "published by the one that was killed")
print("holds", len(held), flush=True)
sys.stdin.readline()
"""


def test_what_a_killed_process_held_goes_to_another_after_its_lease(
    tmp_path: Path, start: Start
) -> None:
    """Nobody has to repair anything, whether the others were there or come later."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", [Subscriber("worker", retry_initial=0)])
        queue.publish_many("cart", [f"{number}" for number in range(5)])
        holder = start(HOLDER, path)
        holder.hear("holds 5")
        (fresh,) = queue.claim("cart", "worker")
        assert fresh.message == "published by the one that was killed"
        fresh.ack()
        holder.kill()

        again = queue.claim("cart", "worker", wait=WAIT_S)

        assert sorted(map(str, (each.message for each in again))) == list("01234")
        assert {(each.delivery_count, each.failure_count) for each in again} == {(2, 1)}
        queue.ack("cart", "worker", again)


def test_reopening_after_a_kill_needs_no_repair(tmp_path: Path, start: Start) -> None:
    """What was confirmed is there, and the file is sound."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", [Subscriber("worker", retry_initial=0)])
        queue.publish_many("cart", ["a"] * 5)
    holder = start(HOLDER, path)
    holder.hear("holds 5")
    holder.kill()
    with BlockQueue(path) as queue:
        (status,) = queue.subscribers("cart")
        assert status.waiting + status.leased == 6
        with queue.system.reading() as snapshot:
            assert snapshot.rows("PRAGMA integrity_check") == [("ok",)]
        found = 0
        while found < 6:
            deliveries = queue.claim("cart", "worker", wait=WAIT_S)
            assert deliveries, "something was lost"
            queue.ack("cart", "worker", deliveries)
            found += len(deliveries)
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased, status.dead) == (0, 0, 0)
