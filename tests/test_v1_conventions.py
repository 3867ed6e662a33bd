"""What all of ``/v1`` has in common, over real HTTP."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from blockqueue import (
    BackPressure,
    CommitUnknown,
    DiskFull,
    LeaseLost,
    QueueClosed,
    TopicNotFound,
)
from blockqueue.api.v1 import _problem

from .http_server import Server
from .v1_client import Client, Reply, Topic, v1_client
from .v1_fixtures import client, server, topic

__all__ = ["client", "server", "topic"]

MIB = 1_048_576
SUBSCRIBERS = [{"name": "worker"}]


def post(client: Client, path: str, raw: str | bytes) -> Reply:
    """Send a body as it is."""
    return client.send("POST", path, raw if isinstance(raw, bytes) else raw.encode())


# Bodies.


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " \n",
        "{",
        "null",
        "[]",
        '"text"',
        '{"message":"a"} {"message":"b"}',
        '{"message":"a"}x',
        '{"message":"a","colour":"red"}',
        '{"message":"a","headers":{"a":1}}',
        '{"message":1}',
        '{"message":"a","priority":"1"}',
        '{"message":"a","priority":1.5}',
        '{"message":"a","priority":1001}',
        '{"message":"\\ud800"}',
        b'{"message":"\xff"}',
        "[" * 100_000,
        '{"message":"a","headers":' + '{"a":' * 5000 + "1" + "}" * 5001,
    ],
    ids=lambda raw: raw[:40],
)
def test_a_body_that_is_not_one_expected_value_is_refused(topic: Topic, raw: str | bytes) -> None:
    """Nothing is published, and the connection still works."""
    post(topic.client, f"{topic.path}/messages", raw).check_invalid()

    assert topic.counters() == (0, 0)


@pytest.mark.parametrize("method_and_path", ["POST /messages", "POST /subscribers"])
def test_an_unknown_member_in_a_list_is_refused(topic: Topic, method_and_path: str) -> None:
    method, path = method_and_path.split()

    topic.send(method, path, [{"name": "a", "nick": "b"}]).check_invalid()


def test_members_are_known_in_any_case(topic: Topic) -> None:
    """Also in objects inside, but the names of headers are the publisher's."""
    body = {"MESSAGE": "a", "Headers": {"Message": "1", "message": "2"}, "pRiority": 7}

    published = topic.send("POST", "/messages", body, wait_for="commit").ok()

    shown = topic.status(published["message_id"])
    assert (shown["message"], shown["priority"]) == ("a", 7)
    assert shown["headers"] == {"Message": "1", "message": "2"}
    option = {"Max_Attempts": 1, "Retry_Policy": {"INITIAL_DELAY": "1s"}}
    shown = topic.send("POST", "/subscribers", [{"Name": "b", "Option": option}]).ok(201)
    assert shown[0]["option"]["retry_policy"]["initial_delay"] == "1s"


def test_null_is_the_same_as_absent(topic: Topic) -> None:
    """Members of objects inside, too; a required one is then missing."""
    members = ("message", "headers", "correlation_id", "priority", "delay", "schedule_at")
    body = dict.fromkeys([*members, "idempotency_key"])

    topic.send("POST", "/messages", body).ok(202)

    (claimed,) = topic.claim()
    assert claimed["message"] == ""
    assert not claimed.keys() & {"headers", "correlation_id", "priority"}
    option = {"max_attempts": None, "retry_policy": {"jitter": None, "disable_jitter": None}}
    topic.send("POST", "/subscribers", [{"name": "b", "option": option}]).ok(201)
    topic.send("POST", "/subscribers", [{"name": "c", "option": None}]).ok(201)
    topic.send("POST", "/subscribers", [{"name": None}]).check_invalid()


def test_the_last_of_equal_members_counts(topic: Topic) -> None:
    post(topic.client, f"{topic.path}/messages", '{"Message":"a","message":"b"}').ok(202)

    assert topic.claim_one()["message"] == "b"


