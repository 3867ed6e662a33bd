"""What is HTTP and what is not: a table of requests, each with what becomes of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from .http_server import Server, check_healthy, create_topic, serving

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("edge") / "queue.db") as running:
        create_topic(running, "cart")
        yield running


class Case(NamedTuple):
    """A request, the status of its answer, and whether Waitress alone would serve it."""

    request: bytes
    status: int
    #: What Waitress by itself takes for a good request is the control of the test.
    plain_serves: bool = False


GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /topics/nowhere/messages HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

REFUSED = {
    # What Waitress 3.0.2 serves, and a proxy before it could understand in another way.
    "a length and chunks": Case(CHUNKED + b"Content-Length: 2\r\n\r\n" + CHUNKS, 400, True),
    "chunked twice in a line": Case(
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS, 400, True
    ),
    "chunked twice in two lines": Case(
        CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, True
    ),
    "two Hosts": Case(GET + b"Host: b\r\n\r\n", 400, True),
    "two Content-Types": Case(
        POST + b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 2\r\n\r\n{}", 400, True
    ),
    "two Authorizations": Case(GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n", 400, True),
    "HTTP/0.9": Case(b"GET /livez\r\n\r\n", 400, True),
    "HTTP/9.9": Case(b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n", 400, True),
    "a folded header": Case(GET + b"X: a\r\n b\r\n\r\n", 400, True),
    "no Host": Case(b"GET /livez HTTP/1.1\r\n\r\n", 400, True),
    "a Host with a path": Case(b"GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, True),
    "chunks in HTTP/1.0": Case(
        b"POST /topics HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, 400, True
    ),
    "a blank before the request": Case(b" " + GET + b"\r\n", 400, True),
    "a blank after the version": Case(b"GET /livez HTTP/1.1 \r\nHost: a\r\n\r\n", 400, True),
    "a control character in the path": Case(
        b"GET /livez\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, True
    ),
    "bytes beyond ASCII in the path": Case(
        "GET /topics/\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400
    ),
    "a fragment in the path": Case(b"GET /livez#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, True),
    # What Waitress refuses by itself.
    "lengths that differ": Case(POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "the same length twice": Case(POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a length with a plus": Case(POST + b"Content-Length: +2\r\n\r\n{}", 400),
    "a negative length": Case(POST + b"Content-Length: -1\r\n\r\n{}", 400),
    "an empty length": Case(POST + b"Content-Length:\r\n\r\n{}", 400),
    "a length with an underscore": Case(POST + b"Content-Length: 1_0\r\n\r\n{}", 400),
    "another encoding": Case(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    "a blank before a colon": Case(b"GET /livez HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "a NUL in a header": Case(GET + b"X: a\x00b\r\n\r\n", 400),
    "a bare line feed": Case(GET + b"X: a\nY: b\r\n\r\n", 400),
    "a chunk with a prefix": Case(CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk that is too short": Case(CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n", 400),
    "300 kB of headers": Case(GET + b"X: y\r\n" * 50_000 + b"\r\n", 431),
    "2 GiB announced": Case(POST + b"Content-Length: 2147483648\r\n\r\n", 413),
}

SERVED = {
    "HTTP/1.1": Case(GET + b"Connection: close\r\n\r\n", 200),
    "HTTP/1.0": Case(b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 with chunks in a name only": Case(
        b"GET /livez HTTP/1.0\r\nX-Transfer-Encoding: chunked\r\n\r\n", 200
    ),
    "empty lines before the request": Case(
        b"\r\n\r\n\r\n" + GET + b"Connection: close\r\n\r\n", 200
    ),
    "a whole URL": Case(
        b"GET http://a/livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200
    ),
    "an empty Host": Case(b"GET /livez HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 200),
    "a Host of IPv6 with a port": Case(
        b"GET /livez HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n", 200
    ),
    "a header with an underscore": Case(
        GET + b"Content_Length: 5\r\nConnection: close\r\n\r\n", 200
    ),
    "chunks with extensions and a trailer": Case(
        CHUNKED
        + b'Connection: close\r\n\r\nA;a="b"\r\n{"message"\r\n5\r\n:"x"}\r\n0\r\nT: u\r\n\r\n',
        404,
    ),
}


def test_the_table_has_the_cases_that_are_known() -> None:
    """Whoever takes one out should see this."""
    assert (len(REFUSED), len(SERVED)) == (31, 9)
    assert sum(case.plain_serves for case in REFUSED.values()) == 16


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_it_is_refused_and_the_connection_ends(server: Server, case: Case) -> None:
    """One answer, whatever follows on the connection; the next client is served."""
    smuggled = b"DELETE /topics/cart HTTP/1.1\r\nHost: a\r\n\r\n"

    received = server.say(case.request + smuggled)

    head, _, body = received.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == case.status
    assert b"Connection: close" in head
    assert received.count(b"HTTP/1.") == 1 + body.count(b"HTTP/1.")
    assert json.loads(body)["error"]
    assert server.send("GET", "/topics/cart/subscribers").status == 200


@pytest.mark.parametrize("case", SERVED.values(), ids=SERVED)
def test_it_is_served(server: Server, case: Case) -> None:
    """Strictness must not hit the good ones."""
    received = server.say(case.request)

    assert int(received.split()[1]) == case.status


def parse_alone(data: bytes) -> Any:
    """Let Waitress's own parser read a request."""
    parser = HTTPRequestParser(Adjustments())
    while data and not parser.completed:
        data = data[parser.received(data) :]
    return parser


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_waitress_alone_does_with_it(case: Case) -> None:
    """The control: without our parser, these are requests like any other."""
    parser = parse_alone(case.request)

    assert (parser.completed and parser.error is None) == case.plain_serves


