"""The conventions of ``/v1``: bodies, names, options, pages, and how it refuses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .http_server import Server, serving
from .v1_client import Client, Json, Topic, v1_client

_BODY_BYTES_MAX = 16 * 1024 * 1024
_SOME_ID = "0199d5a4-0000-8000-8000-000000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("v1") / "queue.db") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with v1_client(server) as connected:
        yield connected


@pytest.fixture
def orders(client: Client) -> Topic:
    """A topic of the test's own, not made yet."""
    return client.fresh_topic()


# How many items.


def test_lists_in_a_body_have_one_to_a_thousand_items(orders: Topic) -> None:
    """Subscribers, messages, acks, nacks and replays."""
    names = [f"s{number:04}" for number in range(1001)]
    orders.client.send("POST", "/v1/topics", {"name": orders.name}).check_invalid()
    empty: Json = {"name": orders.name, "subscribers": []}
    orders.client.send("POST", "/v1/topics", empty).check_invalid()
    orders.try_create(*names).check_invalid()
    orders.create(*names[:1000])
    orders.try_add(*(f"t{name}" for name in names)).check_invalid()
    orders.try_add().check_invalid()
    orders.try_add(*(f"t{name}" for name in names[:1000])).ok(201)
    assert len(list(orders.client.pages(f"{orders.path}/subscribers", "subscribers", 1000))) == 2


def test_batches_have_one_to_a_thousand_items(orders: Topic) -> None:
    """One more is too many for all of them."""
    orders.create()
    message = {"message": ""}
    orders.try_batch([]).check_invalid()
    orders.try_batch([message] * 1001).check_invalid()
    assert orders.active() == []
    assert len(orders.try_batch([message] * 1000).ok()) == 1000
    unknown = {"message_id": _SOME_ID, "receipt_token": _SOME_ID}
    for verb in ("ack", "nack"):
        orders.batch(verb, []).check_invalid()
        orders.batch(verb, [unknown] * 1001).check_invalid()
        assert len(orders.batch(verb, [unknown] * 1000).ok()) == 1000
    orders.replay().check_invalid()
    orders.replay(*[_SOME_ID] * 1001).check_invalid()
    assert len(orders.replay(*[_SOME_ID] * 1000).ok()) == 1000
    orders.send("POST", f"{orders.of()}/dlq/replay", {}).check_invalid()


# Bodies.


def bodies(orders: Topic) -> dict[str, Any]:
    """Return the routes below a topic that read a body, and one that each would take."""
    receipt = {"receipt_token": str(uuid.uuid4())}
    delivery = f"{orders.of()}/messages/{_SOME_ID}"
    items = [{"message_id": _SOME_ID, **receipt}]
    return {
        "/subscribers": [{"name": "another"}],
        "/messages": {"message": "hi"},
        "/messages/batch": [{"message": "hi"}],
        f"/messages/{_SOME_ID}/cancel": {"reason": "why"},
        f"{delivery}/ack": receipt,
        f"{delivery}/nack": receipt,
        f"{delivery}/lease": receipt,
        f"{delivery}/snooze": {**receipt, "delay": "1s"},
        f"{delivery}/cancel": {"reason": "why"},
        f"{orders.of()}/messages/batch/ack": items,
        f"{orders.of()}/messages/batch/nack": items,
        f"{orders.of()}/dlq/replay": {"message_ids": [_SOME_ID]},
        "/schedules": {"name": "nightly", "cron": "0 0 1 1 *", "message": "tick"},
    }


def with_unknown_member(body: Any) -> bytes:
    first = body[0] if isinstance(body, list) else body
    first = {**first, "unknown": None}
    return json.dumps([first] if isinstance(body, list) else first).encode()


