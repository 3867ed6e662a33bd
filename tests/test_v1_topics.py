"""Topics and subscribers of ``/v1``: what is shown, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .v1_client import Client, Topic
from .v1_fixtures import client, server, topic

__all__ = ["client", "server", "topic"]

UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

# What is refused, and nothing is made.
BAD_OPTIONS: list[dict[str, Any]] = [
    {"visibility_duration": "13h"},
    {"visibility_duration": "-1s"},
    {"visibility_duration": "5"},
    {"visibility_duration": "1d"},
    {"visibility_duration": 5},
    {"dequeue_batch_size": 1001},
    {"max_attempts": "3"},
    {"max_attempts": 1.5},
    {"retry_policy": {"initial_delay": "100us"}},
    {"retry_policy": {"initial_delay": "-1s"}},
    {"retry_policy": {"initial_delay": "2h"}},
    {"retry_policy": {"initial_delay": "2s", "max_delay": "1s"}},
    {"retry_policy": {"multiplier": 0.5}},
    {"retry_policy": {"multiplier": -1}},
    {"retry_policy": {"multiplier": 1e999}},
    {"retry_policy": {"jitter": 1.1}},
    {"retry_policy": {"jitter": -0.1}},
    {"retry_policy": {"disable_jitter": 1}},
    {"visibility": "5m"},
]


def test_a_made_topic_is_shown_as_it_is_listed(client: Client, topic: Topic) -> None:
    """With an id that is no number, and the second in which it was made."""
    other = client.fresh_topic()

    made = other.create()

    assert made.keys() == {"id", "name", "paused", "created_at"}
    assert (made["name"], made["paused"]) == (other.name, False)
    assert UUID.fullmatch(made["id"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created_at"])
    listed = {each["name"]: each for each in client.all_of("/v1/topics", "topics")}
    assert listed[other.name] == made
    assert listed[topic.name]["id"] != made["id"]


def test_a_topic_of_the_same_name_has_another_id(topic: Topic) -> None:
    (first,) = [
        each for each in topic.client.all_of("/v1/topics", "topics") if each["name"] == topic.name
    ]
    topic.delete().check_empty()

    assert topic.create()["id"] != first["id"]
    topic.delete().check_empty()
    topic.delete().check_problem(404, "topic_not_found")


@pytest.mark.parametrize("subscribers", [None, [], [{}], ["worker"], {"name": "worker"}, 1])
def test_a_topic_needs_subscribers(client: Client, subscribers: Any) -> None:
    topic = client.fresh_topic()

    body = {"name": topic.name, "subscribers": subscribers}
    client.send("POST", "/v1/topics", body).check_invalid()

    assert topic.delete().status == 404


def test_at_most_a_thousand_subscribers_are_made_at_once(topic: Topic) -> None:
    names = [f"s{number}" for number in range(1001)]

    topic.try_add(*names).check_invalid()
    assert len(topic.try_add(*names[1:]).ok(201)) == 1000


def test_a_taken_or_repeated_name_is_a_conflict(topic: Topic) -> None:
    """All or nothing, for topics and for subscribers."""
    topic.try_create().check_conflict()
    topic.client.fresh_topic().try_create("a", "a").check_conflict()
    topic.try_add("new", "worker").check_conflict()
    topic.try_add("new", "new").check_conflict()

    listed = topic.client.all_of(f"{topic.path}/subscribers", "subscribers")
    assert [each["name"] for each in listed] == ["worker"]


@pytest.mark.parametrize("option", BAD_OPTIONS, ids=str)
def test_a_bad_option_is_refused(client: Client, topic: Topic, option: dict[str, Any]) -> None:
    client.fresh_topic().try_create(**option).check_invalid()
    topic.try_add({"name": "new", "option": option}).check_invalid()

    assert topic.remove("new").status == 404


def test_subscribers_are_shown_as_they_were_sent(topic: Topic) -> None:
    """What was absent is empty or zero there, not the default that it gets."""
    policy = {"initial_delay": "1s", "max_delay": "1m", "multiplier": 3, "jitter": 0.5}
    option = {"max_attempts": 5, "visibility_duration": "90s", "dequeue_batch_size": 7}
    whole = option | {"retry_policy": policy | {"disable_jitter": True}}

    shown = topic.try_add({"name": "whole", "option": whole}, "bare").ok(201)

    empty = {"initial_delay": "", "max_delay": "", "multiplier": 0, "jitter": 0}
    assert shown == [
        {"name": "whole", "option": whole},
        {
            "name": "bare",
            "option": {
                "max_attempts": 0,
                "visibility_duration": "",
                "dequeue_batch_size": 0,
                "retry_policy": empty | {"disable_jitter": False},
            },
        },
    ]


@pytest.mark.parametrize(
    "option",
    [
        {"max_attempts": -1, "visibility_duration": "0s", "dequeue_batch_size": -5},
        {"visibility_duration": "", "retry_policy": {"initial_delay": "0", "multiplier": 0}},
        {"max_attempts": 10**18, "visibility_duration": "12h"},
        {"visibility_duration": "1ms", "retry_policy": {"initial_delay": "1ms", "jitter": 1}},
    ],
    ids=str,
)
def test_what_is_empty_or_zero_is_the_default(topic: Topic, option: dict[str, Any]) -> None:
    """Negative counts too, and no maximum of attempts is too large."""
    topic.try_add({"name": "new", "option": option}).ok(201)


def test_pausing_says_what_is_so_now(topic: Topic) -> None:
    """And it can be repeated."""
    for path in ("", topic.of()):
        for verb, paused in (("pause", True), ("resume", False)):
            for _ in range(2):
                assert topic.send("POST", f"{path}/{verb}").ok() == {"paused": paused}

    topic.send("POST", "/pause").ok()
    (shown,) = [
        each for each in topic.client.all_of("/v1/topics", "topics") if each["name"] == topic.name
    ]
    assert shown["paused"] is True


def test_an_unknown_subscriber_is_404_everywhere(topic: Topic) -> None:
    """Batches too, whatever they hold."""
    message = topic.publish()
    receipt = {"receipt_token": "x"}
    item = {"message_id": message, **receipt}
    requests: list[tuple[str, str, Any]] = [
        ("DELETE", "", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("POST", "/claim", None),
        ("GET", "/messages", None),
        ("GET", "/dlq", None),
        ("POST", "/dlq/replay", {"message_ids": [message]}),
        ("POST", "/messages/batch/ack", [item]),
        ("POST", "/messages/batch/ack", [{}]),
        ("POST", "/messages/batch/nack", [item]),
        ("POST", f"/messages/{message}/ack", receipt),
        ("POST", f"/messages/{message}/nack", receipt),
        ("POST", f"/messages/{message}/lease", receipt),
        ("POST", f"/messages/{message}/snooze", receipt),
        ("POST", f"/messages/{message}/cancel", None),
        ("GET", f"/messages/{message}/errors", None),
    ]
    for method, path, body in requests:
        topic.send(method, topic.of("nobody") + path, body).check_unknown()


def test_a_subscribers_counters_are_listed_with_its_topic(client: Client, topic: Topic) -> None:
    topic.publish_many(3)
    topic.claim(limit=1)

    (shown,) = client.all_of(f"{topic.path}/subscribers", "subscribers")

    (made,) = [each for each in client.all_of("/v1/topics", "topics") if each["name"] == topic.name]
    counters = {"unpublished_message": 2, "unacked_message": 1}
    assert shown == {"topic_id": made["id"], "name": "worker", **counters}


def test_the_last_subscriber_may_go(topic: Topic) -> None:
    """Then nothing can be published."""
    topic.remove().check_empty()

    topic.remove().check_unknown()
    topic.try_publish().check_conflict()
