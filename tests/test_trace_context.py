"""The trace of a publish: two headers of HTTP that a consumer gets with the message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blockqueue import BlockQueue, ValidationError
from blockqueue.api._message import Message
from blockqueue.api._trace_context import parsed
from blockqueue.storage import limits

from .http_server import Server, create_topic, publish
from .v1_client import Topic
from .v1_fixtures import client, server, topic

__all__ = ["client", "server", "topic"]

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
OTHER = f"00-{TRACE_ID}-b7ad6b7169203331-00"
STATE = "rojo=00f067aa0ba902b7,tenant@congo=t61rcWkgMzE"
TRACE = {"traceparent": PARENT, "tracestate": STATE}


def claimed(topic: Topic) -> list[dict[str, str]]:
    """Claim; return the headers of each message."""
    return [each.get("headers", {}) for each in topic.claim(limit=10)]


def sent(server: Server, topic: Topic, body: Any, batch: str = "", **trace: str) -> Any:
    path = f"/v1/topics/{topic.name}/messages{batch}?wait_for=commit"
    answer = server.send("POST", path, body, trace)
    assert answer.status == 200, answer
    return answer.json["data"]


def test_the_trace_of_a_publish_comes_back_from_a_claim(server: Server, topic: Topic) -> None:
    sent(server, topic, {"message": "hi", "headers": {"source": "shop"}}, **TRACE)
    assert claimed(topic) == [{"source": "shop", **TRACE}]


def test_a_message_without_a_trace_has_none(server: Server, topic: Topic) -> None:
    sent(server, topic, {"message": "hi"})
    assert claimed(topic) == [{}]


def test_each_message_of_a_batch_has_the_trace_or_its_own(server: Server, topic: Topic) -> None:
    own = {"Traceparent": OTHER}
    sent(server, topic, [{"message": "a"}, {"message": "b", "headers": own}], "/batch", **TRACE)
    assert claimed(topic) == [TRACE, own]


def test_a_state_alone_of_the_publishers_is_not_mixed_with_another_trace(
    server: Server, topic: Topic
) -> None:
    sent(server, topic, {"message": "hi", "headers": {"tracestate": "a=1"}}, **TRACE)
    assert claimed(topic) == [{"tracestate": "a=1"}]


def test_a_publish_by_the_first_contract_has_its_trace(server: Server, topic: Topic) -> None:
    """Read by either; the first one shows no headers."""
    path = f"/topics/{topic.name}/messages"
    for _ in range(2):
        assert server.send("POST", path, {"message": "hi"}, TRACE).status == 200
    publish(server, topic.name, "plain")
    assert claimed(topic) == [TRACE, TRACE, {}]

    create_topic(server, f"{topic.name}-old")
    path = f"/topics/{topic.name}-old"
    assert server.send("POST", f"{path}/messages", {"message": "hi"}, TRACE).status == 200
    (message,) = server.send("GET", f"{path}/subscribers/worker").messages
    assert (set(message), message["message"]) == ({"id", "message"}, "hi")


def test_a_malformed_trace_is_ignored_and_the_message_is_published(
    server: Server, topic: Topic
) -> None:
    sent(server, topic, {"message": "hi"}, traceparent="00-nothing-01", tracestate=STATE)
    sent(server, topic, {"message": "hi"}, tracestate=STATE)
    sent(server, topic, {"message": "hi"}, traceparent=PARENT, tracestate="no state")
    assert claimed(topic) == [{}, {}, {"traceparent": PARENT}]


def test_two_parents_are_malformed(server: Server, topic: Topic) -> None:
    body = b'{"message":"hi"}'
    head = f"POST /v1/topics/{topic.name}/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    head += f"traceparent: {PARENT}\r\ntraceparent: {OTHER}\r\nContent-Length: {len(body)}\r\n\r\n"
    assert b" 202 " in server.say(head.encode() + body).split(b"\r\n")[0]
    assert claimed(topic) == [{}]


def test_a_repeated_publish_may_be_in_another_trace(server: Server, topic: Topic) -> None:
    """A client that tries again has a new span. The first one's trace stays."""
    body = {"message": "hi", "idempotency_key": "order-1"}
    first = sent(server, topic, body, traceparent=PARENT)
    again = sent(server, topic, body, traceparent=OTHER)
    without = sent(server, topic, body)
    assert first["message_id"] == again["message_id"] == without["message_id"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert claimed(topic) == [{"traceparent": PARENT}]


def test_a_trace_of_the_message_itself_is_part_of_what_must_be_the_same(
    server: Server, topic: Topic
) -> None:
    """What the publisher said is said; only what a request adds may differ."""
    body = {"message": "hi", "idempotency_key": "order-1", "headers": {"traceparent": PARENT}}
    sent(server, topic, body)
    other = body | {"headers": {"traceparent": OTHER}}
    answer = server.send("POST", f"/v1/topics/{topic.name}/messages", other)
    assert answer.status == 409


def size(headers: dict[str, str]) -> int:
    return len(json.dumps(headers, separators=(",", ":")))


@pytest.mark.parametrize(
    ("room", "kept"),
    [
        (size(TRACE), ["traceparent", "tracestate"]),
        (size(TRACE) - 1, ["traceparent"]),
        (size({"traceparent": PARENT}), ["traceparent"]),
        (size({"traceparent": PARENT}) - 1, []),
    ],
)
def test_a_trace_counts_against_the_limit_and_is_left_out_where_there_is_no_room(
    server: Server, topic: Topic, room: int, kept: list[str]
) -> None:
    """It never makes a publish fail that would be taken without it."""
    free = limits.HEADERS_BYTES_MAX - (room - 1)  # braces are there once, a comma between
    own = {"own": "x" * (free - len('{"own":""}'))}
    sent(server, topic, {"message": "hi", "headers": own}, **TRACE)
    (found,) = claimed(topic)
    assert sorted(found.keys() - {"own"}) == kept
    assert found["own"] == own["own"]


def test_the_embedded_face_gets_and_hands_on_what_came_over_http(queue: BlockQueue) -> None:
    queue.start_publish("cart", [Message("a"), Message(b"b")], TRACE).result(10)
    queue.publish("cart", "c", headers={"traceparent": OTHER})
    found = queue.claim("cart", "worker", limit=10)
    assert [each.message for each in found] == ["a", b"b", "c"]
    assert [each.headers for each in found] == [TRACE, TRACE, {"traceparent": OTHER}]


def test_a_trace_does_not_change_what_is_refused(queue: BlockQueue) -> None:
    for wrong in ("\ud800", "x" * (limits.MESSAGE_BYTES_MAX + 1)):
        with pytest.raises(ValidationError):
            queue.start_publish("cart", [Message(wrong)], TRACE)


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        f"00-{TRACE_ID}-{SPAN_ID}-ff",
        f"cc-{TRACE_ID}-{SPAN_ID}-01",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-brings",
        f" {PARENT}\t",
    ],
)
def test_parents_that_the_standard_takes(parent: str) -> None:
    assert parsed(parent, None) == {"traceparent": parent.strip()}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "-",
        PARENT + "\n",
        PARENT[:-1],
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"cc-{TRACE_ID}-{SPAN_ID}-01.more",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00_{TRACE_ID}-{SPAN_ID}-01",
        f"٠٠-{TRACE_ID}-{SPAN_ID}-01",
    ],
)
def test_parents_that_the_standard_does_not_take(parent: str) -> None:
    assert parsed(parent, STATE) is None


@pytest.mark.parametrize(
    "state", [STATE, "a=1", "a=1, b=2", "a=1,,b=2,", "a=" + "v" * 256, "a-_*/z=!", "0t@v=x y"]
)
def test_states_that_the_standard_takes(state: str) -> None:
    assert parsed(PARENT, state) == {"traceparent": PARENT, "tracestate": state}


@pytest.mark.parametrize(
    "state",
    [
        "",
        ",",
        "a",
        "A=1",
        "a=",
        "a==1",
        "a=1,a=2",
        "a=é",
        "a=" + "v" * 257,
        "a" * 257 + "=1",
        "a b=1",
        "a@=1",
        ",".join(f"k{number}=1" for number in range(33)),
    ],
)
def test_a_malformed_state_is_left_out_alone(state: str) -> None:
    assert parsed(PARENT, state) == {"traceparent": PARENT}
