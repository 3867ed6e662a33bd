"""Schedules in ``/v1``: which crons there are, when they are due, and what their runs publish."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from .http_server import serving
from .v1_client import Client, Json, Topic, ms, v1_client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("v1") / "queue.db"
    with serving(path) as server, v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, with a worker."""
    topic = client.fresh_topic()
    topic.create()
    return topic


@pytest.mark.parametrize(
    "cron",
    [
        *("* * * * *", "? ? ? ? ?", "0 0 1 1 *", "*/15 * * * *", "5/10 * * * *", "0-30/5 * * * *"),
        *("1,2,3 4,5 * * *", "0 0 * JAN-mar *", "0 0 * * sun", "0 0 * * MON-FRI", "0 0 * * 0,6"),
        *("59 23 31 12 6", "0 0 29 2 *", "  0   0 * * *  ", "0 0 1-31 1-12 0-6"),
    ],
)
def test_crons_that_are_taken(orders: Topic, cron: str) -> None:
    """Of five fields, and due in the future."""
    schedule = orders.schedule("s", cron)

    due_ms = ms(schedule["next_run_at"])
    assert due_ms > time.time() * 1000 - 5000
    assert due_ms % 60_000 == 0


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *"),
        *("* * * 0 *", "* * * 13 *", "* * * * 7", "-1 * * * *", "30-10 * * * *", "*/0 * * * *"),
        *("@daily", "@every 1h", "* * L * *", "* * 1W * *", "* * * * 1#2", "* * * * FRI-MON"),
        *("* * * FEBR *", "a * * * *", "1, * * * *", "1.5 * * * *", "0 0 30 2 *", "0 0 31 4 *"),
        *("TZ=UTC * * * * *", "CRON_TZ=UTC 0 0 * * *"),
    ],
)
def test_crons_that_are_refused(orders: Topic, cron: str) -> None:
    """Also when an existing schedule would get one."""
    orders.try_schedule("s", cron).check_invalid()
    schedule = orders.schedule("s")
    body: Json = {"name": "s", "cron": cron, "message": "tick", "version": 1}

    orders.send("PUT", f"/schedules/{schedule['id']}", body).check_invalid()

    assert orders.client.all_of(f"{orders.path}/schedules", "schedules") == [schedule]


@pytest.mark.parametrize(
    "members",
    [
        *({"name": value} for value in ("", "n" * 151, "é" * 75 + "n", None)),
        *({"timezone": value} for value in ("Mars/Olympus", "CEST+1", "../UTC", 5)),
        *({"misfire_policy": value} for value in ("fire_all", "skip")),
        *({"overlap_policy": value} for value in ("allow", "fire_once")),
        *({"priority": value} for value in (-1001, 1001, "1")),
        {"headers": {"a": 1}},
        {"headers": {"k": "v" * 16_377}},
        {"headers": []},
        {"correlation_id": "c" * 256},
        {"message": "m" * 1_048_577},
        {"cron": None},
        {"unknown": 1},
        {"paused": True},
    ],
    ids=lambda members: str(members)[:40],
)
def test_schedules_that_are_refused(orders: Topic, members: Json) -> None:
    """With nothing made."""
    orders.try_schedule(**members).check_invalid()

    assert orders.client.all_of(f"{orders.path}/schedules", "schedules") == []


@pytest.mark.parametrize("name", ["n", "n" * 150, "é" * 75])
def test_schedules_at_the_limits(orders: Topic, name: str) -> None:
    """Of their names; the rest are a message's."""
    members: Json = {
        "priority": 1000,
        "headers": {"k": "v" * 16_376},
        "correlation_id": "c" * 255,
        "misfire_policy": "fire_once",
        "overlap_policy": "skip",
        "timezone": "Europe/Berlin",
    }
    schedule = orders.schedule(name, **members)

    assert schedule["name"] == name
    assert {member: schedule[member] for member in members} == members
    run = orders.run_now(schedule).ok(202)
    shown = orders.status(run["message_id"])
    for member in ("priority", "headers", "correlation_id"):
        assert shown[member] == members[member]
    assert shown["idempotency_key"] == f"{schedule['id']}:{run['scheduled_for']}"


