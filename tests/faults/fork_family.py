"""A program with a queue and many threads, which forks and starts others all the time.

Run as ``python fork_family.py DATABASE JOURNAL SEED CHILDREN``, or with ``child`` and a name
for a process that is started by one of them. With BREAK_FORKS in the environment the queue
does not know of forks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from random import Random

# What it warns of is what this is about.
warnings.simplefilter("ignore", DeprecationWarning)
if "BREAK_FORKS" in os.environ:
    os.register_at_fork = lambda **hooks: None

from blockqueue import BlockQueue  # noqa: E402 - forks are broken before

TOPIC, SUBSCRIBER = "family", "all"
CHILD_S = 10.0
_EACH = 5
_THREADS = 3
# So many of the children are not forked.
_STARTED = 0.2


class Journal:
    """Lines that many processes append, each whole."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def work(queue: BlockQueue, journal: Journal, name: str) -> None:
    """Publish a few messages, and take whatever is there."""
    for number in range(_EACH):
        body = f"{name}.{number}"
        queue.publish(TOPIC, body)
        journal.note(f"P {body}")
    take(queue, journal)


def take(queue: BlockQueue, journal: Journal) -> int:
    """Claim once and acknowledge."""
    deliveries = queue.claim(TOPIC, SUBSCRIBER, limit=10, wait=0.0)
    for delivery in deliveries:
        delivery.ack()
        journal.note(f"R {delivery.message!s}")
    return len(deliveries)


def run_child(database: str, journal: Journal, name: str) -> None:
    with BlockQueue(database) as queue:
        work(queue, journal, name)


def run_parent(database: str, journal: Journal, random: Random, children: int) -> None:
    """Have children while threads are at work, then take what is left."""
    halt = threading.Event()
    queue = BlockQueue(database)
    queue.create_topic(TOPIC, [SUBSCRIBER])
    threads = [
        threading.Thread(target=keep_working, args=(queue, journal, halt, number), daemon=True)
        for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for number in range(children):
        halt.wait(random.uniform(0.0, 0.02))
        have_child = start_child if random.random() < _STARTED else fork_child
        have_child(queue, journal, f"child{number}")
    halt.set()
    for thread in threads:
        thread.join(CHILD_S)
        if thread.is_alive():
            journal.note(f"E {thread.name} hangs")
    while take(queue, journal):
        pass
    if not queue.close():
        journal.note("E the queue did not close in time")


def keep_working(queue: BlockQueue, journal: Journal, halt: threading.Event, number: int) -> None:
    """Work until told to halt."""
    rounds = 0
    while not halt.wait(0.002):
        rounds += 1
        work(queue, journal, f"thread{number}.{rounds}")


def start_child(queue: BlockQueue, journal: Journal, name: str) -> None:
    """Run a child that opens the file by itself."""
    arguments = [sys.executable, __file__, "child", *sys.argv[1:3], name]
    if subprocess.run(arguments, timeout=CHILD_S, check=False).returncode:
        journal.note(f"E {name}, started anew, has failed")


def fork_child(queue: BlockQueue, journal: Journal, name: str) -> None:
    """Let a forked child use the queue that its parent has open."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(queue, journal, name)
            code = 0
        finally:
            os._exit(code)
    ended = threading.Event()
    codes: list[int] = []

    def reap() -> None:
        codes.append(os.waitpid(pid, 0)[1])
        ended.set()

    threading.Thread(target=reap, daemon=True).start()
    if not ended.wait(CHILD_S):
        os.kill(pid, 9)
        ended.wait(CHILD_S)
        journal.note(f"E {name} hung")
    elif codes[0]:
        journal.note(f"E {name} failed")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        run_child(sys.argv[2], Journal(sys.argv[3]), sys.argv[4])
    else:
        path, notes, seed, count = sys.argv[1:]
        run_parent(path, Journal(notes), Random(int(seed)), int(count))
