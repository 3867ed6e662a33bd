"""Schedules of ``/v1``: what is shown, what is refused, and their pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from .http_server import until
from .v1_client import Client, Json, Topic, ms
from .v1_fixtures import client, server, topic

__all__ = ["client", "server", "topic"]

UNKNOWN = "00000000-0000-4000-8000-000000000000"

BAD_MEMBERS: list[dict[str, Any]] = [
    {"name": ""},
    {"name": "é" * 76},
    {"name": None},
    {"name": 5},
    {"cron": None},
    {"cron": ""},
    {"cron": "* * * *"},
    {"cron": "* * * * * *"},
    {"cron": "@daily"},
    {"cron": "* * * * 7"},
    {"cron": "* * L * *"},
    {"cron": "* * * * 1#2"},
    {"cron": "* * 15W * *"},
    {"cron": "0 22-2 * * *"},
    {"cron": "0 0 31 2 *"},
    {"timezone": "Mars/Olympus"},
    {"timezone": "../../etc/passwd"},
    {"timezone": "/etc/localtime"},
    {"message": 5},
    {"message": "x" * 1_048_577},
    {"headers": {"a": 1}},
    {"headers": {"a": "x" * 16_384}},
    {"correlation_id": "x" * 256},
    {"priority": 1001},
    {"priority": 0.5},
    {"misfire_policy": "fire_all"},
    {"overlap_policy": "queue"},
    {"paused": True},
]


def one(schedule: Json) -> str:
    """Return a schedule's path below its topic's."""
    return f"/schedules/{schedule['id']}"


def test_a_schedule_is_shown_as_it_was_made(topic: Topic) -> None:
    """With all that was left out at its default."""
    made = topic.schedule("plain")
    assert made.keys() == {
        *("id", "topic_id", "name", "cron", "timezone", "message", "headers", "priority"),
        *("misfire_policy", "overlap_policy", "paused", "version"),
        *("next_run_at", "created_at", "updated_at"),
    }
    assert (made["name"], made["cron"], made["timezone"]) == ("plain", "0 0 1 1 *", "UTC")
    assert (made["message"], made["headers"], made["priority"]) == ("tick", {}, 0)
    assert (made["misfire_policy"], made["overlap_policy"]) == ("fire_once", "skip")
    assert (made["paused"], made["version"]) == (False, 1)
    this_year = datetime.now(UTC).year
    assert made["next_run_at"] == f"{this_year + 1}-01-01T00:00:00Z"
    assert topic.send("GET", one(made)).ok() == made
    listed = topic.client.all_of(f"{topic.path}/schedules", "schedules")
    assert listed == [made]
    (shown,) = [
        each for each in topic.client.all_of("/v1/topics", "topics") if each["name"] == topic.name
    ]
    assert made["topic_id"] == shown["id"]


def test_a_schedule_keeps_all_that_it_is_told(topic: Topic) -> None:
    """And its message has it."""
    told = {
        "message": "☕",
        "headers": {"a": "b"},
        "correlation_id": "c",
        "priority": -5,
        "timezone": "America/New_York",
        "misfire_policy": "fire_once",
        "overlap_policy": "skip",
    }
    made = topic.schedule("full", "30 6 * jun MON-FRI", **told)
    assert {name: made[name] for name in told} == told
    assert made["cron"] == "30 6 * jun MON-FRI"
    assert ms(made["next_run_at"]) % 86_400_000 == (10 * 60 + 30) * 60_000

    run = topic.run_now(made).ok(202)

    delivery = topic.claim_one()
    assert (delivery["id"], delivery["message"]) == (run["message_id"], "☕")
    assert (delivery["headers"], delivery["correlation_id"]) == ({"a": "b"}, "c")
    status = topic.status(run["message_id"])
    assert status["priority"] == -5
    assert status["idempotency_key"] == f"{made['id']}:{run['scheduled_for']}"


def test_null_and_empty_members_are_absent_ones(topic: Topic) -> None:
    """As everywhere."""
    absent: dict[str, Any] = {
        **dict.fromkeys(("message", "timezone", "headers", "correlation_id", "priority")),
        **dict.fromkeys(("misfire_policy", "overlap_policy"), ""),
    }
    made = topic.schedule("null", **absent)
    assert (made["timezone"], made["message"], made["headers"]) == ("UTC", "", {})
    assert "correlation_id" not in made


@pytest.mark.parametrize("wrong", BAD_MEMBERS, ids=str)
def test_what_is_wrong_is_refused(topic: Topic, wrong: dict[str, Any]) -> None:
    """At making and at replacing, and nothing has changed."""
    made = topic.schedule()
    body = {"name": "wrong", "cron": "* * * * *", "message": "tick", **wrong}

    topic.send("POST", "/schedules", body).check_invalid()
    topic.send("PUT", one(made), {**body, "version": 1}).check_invalid()

    assert topic.client.all_of(f"{topic.path}/schedules", "schedules") == [made]


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.5])
def test_a_replacement_says_which_version_it_replaces(topic: Topic, version: Any) -> None:
    """A number from 1 on."""
    made = topic.schedule()
    body = {"name": "new", "cron": "0 0 1 1 *", "version": version}
    topic.send("PUT", one(made), body).check_invalid()
    assert topic.send("GET", one(made)).ok() == made


def test_a_replacement_sets_what_it_leaves_out_to_its_default(topic: Topic) -> None:
    """All but the pause, and the time of its making."""
    made = topic.schedule("full", message="m", headers={"a": "b"}, priority=3, correlation_id="c")
    topic.send("POST", one(made) + "/pause").ok()

    changed = topic.send("PUT", one(made), {"name": "n", "cron": "0 0 1 2 *", "version": 2}).ok()

    assert (changed["message"], changed["headers"], changed["priority"]) == ("", {}, 0)
    assert (changed["name"], changed["paused"], changed["version"]) == ("n", True, 3)
    assert (changed["id"], changed["created_at"]) == (made["id"], made["created_at"])
    assert "-02-01T00:00:00Z" in changed["next_run_at"]


def test_a_name_is_taken_once_in_a_topic(client: Client, topic: Topic) -> None:
    """And free when its schedule was deleted."""
    other = client.fresh_topic()
    other.create()
    made, second = topic.schedule("taken"), topic.schedule("second")
    other.schedule("taken")
    topic.try_schedule("taken").check_conflict()
    body = {"name": "taken", "cron": "0 0 1 1 *", "version": 1}
    topic.send("PUT", one(second), body).check_conflict()
    topic.send("DELETE", one(made)).check_empty()
    assert topic.schedule("taken")["id"] != made["id"]


def test_pause_and_resume_count_as_changes(topic: Topic) -> None:
    """Each time."""
    made = topic.schedule()
    for verb, paused in (("pause", True), ("pause", True), ("resume", False)):
        assert topic.send("POST", one(made) + f"/{verb}").ok() == {"paused": paused}
        assert topic.send("GET", one(made)).ok()["paused"] is paused
    shown = topic.send("GET", one(made)).ok()
    assert (shown["version"], shown["next_run_at"]) == (4, made["next_run_at"])


@pytest.mark.parametrize("identity", [UNKNOWN, "5", "no-uuid", "%00"])
def test_an_unknown_schedule_is_not_found(topic: Topic, identity: str) -> None:
    """Nor is one that was deleted, nor another topic's."""
    unknown = {"id": identity}
    body = {"name": "new", "cron": "0 0 1 1 *", "version": 1}
    topic.send("GET", one(unknown)).check_unknown()
    topic.send("PUT", one(unknown), body).check_unknown()
    topic.send("DELETE", one(unknown)).check_unknown()
    for verb in ("pause", "resume", "run-now"):
        topic.send("POST", one(unknown) + f"/{verb}").check_unknown()
    topic.send("GET", one(unknown) + "/runs").check_unknown()


