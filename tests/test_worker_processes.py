"""Workers in real processes, killed and signalled: no job is lost, none is done for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, Subscriber

from .embedded_helpers import WAIT_S
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


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[BlockQueue]:
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("counter", max_attempts=9, retry_initial=0)])
        yield queue


WORKER = """
import os, signal, sys
from blockqueue import BlockQueue, Job, Worker

with BlockQueue(sys.argv[1]) as queue:
    def handle(job: Job) -> None:
        print("begun", job.message, job.delivery_count, flush=True)
        what = sys.stdin.readline().strip()
        if what == "exit":
            os._exit(7)
        if what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            assert worker._shift._stopping.wait(60)  # two at once could be noticed as one
            os.kill(os.getpid(), signal.SIGTERM)
            assert job.wait_cancelled(60)
        if what == "drain":
            os.kill(os.getpid(), signal.SIGTERM)
            sys.stdin.readline()

    worker = Worker(queue, "cart", "counter", handle, lease=sys.argv[2])
    worker.run()
    print("stopped", worker.stats.processed, flush=True)
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_the_job_of_a_worker_that_died_comes_again(
    queue: BlockQueue, tmp_path: Path, start: Start, end: str
) -> None:
    """After kill -9 in the middle of it, or a handler that ends the process."""
    queue.publish("cart", "hi")
    first = start(WORKER, tmp_path / "queue.db", "300ms")
    first.hear("begun hi 1")
    if end == "kill":
        first.kill()
    else:
        first.say("exit")
    second = start(WORKER, tmp_path / "queue.db", "1m")
    second.hear("begun hi 2")
    second.say("drain")
    second.say("go on")
    second.hear("stopped 1")
    second.end()

    (status,) = queue.subscribers("cart")
    assert (status.waiting, status.leased, status.dead) == (0, 0, 0)


def test_sigterm_lets_the_handler_end(queue: BlockQueue, tmp_path: Path, start: Start) -> None:
    """Its job is acked, the next one is not begun, and the process ends well."""
    queue.publish_many("cart", ["a", "b"])
    worker = start(WORKER, tmp_path / "queue.db", "1m")
    worker.hear("begun a 1")
    worker.say("drain")
    worker.say("go on")
    worker.hear("stopped 1")
    worker.end()

    (left,) = queue.claim("cart", "counter", limit=9, wait=WAIT_S)
    assert (left.message, left.delivery_count) == ("b", 1)


def test_a_second_sigterm_cancels_the_handler(
    queue: BlockQueue, tmp_path: Path, start: Start
) -> None:
    """Long before the drain is over."""
    queue.publish("cart", "hi")
    worker = start(WORKER, tmp_path / "queue.db", "1m")
    worker.hear("begun hi 1")
    worker.say("signal")
    worker.hear("stopped 1")
    worker.end()


OTHER_SIGNALS = """
import os, signal, sys
from blockqueue import BlockQueue, Job, Worker

signal.signal(signal.SIGUSR1, lambda *_: None)  # as a program does that opens its log anew
with BlockQueue(sys.argv[1]) as queue:
    def handle(job: Job) -> None:
        print("begun", job.message, flush=True)
        os.kill(os.getpid(), signal.SIGUSR1)
        if job.message == "c":
            os.kill(os.getpid(), signal.SIGTERM)

    Worker(queue, "cart", "counter", handle).run()
print("stopped", flush=True)
"""


def test_a_programs_own_signals_do_not_stop_its_worker(
    queue: BlockQueue, tmp_path: Path, start: Start
) -> None:
    """Only SIGTERM and Ctrl-C do."""
    queue.publish_many("cart", ["a", "b", "c"])
    worker = start(OTHER_SIGNALS, tmp_path / "queue.db")
    for line in ("begun a", "begun b", "begun c", "stopped"):
        worker.hear(line)
    worker.end()


GROUP = """
import os, signal, sys, threading
from blockqueue import BlockQueue, Job, Worker, WorkerGroup

class Group(WorkerGroup):
    stops = threading.Semaphore(0)

    def begin_stop(self) -> None:
        super().begin_stop()
        if threading.current_thread() is threading.main_thread():
            self.stops.release()

with BlockQueue(sys.argv[1]) as queue:
    def handle(job: Job) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2):  # by that, and by the end of the other worker
            assert Group.stops.acquire(timeout=60)
        os.kill(os.getpid(), signal.SIGTERM)
        print("cancelled", job.wait_cancelled(10), flush=True)

    idle = Worker(queue, "cart", "idle", lambda job: None)
    Group([idle, Worker(queue, "cart", "counter", handle)]).run()
"""


def test_a_groups_second_sigterm_cancels_though_one_of_it_has_ended(
    queue: BlockQueue, tmp_path: Path, start: Start
) -> None:
    """It is the second all the same."""
    queue.publish("cart", "hi")
    queue.add_subscribers("cart", ["idle"])
    group = start(GROUP, tmp_path / "queue.db")
    group.hear("cancelled True")
    group.end()


COUNTING = """
import sys
from blockqueue import BlockQueue, Job, Worker

with BlockQueue(sys.argv[1]) as queue, open(sys.argv[2], "a", buffering=1) as seen:
    def handle(job: Job) -> None:
        seen.write(f"{job.message}\\n")

    worker = Worker(queue, "cart", "counter", handle, concurrency=4, lease="400ms").start()
    print("ready", flush=True)
    sys.stdin.readline()
    worker.stop()
"""


@pytest.mark.slow
def test_killing_workers_under_load_loses_no_job(
    queue: BlockQueue, tmp_path: Path, start: Start
) -> None:
    """Five of them, one after the other, in the middle of it; the sixth does the rest."""
    published: set[str] = set()
    for cycle in range(5):
        worker = start(COUNTING, tmp_path / "queue.db", tmp_path / "seen.txt")
        worker.hear("ready")
        names = [f"{cycle}-{number}" for number in range(400)]
        for at in range(0, 400, 100):
            queue.publish_many("cart", names[at : at + 100])
        published.update(names)
        worker.kill()
    last = start(COUNTING, tmp_path / "queue.db", tmp_path / "seen.txt")
    last.hear("ready")
    _wait_until_done(queue)
    last.say("stop")
    last.end()

    assert set((tmp_path / "seen.txt").read_text().splitlines()) == published


def _wait_until_done(queue: BlockQueue) -> None:
    from .embedded_helpers import eventually

    def done() -> bool:
        (status,) = queue.subscribers("cart")
        assert status.dead == 0
        return status.waiting + status.leased == 0

    eventually(done)
