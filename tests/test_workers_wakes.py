"""How processes of one file wake each other, and who sweeps when one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, ManualClock
from blockqueue.actors import _siblings, _sweeper
from blockqueue.actors._runtime_folder import runtime_folder
from blockqueue.storage import Hints

from .embedded_helpers import WAIT_S, background, eventually
from .embedded_processes import Script

Start = Callable[..., Script]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own, with a short name."""
    base = Path(f"/tmp/bq-{os.getpid()}")
    base.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    yield base
    for folder in sorted(base.rglob("*"), reverse=True):
        folder.rmdir() if folder.is_dir() else folder.unlink()
    base.rmdir()


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


PUBLISHER = """
import sys
from blockqueue import BlockQueue
from blockqueue.actors._siblings import Siblings

path, hints = sys.argv[1:]
if hints == "lost":
    Siblings._send = lambda *_: True
with BlockQueue(path) as queue:
    print("ready", flush=True)
    for line in sys.stdin:
        queue.publish("cart", line.strip())
"""


def latencies(path: Path, start: Start, hints: str, count: int) -> list[float]:
    """Return how long it takes from a publish here to a claim that waits there."""
    found: list[float] = []
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        publisher = start(PUBLISHER, path, hints)
        publisher.hear("ready")
        slots = queue.system.store.hints
        for number in range(count):
            waiting = background(lambda: queue.claim("cart", "worker", wait=WAIT_S))
            eventually(lambda: slots._numbers[64 + (slots.slot or 0)] & 1 == 1)
            started = time.monotonic()
            publisher.say(str(number))
            (delivery,) = waiting.result(WAIT_S)
            found.append(time.monotonic() - started)
            assert delivery.message == str(number)
            delivery.ack()
    return found


def test_a_publish_wakes_who_waits_in_another_process_at_once(tmp_path: Path, start: Start) -> None:
    """In a few milliseconds; the bound is for a busy machine."""
    assert statistics.median(latencies(tmp_path / "queue.db", start, "sent", 15)) < 0.1


def test_a_hint_that_is_lost_costs_half_a_second(tmp_path: Path, start: Start) -> None:
    """Then the count of commits is looked at. So the test above is one that can fail."""
    spent = latencies(tmp_path / "queue.db", start, "lost", 9)
    assert 0.1 < statistics.median(spent) < 1.0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What processes tell each other."""
    found: list[set[int]] = []
    send = _siblings.Siblings._send

    def note(self: _siblings.Siblings, slot: int, topics: set[int]) -> bool:
        found.append(set(topics))
        return send(self, slot, topics)

    monkeypatch.setattr(_siblings.Siblings, "_send", note)
    return found


def is_waiting(queue: BlockQueue) -> bool:
    hints = queue.system.store.hints
    assert hints.slot is not None
    return bool(hints._numbers[64 + hints.slot] & 1)


def test_only_what_may_help_is_told_and_only_to_those_who_wait(
    tmp_path: Path, sent: list[set[int]]
) -> None:
    """A lone process sends nothing; nor does an acknowledgement; a topic is named."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as one, BlockQueue(path) as other:
        one.create_topic("cart", ["worker"])
        one.create_topic("quiet", ["worker"])
        one.publish("cart", "nobody waits")
        (delivery,) = one.claim("cart", "worker")
        assert sent == []

        waiting = background(lambda: other.claim("quiet", "worker", wait=WAIT_S))
        eventually(lambda: is_waiting(other))
        delivery.ack()
        assert sent == []
        one.publish("quiet", "hi")
        assert len(sent) == 1

        (taken,) = waiting.result(WAIT_S)
        eventually(lambda: not is_waiting(other))
        waiting = background(lambda: one.claim("quiet", "worker", wait=WAIT_S))
        eventually(lambda: is_waiting(one))
        taken.nack(delay=0.001)
        assert waiting.result(WAIT_S)
        assert sent[1:] == sent[:1]


def sibling(path: Path, clock: ManualClock) -> tuple[BlockQueue, Hints, socket.socket]:
    """Open a queue, and play another process in which somebody waits."""
    queue = BlockQueue(path, clock=clock)
    queue.create_topic("cart", ["worker"])
    hints = Hints(f"{path}-hints", os.getpid())
    played = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    played.settimeout(WAIT_S)
    played.bind(f"{runtime_folder(str(path))}/{hints.slot}")
    hints.say_waiting(True)
    return queue, hints, played


def test_a_full_queue_of_hints_is_tried_once_more(tmp_path: Path) -> None:
    """A moment later; the publish does not wait for it."""
    clock = ManualClock()
    queue, hints, played = sibling(tmp_path / "queue.db", clock)
    with queue, played:
        count = 0
        while True:
            sender = queue.system._engine.siblings
            if not sender._send(hints.slot or 0, {7}):
                break
            count += 1
        queue.publish("cart", "hi")
        for _ in range(count):
            assert len(played.recv(1024)) == 8
        played.setblocking(False)
        with pytest.raises(BlockingIOError):
            played.recv(1024)
        played.settimeout(WAIT_S)

        clock.advance(5)

        assert played.recv(1024) != b"\7" + bytes(7)
        hints.close()


