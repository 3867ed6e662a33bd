"""Schedules of a file that several processes use, of which some are killed as they fire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockqueue import BlockQueue, Delivery
from blockqueue.storage import (
    Envelope,
    SchedulePlan,
    Store,
    Subscriber,
    create_schedule,
    create_topic,
)

from .embedded_helpers import WAIT_S, background, eventually
from .embedded_processes import Script

Start = Callable[..., Script]

DUE_MS = 1_700_000_040_000


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


def prepare(path: Path, count: int = 1) -> list[str]:
    """Make yearly schedules that have been due for long, without a sweeper that would see it."""
    store = Store(path)
    topic = create_topic(store, "cart", [Subscriber("worker")])
    plans = [
        SchedulePlan(f"yearly-{number}", "0 0 1 1 *", Envelope(f"{number}"))
        for number in range(count)
    ]
    made = [create_schedule(store, topic.id, plan) for plan in plans]
    with store.transaction() as tx:
        tx.execute("UPDATE schedule SET next_run_ms = ?", (DUE_MS,))
    store.close()
    return [each.uid for each in made]


# Opens the file, fires what is due, and stops for ever at the place that is named.
FIRES = """
import sys, threading
from blockqueue import BlockQueue
from blockqueue.actors import _sweeper as sweeper, _timetable as timetable

path, place = sys.argv[1:]
fire, on_ended = timetable.fire_schedules_in, sweeper.SweeperActor._on_ended


def stop():
    print("there", flush=True)
    threading.Event().wait()


def fire_and_stop(tx):
    if place == "before":
        stop()
    if place == "apart":
        return 0
    count = fire(tx)
    if place == "inside":
        stop()
    return count


def on_ended_and_stop(actor, value, error):
    if place == "after" and isinstance(value, timetable.Fired) and value.schedules:
        stop()
    on_ended(actor, value, error)


timetable.fire_schedules_in = fire_and_stop
sweeper.SweeperActor._on_ended = on_ended_and_stop
queue = BlockQueue(path)
if place == "apart":  # what a transaction of its own for the message would come to
    queue.publish("cart", "0")
    stop()
threading.Event().wait()
"""


def kill_and_go_on(path: Path, start: Start, place: str) -> tuple[list[str], list[str]]:
    """Kill a process at a place; return the messages and the runs that come of it all."""
    (uid,) = prepare(path)
    killed = start(FIRES, path, place)
    killed.hear("there")
    opening = background(lambda: BlockQueue(path))  # may have to wait for the other's lock
    killed.kill()
    with opening.result(WAIT_S) as queue:
        schedules = queue.schedules("cart")
        eventually(lambda: schedules.get(uid).next_run_ms > time.time() * 1000)
        taken = queue.claim("cart", "worker")
        queue.ack("cart", "worker", taken)

        def stored() -> list[tuple[int, ...]]:
            with queue.system.reading() as snapshot:
                return snapshot.rows("SELECT scheduled_ms, status FROM schedule_run")

        # By the sweeper, which then has looked at all that there is.
        eventually(lambda: stored() == [(DUE_MS, 1)])
        taken += queue.claim("cart", "worker")
        (run,) = schedules.run_page(uid).items
        assert run.message_id in {each.id for each in taken}
        return [str(each.message) for each in taken], [run.status]


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_a_process_that_is_killed_as_it_fires_makes_no_difference(
    tmp_path: Path, start: Start, place: str
) -> None:
    """Before it, within its transaction, or before it knows of the commit: one occurrence."""
    assert kill_and_go_on(tmp_path / "queue.db", start, place) == (["0"], ["completed"])


def test_a_message_in_a_transaction_of_its_own_would_be_seen(tmp_path: Path, start: Start) -> None:
    """The check above is one that can fail: this process has published, and not noted it."""
    assert kill_and_go_on(tmp_path / "queue.db", start, "apart")[0] == ["0", "0"]


# Fires all that is due, one by one, without the sweeper's role that keeps others away.
RACES = """
import sys
from blockqueue.storage import Store, fire_schedules

store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while fire_schedules(store, 1):
    print("fired", flush=True)
print("done", flush=True)
store.close()
"""


def test_processes_that_race_and_are_killed_fire_each_schedule_once(
    tmp_path: Path, start: Start
) -> None:
    """Two of four die in the midst of it."""
    path, count = tmp_path / "queue.db", 200
    uids = prepare(path, count)
    racers = [start(RACES, path) for _ in range(4)]
    for racer in racers:
        racer.hear("ready")
    for racer in racers:
        racer.say("go")
    for racer in racers[:2]:
        racer.hear("fired")
        racer.kill()
    for racer in racers[2:]:
        assert racer.end().endswith("done\n")

    with BlockQueue(path) as queue:
        taken = queue.claim("cart", "worker", limit=1_000)
        found = {
            uid: [run.message_id for run in queue.schedules("cart").run_page(uid).items]
            for uid in uids
        }
    assert sorted(int(each.message) for each in taken) == list(range(count))
    assert found == {uid: [each.id] for uid, each in zip(uids, by_number(taken), strict=True)}


def by_number(taken: list[Delivery]) -> list[Delivery]:
    """Return deliveries in the order of what they say."""
    return sorted(taken, key=lambda each: int(each.message))