def test_the_content_type_does_not_matter(server: Server, topic: Topic) -> None:
    head = f"POST {topic.path}/messages HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"

    answer = server.say(f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    assert answer.startswith(b"HTTP/1.1 202 ")


def test_a_body_may_have_16_mib(server: Server, topic: Topic) -> None:
    """One byte more is an invalid request like any other, in the contract's words."""
    body = b'{"message":"a"}'

    post(topic.client, f"{topic.path}/messages", body.ljust(16 * MIB)).ok(202)
    with v1_client(server) as other:
        post(other, f"{topic.path}/messages", body.ljust(16 * MIB + 1)).check_invalid()


@pytest.mark.parametrize("body", [None, b"", b" \n", b"{}", b"null", b'{"reason":null}'])
def test_a_cancel_needs_no_body(topic: Topic, body: bytes | None) -> None:
    message = topic.publish()

    topic.on(message, "cancel", body).ok()
    topic.cancel_message(message, body).ok()


def test_a_bad_body_is_reported_before_unknown_things(topic: Topic) -> None:
    """But after an unknown topic."""
    topic.send("POST", "/subscribers/nobody/messages/x/ack", {"a": 1}).check_invalid()
    topic.send("POST", "/subscribers/nobody/messages/batch/nack", []).check_invalid()
    unknown = topic.client.fresh_topic()
    unknown.send("POST", "/messages", {"a": 1}).check_problem(404, "topic_not_found")
    unknown.send("GET", "/subscribers", cursor="%").check_problem(404, "topic_not_found")


# Paths and methods.


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/queues", "/v1/topics/a/b/c", "/v1/topics/a/subscribers/b/c"]
)
def test_an_unknown_path_is_404_in_plain_text(client: Client, path: str) -> None:
    answer = client.send("GET", path)

    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["X-Request-Id"]


def test_only_a_topics_own_path_may_end_in_a_slash(topic: Topic) -> None:
    for method, path in [
        ("GET", "/v1/topics/"),
        ("PUT", "/v1/topics/"),
        ("GET", f"{topic.path}/subscribers/"),
        ("POST", f"{topic.path}/pause/"),
        ("DELETE", f"{topic.path}//"),
    ]:
        answer = topic.client.send(method, path)
        assert (answer.status, answer.headers["Content-Type"][:10]) == (404, "text/plain"), path

    topic.client.send("DELETE", f"{topic.path}/").check_empty()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/topics", "GET, POST"),
        ("HEAD", "/v1/topics", "GET, POST"),
        ("OPTIONS", "/v1/topics", "GET, POST"),
        ("OPTIONS", "/v1/topics/a", "DELETE"),
        ("GET", "/v1/topics/a", "DELETE"),
        ("PATCH", "/v1/topics/a/schedules/b", "DELETE, GET, PUT"),
        ("BREW", "/v1/topics/a/messages", "POST"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    client: Client, method: str, path: str, allowed: str
) -> None:
    """Whether or not the topic exists."""
    answer = client.send(method, path)

    answer.check_empty(405)
    assert answer.headers["Allow"] == allowed
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize("name", ["a:b&c", "käse 🧀", "100%", "a+b", "?", "a;b=c", "…"])
def test_names_are_decoded_once(client: Client, name: str) -> None:
    """In the path, and encoded again in the place of what was published."""
    topic = Topic(client, name)
    client.send("POST", "/v1/topics", {"name": name, "subscribers": [{"name": name}]}).ok(201)

    published = topic.try_publish(wait_for=None)

    place = f"{topic.path}/messages/{published.ok(202)['message_id']}"
    assert published.headers["Location"] == place
    assert client.send("GET", place).ok()["deliveries"][0]["subscriber"] == name
    assert topic.claim_one(name)["message"] == "hi"
    topic.delete().check_empty()


def test_an_encoded_slash_is_no_separator(topic: Topic) -> None:
    """Or a name could reach another route."""
    answer = topic.client.send("POST", f"{topic.path}%2Fpause")

    assert answer.status == 404
    topic.publish()
    assert len(topic.claim()) == 1


# Problems.


def test_an_unknown_topic_is_named_by_its_path(client: Client) -> None:
    """And it is the only problem that says where it happened."""
    topic = client.fresh_topic()
    for method, path in [
        ("DELETE", ""),
        ("POST", "/pause"),
        ("GET", "/subscribers"),
        ("DELETE", "/subscribers/a"),
        ("POST", "/messages"),
        ("GET", "/messages/a"),
        ("POST", "/subscribers/a/claim"),
        ("POST", "/subscribers/a/messages/batch/ack"),
        ("GET", "/subscribers/a/dlq"),
        ("GET", "/schedules"),
        ("GET", "/schedules/a/runs"),
    ]:
        topic.send(method, path).check_problem(404, "topic_not_found")


@pytest.mark.parametrize("encoding", ["chunked", "gzip"])
def test_what_the_parser_refuses_is_a_problem_too(server: Server, encoding: str) -> None:
    """Not HTTP, but for this contract."""
    head = f"POST /v1/topics HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: {MIB}"

    answer = server.say(f"{head}\r\nTransfer-Encoding: {encoding}\r\n\r\n".encode())

    head_bytes, body = answer.split(b"\r\n\r\n", 1)
    assert b"application/problem+json" in head_bytes
    assert b"X-Request-Id: mine" in head_bytes
    assert json.loads(body)["code"] == "validation_error"


