"""Bad input: each gets a 4xx in the envelope that says what is allowed, and does no harm."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from .http_server import (
    PATIENCE_S,
    Answer,
    Server,
    check_healthy,
    counters,
    create_topic,
    publish,
    read,
    read_path,
    serving,
)

_MEBIBYTE = 1_048_576
_numbers = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("hostile") / "queue.db") as server:
        create_topic(server, "cart")
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """A server that must be healthy after every test, and must not have met a bug."""
    yield running
    check_healthy(running, f"healthy-{next(_numbers)}")
    assert counters(running, "cart") == (0, 0)
    assert "Traceback" not in running.errors, running.errors


def refusal(answer: Answer, *statuses: int) -> str:
    """Assert that an answer is a 4xx as it should be; return its text."""
    assert 400 <= answer.status < 500, answer
    assert answer.status in (statuses or (400,)), answer
    return answer.check_failure(answer.status)


# Bodies.

DEEP = [("[" * n, "]" * n) for n in (1_000, 100_000)] + [('{"a":' * 1_000, "1" + "}" * 1_000)]

NOT_JSON = {
    "nothing": b"",
    "blanks": b" \n ",
    "a word": b"hello",
    "half an object": b'{"message":"x"',
    "half a string": b'{"message":"x',
    "no quotes": b"{message:1}",
    "single quotes": b"{'message':'x'}",
    "a trailing comma": b'{"message":"x",}',
    "not a number": b'{"message":NaN}',
    "not a number beside it": b'{"message":"x","a":NaN}',
    "infinity": b'{"message":"x","a":-Infinity}',
    "a comment": b'/* */{"message":"x"}',
    "a byte order mark": b'\xef\xbb\xbf{"message":"x"}',
    "UTF-16": '{"message":"x"}'.encode("utf-16"),
    "UTF-32": '{"message":"x"}'.encode("utf-32-le"),
    "Latin-1": '{"message":"é"}'.encode("latin-1"),
    "overlong UTF-8": b'{"message":"\xc0\x80"}',
    "a surrogate in UTF-8": b'{"message":"\xed\xa0\x80"}',
    "a lone surrogate": rb'{"message":"\ud800"}',
    "surrogates the wrong way round": rb'{"message":"\udc00\ud800"}',
    "a raw control character": b'{"message":"\x01"}',
    "a raw NUL": b'{"message":"x\x00"}',
    "a bad escape": rb'{"message":"\x41"}',
    "NULs": b"\x00" * 100,
    "noise": bytes(range(256)),
    "a form": b"message=x",
    **{f"nesting {number}": (a + b).encode() for number, (a, b) in enumerate(DEEP)},
    **{
        f"nesting {number} in a member": ('{"message":"x","a":' + a + b + "}").encode()
        for number, (a, b) in enumerate(DEEP)
        if len(a) > 10_000
    },
    "open nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("path", ["/topics", "/topics/cart/messages", "/topics/cart/subscribers"])
def test_what_is_not_json_is_refused(running: Server, path: str, body: bytes) -> None:
    """Whichever route it is for."""
    assert "JSON" in refusal(running.send("POST", path, body))


def test_a_server_is_well_after_all_that(server: Server) -> None:
    """The fixture looks."""


WRONG_MESSAGES: list[Any] = [
    *({}, [], "x", 1, None, True, [{"message": "x"}]),
    *({"message": wrong} for wrong in (None, 1, 1.5, True, [], {}, ["x"], {"a": "b"})),
    *({"Message ": "x"}, {"msg": "x"}),
]


@pytest.mark.parametrize("body", WRONG_MESSAGES, ids=json.dumps)
def test_a_message_must_be_text(server: Server, body: object) -> None:
    """Missing, null and every other type are refused."""
    refusal(server.send("POST", "/topics/cart/messages", json.dumps(body).encode()))


NAMES = {
    "empty": "",
    "a blank": " ",
    "a dot": ".",
    "two dots": "..",
    "a slash": "a/b",
    "a NUL": "a\x00b",
    "a tab": "a\tb",
    "a newline": "a\n",
    "an escape": "\x1b[31m",
    "a C1 control": "a\x85b",
    "a blank at the start": " a",
    "a blank at the end": "a ",
    "151 bytes": "a" * 151,
    "152 bytes in 76 characters": "é" * 76,
    "a mebibyte": "a" * _MEBIBYTE,
    "a lone surrogate": "\ud800",
    "a replacement character": "a\ufffd",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_bad_name_is_refused(server: Server, name: str) -> None:
    """For a topic and for a subscriber, old and new topics alike; nothing is made."""
    good = [{"name": "worker"}]

    refusal(server.send("POST", "/topics", {"name": name, "subscribers": good}))
    refusal(server.send("POST", "/topics", {"name": "new", "subscribers": [{"name": name}]}))
    text = refusal(server.send("POST", "/topics/cart/subscribers", [*good, {"name": name}]))

    assert "JSON" in text or "150 bytes" in text
    assert len(text) < 2_000
    server.send("GET", "/topics/new/subscribers").check_failure(404)


@pytest.mark.parametrize("size", [150, 1])
def test_a_name_of_one_to_150_bytes_is_good(server: Server, size: int) -> None:
    """Up to the limit and not one short of it."""
    name = "n" * size

    create_topic(server, name, [name])

    assert counters(server, name, name) == (0, 0)
    assert server.send("DELETE", f"/topics/{name}").status == 200


def each(*wrong: Any) -> tuple[Any, ...]:
    """Return values of several types."""
    return wrong


WRONG_TOPICS: list[Any] = [
    *({}, [], "x", None, {"name": "t"}, {"subscribers": [{"name": "a"}]}),
    *({"name": wrong, "subscribers": [{"name": "a"}]} for wrong in each(None, 1, ["t"], {}, True)),
    *(
        {"name": "t", "subscribers": wrong}
        for wrong in each(None, "a", {"name": "a"}, ["a"], [None])
    ),
    *({"name": "t", "subscribers": [{"name": wrong}]} for wrong in each(None, 1, [], {})),
    {"name": "t", "subscribers": [{}]},
    {"name": "t", "subscribers": [{"name": "a"}, {"option": {}}]},
    *({"name": "t", "subscribers": [{"name": "a", "option": x}]} for x in each([], "x", 1, True)),
]

WRONG_OPTIONS: list[Any] = [
    *({"max_attempts": wrong} for wrong in each("5", 1.5, True, [], {}, 2**31 - 1, 2**63, 2**64)),
    {"max_attempts": 10**400},
    *({"visibility_duration": wrong} for wrong in each(5, 1.5, True, [], {})),
    *({"visibility_duration": wrong} for wrong in each("x", "5", "5 m", "1d", "-5m", "0", "13h")),
    *({"visibility_duration": wrong} for wrong in each("1e9s", "infs", "NaN", "٥s", "1_0s", "5m ")),
    *({"visibility_duration": wrong} for wrong in each("9" * 60 + "h", "1s" * 100_000, "1h\x00")),
]


@pytest.mark.parametrize("body", WRONG_TOPICS, ids=json.dumps)
def test_a_topic_must_have_what_a_topic_has(server: Server, body: object) -> None:
    """Missing, null and every other type are refused; nothing is made."""
    refusal(server.send("POST", "/topics", json.dumps(body).encode()))

    server.send("GET", "/topics/t/subscribers").check_failure(404)


@pytest.mark.parametrize("option", WRONG_OPTIONS, ids=lambda option: json.dumps(option)[:40])
def test_a_bad_option_is_refused(server: Server, option: object) -> None:
    """On both routes; nothing is made."""
    subscriber = {"name": "new", "option": option}

    refusal(server.send("POST", "/topics", {"name": "t", "subscribers": [subscriber]}))
    text = refusal(server.send("POST", "/topics/cart/subscribers", [subscriber]))

    assert len(text) < 2_000
    server.send("GET", "/topics/t/subscribers").check_failure(404)
    server.send("DELETE", read_path("cart", "new")).check_failure(404)


@pytest.mark.parametrize("number", [-(10**400), -1, 0, 2**31 - 3])
def test_a_number_of_attempts_that_fits_is_good(server: Server, number: int) -> None:
    """Zero and less are one."""
    create_topic(server, "t", max_attempts=number)

    assert server.send("DELETE", "/topics/t").status == 200


@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_a_number_of_many_digits_is_refused_or_ignored(server: Server, digits: int) -> None:
    """Refused where a number matters, ignored in a member that nobody knows."""
    number = b"1" * digits
    body = b'{"name":"t","subscribers":[{"name":"a","option":{"max_attempts":%s}}]}' % number

    refusal(server.send("POST", "/topics", body))

    server.send("GET", "/topics/t/subscribers").check_failure(404)
    answer = server.send("POST", "/topics/t/messages", b'{"message":"x","a":%s}' % number)
    answer.check_failure(404)
    trailing = b'{"message":"x","a":%s} and so on' % number
    assert server.send("POST", "/topics/t/messages", trailing).status in {400, 404}


def test_more_than_a_thousand_subscribers_at_once_are_refused(server: Server) -> None:
    """A thousand are good."""
    many = [{"name": str(number)} for number in range(1001)]

    refusal(server.send("POST", "/topics", {"name": "t", "subscribers": many}))
    refusal(server.send("POST", "/topics/cart/subscribers", many))

    assert server.send("POST", "/topics", {"name": "t", "subscribers": many[:1000]}).status == 200
    assert server.send("DELETE", "/topics/t").status == 200


# Sizes.


def test_a_message_of_more_than_a_mebibyte_is_refused(server: Server) -> None:
    """By a byte or by many, and the text names the limit."""
    for size in (_MEBIBYTE + 1, 10 * _MEBIBYTE):
        answer = server.send("POST", "/topics/cart/messages", {"message": "x" * size})
        assert str(_MEBIBYTE) in refusal(answer)


@pytest.mark.parametrize("size", [16 * _MEBIBYTE, 16 * _MEBIBYTE + 1, 20 * _MEBIBYTE])
def test_a_body_of_more_than_sixteen_mebibytes_is_refused(server: Server, size: int) -> None:
    """Just as much is still looked at, and the client can send all of it and read the answer."""
    frame = b'{"message":"x","a":"%s"}'
    body = frame % (b"y" * (size - len(frame) + 2))
    assert len(body) == size

    answer = server.send("POST", "/topics/nowhere/messages", body)

    if size == 16 * _MEBIBYTE:
        answer.check_failure(404)
    else:
        assert str(16 * _MEBIBYTE) in refusal(answer, 413)


def test_a_body_that_is_announced_too_large_is_refused_at_once(server: Server) -> None:
    """A client that asks before it sends is told no."""
    head = f"POST /topics HTTP/1.1\r\nHost: a\r\nContent-Length: {10**15}\r\n"

    received = server.say(f"{head}Expect: 100-continue\r\n\r\n".encode())

    assert received.startswith(b"HTTP/1.1 413 ")
    assert str(16 * _MEBIBYTE).encode() in received


# Paths.

SEGMENTS = {
    "a NUL": "%00",
    "not UTF-8": "%ff",
    "half a character": "%e2%98",
    "two dots": "%2e%2e",
    "a dot": "%2e",
    "raw dots": "..",
    "a newline": "%0d%0aX-Header:%20a",
    "a slash": "a%2fb",
    "a surrogate": "%ed%a0%80",
    "no escape": "%zz",
    "half an escape": "%",
    "a quote": "'--",
    "a thousand bytes": "a" * 1_000,
    "a file": "..%2f..%2fetc%2fpasswd",
    "a star": "*",
    "a replacement character": "%ef%bf%bd",
}


@pytest.mark.parametrize("segment", SEGMENTS.values(), ids=SEGMENTS)
def test_a_strange_name_in_a_path_is_not_found(server: Server, segment: str) -> None:
    """On every route; none of them has such a thing."""
    for method, path, body in [
        ("DELETE", f"/topics/{segment}", None),
        ("GET", f"/topics/{segment}/subscribers", None),
        ("POST", f"/topics/{segment}/subscribers", [{"name": "a"}]),
        ("POST", f"/topics/{segment}/messages", {"message": "x"}),
        ("GET", f"/topics/{segment}/subscribers/a?timeout=1s", None),
        ("GET", f"/topics/cart/subscribers/{segment}?timeout=1s", None),
        ("DELETE", f"/topics/cart/subscribers/{segment}", None),
        ("DELETE", f"/topics/cart/subscribers/worker/messages/{segment}", None),
        ("DELETE", f"/topics/cart/subscribers/{segment}/messages/a", None),
    ]:
        text = refusal(server.send(method, path, body), 404)
        assert len(text) < 4_000


@pytest.mark.parametrize("path", [f"/topics/{'a' * 70_000}", f"/livez?{'a' * 70_000}"])
def test_a_path_of_seventy_kilobytes_is_refused(server: Server, path: str) -> None:
    """The client reads why."""
    answer = server.say(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"431"
    assert json.loads(body)["message"] == "failure"
    assert "16384" in json.loads(body)["error"]


IDS = [
    "0",
    "-1",
    "9" * 5_000,
    "ffffffff-ffff-8fff-bfff-ffffffffffff",
    "00000000-0000-8000-8000-000000000000",
    "00000000-0000-4000-8000-000000000000",
    "{00000000-0000-8000-8000-000000000000}",
    "%D9%A0" * 32,
]


@pytest.mark.parametrize("delivery", IDS)
def test_an_id_that_nobody_has_given_is_not_found(server: Server, delivery: str) -> None:
    """Whatever it looks like."""
    refusal(server.send("DELETE", f"/topics/cart/subscribers/worker/messages/{delivery}"), 404)


# HTTP that is none.

HEAD = b"POST /topics/cart/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
BODY = b'{"name":1}'

MALFORMED = {
    "no method": b"/topics HTTP/1.1\r\nHost: a\r\n\r\n",
    "a small method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an unknown method": b"BREW /topics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a method of noise": b"\x00\x01\x02 / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of 10 kB": b"A" * 10_000 + b" / HTTP/1.0\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "two blanks": b"GET  /topics  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a foreign version": b"GET /topics HTTX/1.1\r\nHost: a\r\n\r\n",
    "lengths that differ": HEAD + b"Content-Length: 10\r\nContent-Length: 5\r\n\r\n" + BODY,
    "one length twice": HEAD + b"Content-Length: 10\r\nContent-Length: 10\r\n\r\n" + BODY,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length with a sign": HEAD + b"Content-Length: +10\r\n\r\n" + BODY,
    "a length of words": HEAD + b"Content-Length: ten\r\n\r\n" + BODY,
    "an empty length": HEAD + b"Content-Length:\r\n\r\n" + BODY,
    "a hexadecimal length": HEAD + b"Content-Length: 0xa\r\n\r\n" + BODY,
    "an endless length": HEAD + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n" + BODY,
    "a length and chunks": HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\na\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "a negative chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "a strange encoding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost a\r\n\r\n",
    "a blank before a colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "a NUL in a header": b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    "a line feed in a header": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "headers of 300 kB": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
    "a header of 300 kB": b"GET / HTTP/1.1\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
}

UNANSWERED = {
    "nothing": b"",
    "blank lines": b"\r\n" * 10,
    "noise": bytes(range(256)) * 4,
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "half a line": b"POST /top",
    "half a header": b"POST /topics HTTP/1.1\r\nContent-Le",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n" + BODY,
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + BODY,
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED)
def test_malformed_http_is_refused(server: Server, request_: bytes) -> None:
    """In the envelope, with an answer that can be read to its end, and without a hang."""
    answer = server.say(request_)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert 400 <= int(head.split()[1]) < 500 or head.split()[1] == b"501", head
    assert json.loads(body)["error"]
    assert b"Traceback" not in body


@pytest.mark.parametrize("request_", UNANSWERED.values(), ids=UNANSWERED)
def test_a_request_that_never_ends_is_dropped_with_its_connection(
    server: Server, request_: bytes
) -> None:
    """The end of the stream ends it; nobody else notices."""
    answer = server.say(request_, ends=True)

    assert answer == b"" or int(answer.split()[1]) >= 400


TOLERATED = {
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "no Host": b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two Hosts": b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    "a high version": b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n",
    "a whole URL": b"GET http://a/livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("request_", TOLERATED.values(), ids=TOLERATED)
def test_unusual_http_gets_one_answer_and_an_end(server: Server, request_: bytes) -> None:
    """Be it served or refused: nothing hangs."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(request_)
        received = b""
        while chunk := client.recv(65536):
            received += chunk

    assert received.startswith(b"HTTP/1.")
    assert received.count(b"\r\nDate: ") == 1
    assert received.split()[1] in {b"200", b"400", b"505"}


def test_many_who_send_half_a_request_hold_nobody_back(server: Server) -> None:
    """A connection costs no thread until its request is there."""
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
            stack.enter_context(client)
            client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")

        check_healthy(server, "unhurried")


def test_a_body_in_chunks_is_as_good_as_any(server: Server) -> None:
    """Clients that do not know the length send it so."""
    create_topic(server, "t")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"message":"in chunks"}')
    path = b"POST /topics/t/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"

    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(path + b"\r\n" + chunks + b"0\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")

    assert [each["message"] for each in read(server, "t")] == ["in chunks"]
    publish(server, "t", "and the next one")
    assert server.send("DELETE", "/topics/t").status == 200