def test_a_deleted_schedule_takes_its_runs_and_leaves_its_messages(
    client: Client, topic: Topic
) -> None:
    """And another topic never had it."""
    other = client.fresh_topic()
    other.create()
    made = topic.schedule()
    topic.run_now(made).ok(202)
    other.send("DELETE", one(made)).check_unknown()

    topic.send("DELETE", one(made)).check_empty()

    topic.send("DELETE", one(made)).check_unknown()
    topic.send("GET", one(made) + "/runs").check_unknown()
    topic.ack(topic.claim_one()).ok()


def test_schedules_of_a_deleted_topic_are_gone(topic: Topic) -> None:
    """A new topic of that name has none."""
    made = topic.schedule()
    topic.delete().check_empty()
    topic.send("GET", "/schedules").check_problem(404, "topic_not_found")
    topic.send("GET", one(made)).check_problem(404, "topic_not_found")
    topic.create()
    topic.send("GET", one(made)).check_unknown()
    assert topic.client.all_of(f"{topic.path}/schedules", "schedules") == []


# Runs.


def test_a_run_is_shown_with_what_it_has(topic: Topic) -> None:
    """No message and no times that it does not have."""
    made = topic.schedule()
    first = topic.run_now(made).ok(202)
    skipped = topic.run_now(made).ok(202)
    common = {"id", "schedule_id", "scheduled_for", "started_at", "status", "created_at"}
    assert first.keys() == {*common, "message_id"}
    assert skipped.keys() == {*common, "finished_at", "error"}
    assert abs(ms(first["scheduled_for"]) - ms(first["started_at"])) < 60_000
    assert topic.runs(made) == [skipped, first]
    topic.ack(topic.claim_one()).ok()
    completed = topic.runs(made)[1]
    assert completed == {**first, "status": "completed", "finished_at": completed["finished_at"]}
    assert ms(completed["finished_at"]) >= ms(completed["started_at"])