def test_bodies_that_are_refused_everywhere(orders: Topic) -> None:
    """Before an unknown message is; and nothing is done."""
    orders.create()
    for path, body in bodies(orders).items():
        good = json.dumps(body).encode()
        wrong_type = b"{}" if isinstance(body, list) else b"[]"
        bad = [
            *(good + good, good + b" x", good[:-1], b"nonsense", b"5", b'"text"', wrong_type),
            *(with_unknown_member(body), b"\xff\xfe", b"   "),
        ]
        for each in bad:
            if each.strip() or not path.endswith("/cancel"):
                orders.send("POST", path, each).check_invalid()
    assert orders.active() == []
    assert orders.counters() == (0, 0)
    assert orders.client.all_of(f"{orders.path}/schedules", "schedules") == []


def test_an_empty_body_is_only_fine_for_cancels(orders: Topic) -> None:
    """There the message is what is missing."""
    orders.create()
    for path in bodies(orders):
        reply = orders.send("POST", path)
        if path.endswith("/cancel"):
            reply.check_unknown()
        else:
            reply.check_invalid()


def test_a_bad_body_is_reported_before_an_unknown_subscriber(orders: Topic) -> None:
    """But after an unknown topic."""
    orders.create()
    for path in bodies(orders):
        if path.startswith(orders.of()):
            unknown = path.replace(orders.of(), orders.of("nobody"), 1)
            orders.send("POST", unknown, b"nonsense").check_invalid()
    orders.delete().check_empty()
    for path in bodies(orders):
        orders.send("POST", path, b"nonsense").check_problem(404, "topic_not_found")


def test_space_around_a_body_is_fine(orders: Topic) -> None:
    """And no content type is asked for."""
    orders.create()
    orders.send("POST", "/messages", b' \r\n\t{"message":"hi"} \n').ok(202)


def test_member_names_match_in_any_case(orders: Topic) -> None:
    """At every depth."""
    option = {"MAX_ATTEMPTS": 1, "Retry_Policy": {"Initial_Delay": "1h", "MAX_delay": "1h"}}
    listed = [{"Name": "worker", "Option": option}]
    topics = {"NAME": orders.name, "Subscribers": listed}
    assert orders.client.send("POST", "/v1/topics", topics).ok(201)["name"] == orders.name
    body = {"MESSAGE": "hi", "Priority": 7, "headers": {"Case": "Kept"}, "Correlation_ID": "c"}

    orders.send("POST", "/messages", body, wait_for="commit").ok()

    delivery = orders.claim_one()
    assert (delivery["message"], delivery["priority"]) == ("hi", 7)
    assert (delivery["headers"], delivery["correlation_id"]) == ({"Case": "Kept"}, "c")
    receipt = {"Receipt_Token": delivery["receipt_token"], "ERROR": "no"}
    orders.on(delivery["id"], "nack", receipt).ok()
    assert [each["id"] for each in orders.dead()] == [delivery["id"]]


def test_null_is_absent(orders: Topic) -> None:
    """A member that is required is then missing."""
    option = dict.fromkeys(["max_attempts", "visibility_duration", "retry_policy"])
    orders.create(**option)
    orders.client.send("POST", "/v1/topics", {"name": None, "subscribers": None}).check_invalid()
    members = ["headers", "correlation_id", "idempotency_key", "priority", "delay", "schedule_at"]
    body = dict.fromkeys(["message", *members])

    orders.send("POST", "/messages", body, wait_for="commit").ok()

    delivery = orders.claim_one()
    assert delivery["message"] == ""
    assert not {"headers", "correlation_id", "priority"} & delivery.keys()
    orders.on(delivery["id"], "ack", {"receipt_token": None}).check_invalid()
    orders.nack(delivery, retry_delay=None, error=None).ok()


def test_a_body_of_more_than_16_mebibytes_is_refused(orders: Topic) -> None:
    """Counted with all its space."""
    orders.create()
    body = b'{"message":"hi"}'
    orders.send("POST", "/messages", body.ljust(_BODY_BYTES_MAX)).ok(202)

    orders.send("POST", "/messages", body.ljust(_BODY_BYTES_MAX + 1)).check_invalid()


# Paths and methods.