def next_at(zone: str, hour: int, minute: int) -> datetime:
    """Return when a clock on a wall will show a time next."""
    now = datetime.now(ZoneInfo(zone))
    due = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if due <= now:
        due = (due.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
    return due.astimezone(UTC)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_a_cron_is_read_in_its_zone(orders: Topic, zone: str) -> None:
    """Its clock on the wall decides."""
    before = next_at(zone, 17, 45)
    schedule = orders.schedule("daily", "45 17 * * *", timezone=zone)
    after = next_at(zone, 17, 45)

    assert schedule["timezone"] == zone
    due = datetime.fromisoformat(schedule["next_run_at"])
    assert before <= due <= after


def test_day_and_weekday_match_either_if_both_are_restricted(orders: Topic) -> None:
    """And both if one is a star."""
    either = orders.schedule("either", "0 0 13 * 5")
    step = orders.schedule("step", "0 0 */2 * 1")
    both = orders.schedule("both", "0 0 * * 5")

    def midnight(schedule: Json) -> datetime:
        return datetime.fromisoformat(schedule["next_run_at"])

    assert midnight(either) <= midnight(both)
    assert midnight(both).weekday() == 4
    assert midnight(step) <= datetime.now(UTC) + timedelta(days=3)


def test_an_unknown_schedule_is_not_found(orders: Topic) -> None:
    """By any of its routes."""
    other = orders.client.fresh_topic()
    other.create()
    foreign = other.schedule()["id"]
    body: Json = {"name": "s", "cron": "* * * * *", "message": "", "version": 1}
    for identity in (str(uuid.uuid4()), "nonsense", foreign):
        path = f"/schedules/{identity}"
        for method, suffix in [("GET", ""), ("DELETE", ""), ("GET", "/runs")]:
            orders.send(method, path + suffix).check_unknown()
        for verb in ("pause", "resume", "run-now"):
            orders.send("POST", f"{path}/{verb}").check_unknown()
        orders.send("PUT", path, body).check_unknown()


def test_pauses_are_versions_and_survive_a_replacement(orders: Topic) -> None:
    """A paused schedule still runs when it is told to."""
    schedule = orders.schedule()
    path = f"/schedules/{schedule['id']}"
    for version in (2, 3):
        assert orders.send("POST", f"{path}/pause").ok() == {"paused": True}
        shown = orders.send("GET", path).ok()
        assert (shown["paused"], shown["version"]) == (True, version)

    body: Json = {"name": "other", "cron": "0 0 2 2 *", "message": "m", "version": 3}
    replaced = orders.send("PUT", path, body).ok()

    assert (replaced["paused"], replaced["version"]) == (True, 4)
    assert replaced["created_at"] == schedule["created_at"]
    assert orders.run_now(schedule).ok(202)["status"] == "running"
    assert orders.claim_one()["message"] == "m"
    assert orders.send("POST", f"{path}/resume").ok() == {"paused": False}
    resumed = orders.send("GET", path).ok()
    assert resumed["version"] == 5
    assert resumed["next_run_at"] == replaced["next_run_at"]


def test_a_deleted_schedule_leaves_its_messages(orders: Topic) -> None:
    """Its runs go with it, and its name is free."""
    schedule = orders.schedule()
    run = orders.run_now(schedule).ok(202)
    orders.try_schedule().check_conflict()

    orders.send("DELETE", f"/schedules/{schedule['id']}").check_empty()

    orders.send("GET", f"/schedules/{schedule['id']}/runs").check_unknown()
    assert orders.claim_one()["id"] == run["message_id"]
    assert orders.schedule()["id"] != schedule["id"]