def test_very_many_topics_are_told_as_all(tmp_path: Path) -> None:
    """A datagram stays small; whoever hears "all" has everybody look."""
    clock = ManualClock()
    queue, hints, played = sibling(tmp_path / "queue.db", clock)
    with queue, played:
        sender = queue.system._engine.siblings
        sender.tell(range(1, 65))
        sender.tell(range(1, 66))
        assert len(played.recv(4096)) == 64 * 8
        assert played.recv(4096) == bytes(8)

        waiting = background(lambda: queue.claim("cart", "worker", wait=WAIT_S))
        eventually(lambda: is_waiting(queue))
        played.sendto(bytes(8), sender._name(queue.system.store.hints.slot))
        played.sendto(b"rubbish", sender._name(queue.system.store.hints.slot))
        queue.publish("cart", "hi")
        assert waiting.result(WAIT_S)
        hints.close()


def test_a_folder_that_others_may_use_is_refused(tmp_path: Path, runtime: Path) -> None:
    """Then nobody is woken from elsewhere, which is said, and all else works."""
    (runtime / "blockqueue").mkdir()
    (runtime / "blockqueue").chmod(0o777)
    with BlockQueue(tmp_path / "queue.db") as queue:
        assert queue.system._engine.siblings._socket is None
        queue.create_topic("cart", ["worker"])
        queue.publish("cart", "hi")
        assert queue.claim("cart", "worker", wait=1)


def test_a_queue_that_is_closed_leaves_nothing_behind(tmp_path: Path, runtime: Path) -> None:
    """Neither its socket nor the folder, once the last one has gone."""
    path = tmp_path / "queue.db"
    with BlockQueue(path):
        with BlockQueue(path):
            (folder,) = (runtime / "blockqueue").iterdir()
            assert len(list(folder.iterdir())) == 2
            assert folder.stat().st_mode & 0o777 == 0o700
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()


def test_the_slot_of_a_killed_process_is_taken_again(tmp_path: Path) -> None:
    """Those of living ones are not; and when there is none left, one goes without."""
    path = str(tmp_path / "hints")
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    mine = Hints(path, os.getpid())
    killed = Hints(path, dead)
    assert (mine.slot, killed.slot) == (0, 1)
    killed.say_waiting(True)
    assert mine.waiting_elsewhere() == [1]

    others = [Hints(path, os.getpid()) for _ in range(127)]

    assert [each.slot for each in others] == list(range(1, 128))
    assert mine.waiting_elsewhere() == []
    assert Hints(path, os.getpid()).slot is None


# The sweeper's role.

HOLDER = """
import fcntl, sys, threading
from blockqueue import BlockQueue, Subscriber

queue = BlockQueue(sys.argv[1])
queue.create_topic("cart", [Subscriber("worker", max_attempts=1)])
queue.publish("cart", "something to look after")
for _ in range(3000):
    with open(sys.argv[1] + "-hints") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            break
    threading.Event().wait(0.01)
print("holds", flush=True)
sys.stdin.readline()
"""
# From the end of a lease to its dead letter, by a process that has to notice first.
KILLED_S, STOPPED_S = 1.5, 4.0


def seconds_until_swept(path: Path, start: Start, number: int) -> float:
    """Do something to the sweeper; return how late a lease's end is seen by another."""
    holder = start(HOLDER, path)
    holder.hear("holds")
    with BlockQueue(path) as queue:
        (delivery,) = queue.claim("cart", "worker", lease=0.2)
        assert delivery.message == "something to look after"
        holder._process.send_signal(number)
        started = time.monotonic()

        def dead() -> bool:
            (status,) = queue.subscribers("cart")
            return status.dead == 1

        eventually(dead)
        return time.monotonic() - started - 0.2


def test_another_sweeps_when_the_sweeper_dies(tmp_path: Path, start: Start) -> None:
    """A lease that nobody asks about becomes a dead letter all the same."""
    assert seconds_until_swept(tmp_path / "queue.db", start, signal.SIGKILL) < KILLED_S


def test_another_sweeps_when_the_sweeper_stands_still(tmp_path: Path, start: Start) -> None:
    """It has its lock, and gives no sign of life."""
    spent = seconds_until_swept(tmp_path / "queue.db", start, signal.SIGSTOP)
    assert 1.0 < spent < STOPPED_S


def test_without_the_signs_of_life_nobody_would_sweep(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above is one that can fail."""
    monkeypatch.setattr(_sweeper, "_SILENT_S_MAX", 2 * STOPPED_S)
    assert seconds_until_swept(tmp_path / "queue.db", start, signal.SIGSTOP) > STOPPED_S