def test_the_server_is_well(server: Server) -> None:
    """After all that."""
    check_healthy(server, f"healthy-{next(_numbers)}")


# What costs more than it brings. How much each may cost is known in bytes, not in seconds.


def body_of(chunk: bytes, count: int) -> bytes:
    return chunk * count


BOMBS = {
    "chunks of a byte": (body_of(b"1\r\nx\r\n", 100_000), "too small"),
    "chunks with long extensions": (body_of(b"1;" + b"a" * 1_000 + b"\r\nx\r\n", 1_000), "small"),
    "a line before a chunk without end": (b"1" * 100_000, "too long"),
    "a trailer without end": (b"0\r\n" + b"T: u\r\n" * 10_000, "trailer"),
    "empty lines between chunks": (body_of(b"\r\n", 200_000), "too small"),
}


@pytest.mark.parametrize(("body", "reason"), BOMBS.values(), ids=BOMBS)
def test_a_body_that_costs_more_than_it_brings_is_refused(
    server: Server, body: bytes, reason: str
) -> None:
    """Before all of it was read."""
    _, _, said = server.say(CHUNKED + b"\r\n" + body).partition(b"\r\n\r\n")

    assert reason in json.loads(said)["error"]


@pytest.mark.parametrize(("body", "reason"), BOMBS.values(), ids=BOMBS)
def test_waitress_alone_takes_it(body: bytes, reason: str) -> None:
    """The control."""
    parser = HTTPRequestParser(Adjustments())
    parser.received(CHUNKED + b"\r\n")
    for start in range(0, len(body), 8_192):
        parser.received(body[start : start + 8_192])

    assert parser.error is None
    assert not parser.completed


@pytest.mark.parametrize("size", [16, 100, 8_192])
def test_a_large_body_in_decent_chunks_is_served(server: Server, size: int) -> None:
    """Half a mebibyte of small pieces is nothing special."""
    text = b'{"message":"' + b"x" * (524_288 - 14) + b'"}'
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)

    received = server.say(CHUNKED + b"Connection: close\r\n\r\n" + chunks + b"0\r\n\r\n")

    assert int(received.split()[1]) == 404  # it was read, and there is no such topic


NESTED = [b"[" * 100_000, b'{"a":' * 100_000, b'{"message":"x","a":' + b"[" * 100_000]


@pytest.mark.parametrize("body", NESTED, ids=["lists", "objects", "a member"])
@pytest.mark.parametrize(
    "path", ["/topics", "/topics/cart/messages", "/v1/topics", "/v1/topics/cart/messages"]
)
def test_nesting_ends_as_a_refusal_by_both_contracts(
    server: Server, path: str, body: bytes
) -> None:
    """However it is written, whether or not it ends."""
    assert server.send("POST", path, body).status == 400