def test_a_head_that_is_too_long_is_a_problem_of_its_contract(server: Server) -> None:
    """Even if it never ends."""
    for path, kind in (("/v1/topics", b"problem+json"), ("/topics", b"application/json")):
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX: ".encode() + b"x" * 20_000

        assert kind in server.say(request).split(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DiskFull("no room"), 503, "service_unavailable"),
        (CommitUnknown("perhaps"), 503, "service_unavailable"),
        (QueueClosed("closed"), 503, "service_unavailable"),
        (BackPressure("too much"), 429, "buffer_pressure"),
        (TopicNotFound("deleted meanwhile"), 404, "resource_not_found"),
        (LeaseLost("too late"), 409, "conflict"),
        (RuntimeError("secret"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_a_problem(error: Exception, status: int, code: str) -> None:
    """What can be tried again says when, and what is unexpected says nothing."""
    answer = _problem.refusal(error, "mine")

    problem = json.loads(answer.body)
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"https://blockqueue.dev/problems/{code}"
    assert (problem["detail"] == str(error)) == (status != 500)
    headers = dict(answer.headers)
    assert headers.pop("X-Request-Id") == "mine"
    assert ("Retry-After" in headers) == (status in {429, 503})


# Request ids.


@pytest.mark.parametrize("given", ["a", "x" * 128, "trace-1 ~!"])
def test_a_requests_own_id_comes_back(server: Server, topic: Topic, given: str) -> None:
    """With answers at once, with those that wait, and with refusals."""
    for request in (
        f"GET {topic.path}/subscribers",
        f"POST {topic.path}/subscribers/worker/claim?timeout=1ms",
        "GET /v1/nothing",
        "PUT /v1/topics",
        "GET /v1/topics/unknown/schedules",
    ):
        assert request_id(server, request, given) == given, request


@pytest.mark.parametrize("given", ["", "x" * 129, "tab\there", "käse"])
def test_an_id_that_cannot_be_one_is_replaced(server: Server, topic: Topic, given: str) -> None:
    path = f"GET {topic.path}/subscribers"

    first, second = request_id(server, path, given), request_id(server, path, given)

    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def request_id(server: Server, request: str, given: str) -> str:
    """Return the id of the answer to a request."""
    lines = [f"{request} HTTP/1.1", "Host: x", f"X-Request-Id: {given}", "Connection: close"]
    answer = server.say("\r\n".join([*lines, "", ""]).encode())
    (found,) = re.findall(rb"^X-Request-Id: (.*)\r$", answer, re.MULTILINE | re.IGNORECASE)
    return str(found.decode())


# Pages.


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1.5", "1_0", "9" * 30, "1001", "٣"])
def test_a_strange_limit_is_not_refused(topic: Topic, limit: str) -> None:
    """It stands for the default, or for the maximum."""
    assert topic.send("GET", "/subscribers", limit=limit).ok()["subscribers"]
    topic.publish()
    assert len(topic.claim(limit=limit)) == 1


@pytest.mark.parametrize("cursor", ["x", "AAAA", "%", "ä", "a b", "A" * 3000])
def test_a_cursor_that_was_not_given_is_refused(topic: Topic, cursor: str) -> None:
    topic.client.send("GET", "/v1/topics", cursor=cursor).check_invalid()
    for path in (
        "/subscribers",
        "/schedules",
        "/subscribers/worker/messages",
        "/subscribers/worker/dlq",
        "/subscribers/worker/messages/x/errors",
        "/schedules/x/runs",
    ):
        topic.send("GET", path, cursor=cursor).check_invalid()


def test_a_cursor_of_another_list_is_refused(topic: Topic) -> None:
    topic.add("another")
    cursor = topic.send("GET", "/subscribers", limit=1).ok()["next_cursor"]

    topic.client.send("GET", "/v1/topics", cursor=cursor).check_invalid()
    topic.send("GET", "/schedules", cursor=cursor).check_invalid()


def test_an_empty_cursor_is_none(topic: Topic) -> None:
    assert len(topic.send("GET", "/subscribers", cursor="").ok()["subscribers"]) == 1


# Names.


@pytest.mark.parametrize(
    "name", ["", "a/b", " a", "a ", "a\nb", "\x00", "\x85", ".", "..", "x" * 151, "ä" * 76]
)
def test_a_bad_name_is_refused(client: Client, topic: Topic, name: str) -> None:
    """For topics and for subscribers, and nothing is made."""
    body = {"name": name, "subscribers": SUBSCRIBERS}
    client.send("POST", "/v1/topics", body).check_invalid()
    topic.try_add("fine", name).check_invalid()

    assert [each["name"] for each in client.all_of(f"{topic.path}/subscribers", "subscribers")] == [
        "worker"
    ]
    if name not in {"", ".", ".."} and "/" not in name:
        client.send("GET", f"/v1/topics/{quote(name, safe='')}/subscribers").check_problem(
            404, "topic_not_found"
        )