@pytest.mark.parametrize("force", ["1", "t", "true"])
def test_a_forced_run_does_not_wait(topic: Topic, force: str) -> None:
    """For the one before."""
    made = topic.schedule()
    runs = [topic.run_now(made, force).ok(202) for _ in range(2)]
    assert [each["status"] for each in runs] == ["running"] * 2
    assert len(topic.claim(limit=10)) == 2


@pytest.mark.parametrize("force", ["0", "f", "false", None])
def test_a_run_that_is_not_forced_is_skipped(topic: Topic, force: str | None) -> None:
    """While the one before is active."""
    made = topic.schedule()
    runs = [topic.run_now(made, force).ok(202) for _ in range(2)]
    assert [each["status"] for each in runs] == ["running", "skipped"]


@pytest.mark.parametrize("force", ["yes", "2", "no"])
def test_anything_else_for_force_is_refused(topic: Topic, force: str) -> None:
    """And nothing runs."""
    made = topic.schedule()
    topic.run_now(made, force).check_invalid()
    assert topic.runs(made) == []


def test_a_run_now_answers_a_parked_claim(topic: Topic) -> None:
    """While the schedule is paused."""
    made = topic.schedule()
    topic.send("POST", one(made) + "/pause").ok()
    parked = topic.park()
    run = topic.run_now(made).ok(202)
    (delivery,) = parked.answer().ok()
    assert delivery["id"] == run["message_id"]


def test_a_resumed_topic_hands_out_what_was_scheduled_meanwhile(topic: Topic) -> None:
    """The pause holds back claims and nothing else."""
    made = topic.schedule()
    topic.send("POST", "/pause").ok()
    run = topic.run_now(made).ok(202)
    topic.send("POST", "/resume").ok()
    assert topic.claim_one()["id"] == run["message_id"]


def test_lists_in_pages_of_one_hold_each_item_once(topic: Topic) -> None:
    """Schedules by name, runs by time, the latest first."""
    made = [topic.schedule(name) for name in ("c", "a", "b")]
    path = f"{topic.path}/schedules"
    pages = list(topic.client.pages(path, "schedules", 1))
    assert [each["name"] for (each,) in pages] == ["a", "b", "c"]
    runs = [topic.run_now(made[0], "1").ok(202) for _ in range(3)]
    path = f"{path}/{made[0]['id']}/runs"
    assert [run for (run,) in topic.client.pages(path, "runs", 1)] == runs[::-1]


@pytest.mark.parametrize("cursor", ["x", "A" * 200, "e30"])
def test_a_bad_cursor_is_refused(topic: Topic, cursor: str) -> None:
    """In both lists."""
    made = topic.schedule()
    topic.send("GET", "/schedules", cursor=cursor).check_invalid()
    topic.send("GET", one(made) + "/runs", cursor=cursor).check_invalid()


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_minutely_schedule_fires_within_a_second(topic: Topic) -> None:
    """By the clock on the wall."""
    made = topic.schedule("minutely", "* * * * *")
    (delivery,) = topic.claim(timeout="60s") or topic.claim(timeout="60s")
    late_ms = ms(delivery["created_at"]) - ms(made["next_run_at"])
    assert -50 <= late_ms < 1_000
    topic.ack(delivery).ok()
    until(lambda: topic.runs(made)[-1]["status"] == "completed", "the run is completed")
    assert topic.runs(made)[-1]["scheduled_for"] == made["next_run_at"]