@pytest.mark.parametrize("path", ["", "/", "/nowhere", "/topics/", "/topics/a/b"])
def test_an_unknown_path_is_plainly_not_found(client: Client, path: str) -> None:
    """As text, unlike everything else."""
    reply = client.send("GET", f"/v1{path}")

    assert reply.status == 404
    assert reply.headers["Content-Type"].startswith("text/plain")


def test_only_a_topics_own_path_may_end_in_a_slash(orders: Topic) -> None:
    """To delete it, as the description and the dashboard do."""
    orders.create()
    for path in ("/subscribers/", "/schedules/", f"{orders.of()}/", f"{orders.of()}/dlq/"):
        reply = orders.send("GET", path)
        assert reply.status == 404
        assert reply.headers["Content-Type"].startswith("text/plain")

    orders.send("DELETE", "/").check_empty()

    orders.send("DELETE", "/").check_problem(404, "topic_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("PUT", "/topics"), ("DELETE", "/topics"), ("HEAD", "/topics")),
        *(("GET", "/topics/a"), ("POST", "/topics/a"), ("PUT", "/topics/a/")),
        *(("GET", "/topics/a/pause"), ("HEAD", "/topics/a/subscribers")),
        *(("GET", "/topics/a/messages"), ("GET", "/topics/a/subscribers/b/claim")),
        *(("POST", "/topics/a/subscribers/b"), ("DELETE", "/topics/a/messages/c")),
        *(("PATCH", "/topics/a/schedules/c"), ("POST", "/topics/a/subscribers/b/dlq")),
    ],
)
def test_a_wrong_method_has_an_empty_answer(client: Client, method: str, path: str) -> None:
    """It says which there are; to ask for the head alone is not among them."""
    reply = client.send(method, f"/v1{path}")

    assert (reply.status, reply.body) == (405, b"")
    assert reply.headers["Allow"]
    assert "HEAD" not in reply.headers["Allow"]


# Pages.


@pytest.mark.parametrize("limit", [None, "", "0", "-1", "x", "1.5"])
def test_a_page_has_a_hundred_items_unless_told_otherwise(orders: Topic, limit: str | None) -> None:
    """A limit that cannot be read is none."""
    orders.create(*(f"s{number:03}" for number in range(101)))

    page = orders.send("GET", "/subscribers", limit=limit).ok()

    assert [each["name"] for each in page["subscribers"]] == [f"s{n:03}" for n in range(100)]
    rest = orders.send("GET", "/subscribers", limit=limit, cursor=page["next_cursor"]).ok()
    assert [each["name"] for each in rest["subscribers"]] == ["s100"]
    assert set(rest) == {"subscribers"}


def test_a_page_has_a_thousand_items_at_most(orders: Topic) -> None:
    """However many are asked for."""
    orders.create()
    orders.publish_many(1000)
    orders.publish()

    page = orders.send("GET", f"{orders.of()}/messages", limit=5000).ok()

    assert len(page["messages"]) == 1000
    assert page["next_cursor"]


@pytest.mark.parametrize("cursor", ["x", "!", "AAAA", "e30", "é", "a" * 5000])
def test_a_bad_cursor_is_refused_by_every_list(orders: Topic, cursor: str) -> None:
    """Whatever is wrong with it."""
    orders.create()
    message_id = orders.publish()
    schedule = orders.schedule()
    lists = [
        "/subscribers",
        "/schedules",
        f"/schedules/{schedule['id']}/runs",
        f"{orders.of()}/messages",
        f"{orders.of()}/dlq",
        f"{orders.of()}/messages/{message_id}/errors",
    ]
    orders.client.send("GET", "/v1/topics", cursor=cursor).check_invalid()
    for path in lists:
        orders.send("GET", path, cursor=cursor).check_invalid()


def test_empty_lists_are_lists(orders: Topic) -> None:
    """And not null, nor left out."""
    orders.create()
    for path, array in [("/schedules", "schedules"), (f"{orders.of()}/dlq", "messages")]:
        assert orders.send("GET", path).ok() == {array: []}
    orders.remove().check_empty()
    assert orders.send("GET", "/subscribers").ok() == {"subscribers": []}
