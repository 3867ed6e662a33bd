"""The embedded face: its actors, threads, opening and closing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blockqueue import (
    BlockQueue,
    BlockQueueError,
    DatabaseUnusable,
    QueueClosed,
    Subscriber,
    SubscriberNotFound,
)
from blockqueue.actors import Claim, Publish, Settle
from blockqueue.storage import Ack, Batch, Handle, Outcome, pack_messages

from .embedded_helpers import (
    WAIT_S,
    background,
    claim,
    counts,
    open_queue,
    together,
)
from .embedded_processes import environment


def test_a_topics_actor_answers_its_messages(queue: BlockQueue) -> None:
    """For those who build on them."""
    job = queue.job("cart")
    answer: Any = job.ask(Publish([Batch(2, pack_messages(["a", "b"]), 0, 0)]), timeout=5)
    assert [published.count for published in answer] == [2]
    answer = job.ask(Claim("worker", limit=1), timeout=5)
    assert [each.body for each in answer] == ["a"]
    handles = [Handle(each.priority, each.seq, each.tag, each.generation) for each in answer]
    answer = job.ask(Settle("worker", Ack(), handles), timeout=5)
    assert [settled.outcome for settled in answer] == [Outcome.DONE]
    with pytest.raises(SubscriberNotFound):
        job.ask(Claim("nobody"), timeout=5)


def test_many_threads_lose_nothing_and_get_nothing_twice(tmp_path: Path) -> None:
    """16 of them publish, claim and ack on one queue."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", [Subscriber("worker", claim_limit=3)])

        def work(number: int) -> list[str | bytes]:
            found: list[str | bytes] = []
            for turn in range(20):
                queue.publish_many("cart", [f"{number}-{turn}-a", f"{number}-{turn}-b"])
                deliveries = queue.claim("cart", "worker")
                found += [each.message for each in deliveries]
                if deliveries:
                    queue.ack("cart", "worker", deliveries)
            return found

        found = [text for texts in together(16, work) for text in texts]
        while deliveries := queue.claim("cart", "worker", limit=1_000):
            found += [each.message for each in deliveries]
            queue.ack("cart", "worker", deliveries)

        expected = {f"{n}-{t}-{part}" for n in range(16) for t in range(20) for part in "ab"}
        assert Counter(found) == Counter(expected)
        assert counts(queue) == (0, 0, 0)


# Opening and closing.


def test_a_closed_queue_refuses_everything_and_can_be_closed_again(tmp_path: Path) -> None:
    """And what it has was kept."""
    path = tmp_path / "queue.db"
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish_many("cart", ["a", "b"])
        delivery = claim(queue, 1)[0]
        bucket = queue.bucket("cart", "worker")
        assert queue.close()
        assert queue.close()
    uses: list[Callable[[], object]] = [
        lambda: queue.publish("cart", "c"),
        lambda: claim(queue),
        lambda: queue.create_topic("box", ["worker"]),
        lambda: queue.delete_topic("cart"),
        lambda: queue.topics(),
        lambda: queue.subscribers("cart"),
        lambda: queue.pause("cart"),
        lambda: queue.job("cart"),
        lambda: list(bucket.entries()),
        lambda: delivery.ack(),
    ]
    for use in uses:
        with pytest.raises(QueueClosed):
            use()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("queue.db", "queue.db-ballast", "queue.db-hints", "queue.db-lock")
    ]
    with BlockQueue(path) as queue:
        assert [each.message for each in claim(queue)] == ["b"]


def test_closing_while_others_work_answers_every_one_of_them(tmp_path: Path) -> None:
    """Each has its result or QueueClosed, and what was confirmed is there afterwards."""
    path = tmp_path / "queue.db"
    queue = BlockQueue(path)
    queue.create_topic("cart", ["worker"])
    confirmed: list[str] = []
    started = threading.Semaphore(0)

    def work(number: int) -> None:
        for turn in range(100_000):
            try:
                queue.publish("cart", f"{number}-{turn}")
            except QueueClosed:
                return
            confirmed.append(f"{number}-{turn}")
            started.release()

    workers = [background(partial(work, number)) for number in range(4)]
    for _ in range(40):
        assert started.acquire(timeout=WAIT_S)
    assert queue.close()
    for worker in workers:
        worker.result(WAIT_S)

    with BlockQueue(path) as queue:
        found: list[str | bytes] = []
        while deliveries := claim(queue, 1_000):
            found += [each.message for each in deliveries]
        assert sorted(confirmed) == sorted(map(str, found))


def test_a_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """In words, and nothing is left running."""
    before = threading.active_count()
    (tmp_path / "text").write_text("this is no database, and long enough to be sure of that" * 10)
    for path in (tmp_path, tmp_path / "missing" / "queue.db", tmp_path / "text"):
        with pytest.raises(DatabaseUnusable, match=r"cannot open|not a database"):
            BlockQueue(path)
    assert threading.active_count() == before


def test_a_closed_queue_leaves_no_thread(tmp_path: Path) -> None:
    """Nor an open file."""
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with open_queue(tmp_path) as (queue, _):
            queue.publish("cart", "a")
            claim(queue)
            queue.delete_topic("cart")
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files


def test_every_error_has_a_code_and_is_one_of_ours(queue: BlockQueue) -> None:
    """One root to catch, and a code that stays."""
    codes: dict[str, Callable[[], object]] = {
        "topic_not_found": lambda: queue.publish("nowhere", "a"),
        "resource_not_found": lambda: queue.claim("cart", "nobody"),
        "conflict": lambda: queue.create_topic("cart", ["worker"]),
        "validation_error": lambda: queue.create_topic("", ["worker"]),
    }
    for code, use in codes.items():
        with pytest.raises(BlockQueueError) as caught:
            use()
        assert caught.value.code == code


def test_importing_the_package_loads_no_server(tmp_path: Path) -> None:
    """Whoever embeds a queue does not pay for HTTP or the command line."""
    script = (
        "import sys, blockqueue\n"
        "found = {'falcon', 'waitress', 'click', 'tqdm'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {found}' if found else 0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