def nested(levels: int) -> bytes:
    """Return a message whose member ``a`` makes it so many levels deep, and one that is not."""
    return b'{"message":"hi","b":[],"a":%b%b}' % (b"[" * (levels - 1), b"]" * (levels - 1))


@pytest.mark.parametrize("follows", [b"", b"[" * 1_000], ids=["alone", "before garbage"])
def test_a_message_has_up_to_64_levels(server: Server, follows: bytes) -> None:
    """The first contract ignores members that it does not know, and what follows a message."""
    create_topic(server, topic := f"nested-{len(follows)}")
    path = f"/topics/{topic}/messages"

    assert server.send("POST", path, nested(64) + follows).status == 200
    refused = server.send("POST", path, nested(65) + follows)

    assert refused.status == 400
    assert "more than 64 levels" in refused.check_failure(400)


def test_v1_says_of_a_message_that_it_is_too_deep(server: Server) -> None:
    """Members that it does not know are refused there, and it is said which."""
    create_topic(server, "nested-v1")
    for levels, said in ((64, b"unknown field"), (65, b"more than 64 levels")):
        answer = server.send("POST", "/v1/topics/nested-v1/messages", nested(levels))
        assert answer.status == 400
        assert said in answer.body


def test_brackets_in_texts_are_no_levels(server: Server) -> None:
    """A message may be JSON itself, of any depth."""
    create_topic(server, "nested-text")
    text = json.dumps({"message": '\\"' + '{"a":[' * 500})
    for path in ("/topics/nested-text/messages", "/v1/topics/nested-text/messages"):
        assert server.send("POST", path, text.encode()).status < 300


@pytest.mark.parametrize("path", ["/topics/cart/messages", "/v1/topics/cart/messages"])
def test_numbers_without_end_are_refused_by_both_contracts(server: Server, path: str) -> None:
    """Where a text belongs, and in time that grows with their length only."""
    for number in (b"1" * 1_000_000, b"1e" + b"9" * 1_000_000, b"0." + b"0" * 1_000_000):
        assert server.send("POST", path, b'{"message":%b}' % number).status == 400


# Names.

NAMES = {
    "SQL": "'; DROP TABLE topic; --",
    "double quotes": '";--',
    "a wildcard": "%",
    "another wildcard": "_",
    "a composed letter": "\u00e9",
    "a decomposed letter": "e\u0301",
    "from right to left": "a\u202eb",
    "an emoji": "\U0001f600",
}


def quoted(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


def test_names_are_names_and_nothing_else(server: Server) -> None:
    """All live side by side; each is found by itself alone, by both contracts."""
    for name in NAMES.values():
        create_topic(server, name)
    for name in NAMES.values():
        body = {"message": f"for {name}"}
        assert server.send("POST", f"/topics/{quoted(name)}/messages", body).status == 200
    for name in NAMES.values():
        read = server.send("GET", f"/topics/{quoted(name)}/subscribers/worker")
        assert read.texts == [f"for {name}"]
        assert server.send("GET", f"/v1/topics/{quoted(name)}/subscribers").status == 200
    for name in NAMES.values():
        assert server.send("DELETE", f"/topics/{quoted(name)}").status == 200
    assert server.send("GET", "/topics/cart/subscribers").status == 200


STRANGE = ["%00", "%ff", "%ed%a0%80", "..", "%2e%2e", "a%2fb", "%0a", "x" * 10_000, "%25", "%5f"]


@pytest.mark.parametrize("name", STRANGE, ids=[name[:10] for name in STRANGE])
def test_strange_names_are_not_found_by_the_second_contract(server: Server, name: str) -> None:
    """No wildcard finds the topic that is there; nothing is a server's error."""
    for method, path in [
        ("GET", f"/v1/topics/{name}/subscribers"),
        ("DELETE", f"/v1/topics/{name}"),
        ("GET", f"/v1/topics/cart/subscribers/{name}"),
        ("POST", f"/v1/topics/{name}/messages"),
    ]:
        assert server.send(method, path, {"message": "x"}).status in {400, 404, 405}
    assert "Traceback" not in server.errors
