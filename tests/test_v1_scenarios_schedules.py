"""What a drop-in for ``/v1`` must pass: schedules and their runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from .http_server import serving, until
from .v1_client import Client, Json, Topic, ms, v1_client

_MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, not made yet."""
    return client.fresh_topic()


def run_of(orders: Topic, schedule: Json, run_id: str) -> Json:
    (found,) = [each for each in orders.runs(schedule) if each["id"] == run_id]
    return found


def wait_for_run(orders: Topic, schedule: Json, run_id: str, status: str) -> None:
    until(lambda: run_of(orders, schedule, run_id)["status"] == status, f"the run is {status}")


def test_e24_a_run_waits_for_the_one_before(orders: Topic) -> None:
    """As long as it has an unfinished delivery; an ack completes it."""
    orders.create()
    schedule = orders.schedule()

    first = orders.run_now(schedule).ok(202)

    assert (first["status"], first["schedule_id"]) == ("running", schedule["id"])
    assert abs(ms(first["started_at"]) - time.time() * 1000) < _MINUTE_MS
    assert abs(ms(first["created_at"]) - time.time() * 1000) < _MINUTE_MS
    second = orders.run_now(schedule).ok(202)
    assert second["status"] == "skipped"
    assert run_of(orders, schedule, second["id"])["error"]
    delivery = orders.claim_one()
    assert (delivery["id"], delivery["message"]) == (first["message_id"], "tick")
    orders.ack(delivery).ok()
    wait_for_run(orders, schedule, first["id"], "completed")
    assert run_of(orders, schedule, first["id"])["finished_at"]
    assert orders.run_now(schedule).ok(202)["status"] == "running"
    shown = orders.send("GET", f"/schedules/{schedule['id']}").ok()
    assert shown["next_run_at"] == schedule["next_run_at"]


@pytest.mark.parametrize("end", ["dead letter", "cancel", "message cancel"])
def test_e24_a_run_is_also_completed_by_other_ends(orders: Topic, end: str) -> None:
    """A dead letter or a cancel."""
    orders.create(max_attempts=1)
    schedule = orders.schedule()
    run = orders.run_now(schedule).ok(202)

    if end == "dead letter":
        orders.nack(orders.claim_one()).ok()
    elif end == "cancel":
        orders.cancel(run["message_id"]).ok()
    else:
        orders.cancel_message(run["message_id"]).ok()

    wait_for_run(orders, schedule, run["id"], "completed")
    assert orders.run_now(schedule).ok(202)["status"] == "running"


def test_e24_an_old_version_replaces_nothing(orders: Topic) -> None:
    """The version says what was seen last."""
    orders.create()
    schedule = orders.schedule()
    assert schedule["version"] == 1
    path = f"/schedules/{schedule['id']}"
    body = {"name": "renamed", "cron": "0 0 1 1 *", "message": "new", "version": 1}

    updated = orders.send("PUT", path, body).ok()

    assert (updated["name"], updated["message"], updated["version"]) == ("renamed", "new", 2)
    orders.send("PUT", path, {**body, "name": "stale"}).check_conflict()
    assert orders.send("GET", path).ok() == updated


class Missed(NamedTuple):
    """What a stopped server has missed."""

    due_ms: int
    noticed_ms: float
    next_ms: int


def set_back(db: Path, schedule: Json, minutes: int) -> Missed:
    """Make a stopped server's schedule due that long before it was."""
    next_ms = ms(schedule["next_run_at"])
    due_ms = next_ms - minutes * _MINUTE_MS
    connection = apsw.Connection(str(db))
    try:
        connection.execute("UPDATE schedule SET next_run_ms = ?", (due_ms,))
        assert connection.changes() == 1
    finally:
        connection.close()
    return Missed(due_ms, time.time() * 1000, next_ms)


def run_after_start(orders: Topic, schedule: Json, missed: Missed) -> Json:
    """Wait for what was missed to have its one run; see that the next is due in the future."""

    def found() -> list[Json]:
        return [
            each
            for each in orders.runs(schedule)
            if ms(each["created_at"]) >= missed.noticed_ms
            and ms(each["scheduled_for"]) < missed.next_ms
        ]

    until(lambda: bool(found()), "the missed run has fired")
    shown = orders.send("GET", f"/schedules/{schedule['id']}").ok()
    # What has become due since may not have fired yet, but it is never left behind.
    assert ms(shown["next_run_at"]) > time.time() * 1000 - 5000
    assert ms(shown["next_run_at"]) >= missed.next_ms
    (run,) = found()
    assert ms(run["scheduled_for"]) == missed.due_ms
    return run


def test_e25_what_was_missed_while_down_fires_once(tmp_path: Path) -> None:
    """For the earliest missed time; the next is in the future."""
    db = tmp_path / "queue.db"
    with serving(db) as server, v1_client(server) as client:
        orders = client.fresh_topic()
        orders.create()
        schedule = orders.schedule("minutely", "* * * * *")
        assert 0 < ms(schedule["next_run_at"]) - time.time() * 1000 + 1000 <= _MINUTE_MS + 2000
        assert server.stop() == 0
    missed = set_back(db, schedule, minutes=5)

    with serving(db) as server, v1_client(server) as client:
        orders = Topic(client, orders.name)
        run = run_after_start(orders, schedule, missed)

        assert run["status"] == "running"
        delivery = orders.claim_one()
        assert delivery["id"] == run["message_id"]
        orders.ack(delivery).ok()
        wait_for_run(orders, schedule, run["id"], "completed")


def test_e25_without_a_subscriber_a_run_fails_and_the_next_works(tmp_path: Path) -> None:
    """As soon as there is one again."""
    db = tmp_path / "queue.db"
    with serving(db) as server, v1_client(server) as client:
        orders = client.fresh_topic()
        orders.create()
        schedule = orders.schedule("minutely", "* * * * *")
        orders.remove().check_empty()
        assert server.stop() == 0
    missed = set_back(db, schedule, minutes=5)

    with serving(db) as server, v1_client(server) as client:
        orders = Topic(client, orders.name)
        failed = run_after_start(orders, schedule, missed)
        assert failed["status"] == "failed"
        assert failed["error"]
        assert "message_id" not in failed
        orders.add("worker")
        schedule = orders.send("GET", f"/schedules/{schedule['id']}").ok()
        assert server.stop() == 0
    # Another time than before: a time that has had its run never gets a second one.
    missed = set_back(db, schedule, minutes=3)

    with serving(db) as server, v1_client(server) as client:
        orders = Topic(client, orders.name)
        run = run_after_start(orders, schedule, missed)
        assert run["status"] == "running"
        assert orders.claim_one()["id"] == run["message_id"]


def test_e25_without_a_subscriber_run_now_is_a_conflict(orders: Topic) -> None:
    """And the failed run is recorded."""
    orders.create()
    schedule = orders.schedule()
    orders.remove().check_empty()

    orders.run_now(schedule).check_conflict()

    (run,) = orders.runs(schedule)
    assert run["status"] == "failed"
    orders.add("worker")
    assert orders.run_now(schedule).ok(202)["status"] == "running"
