"""The request parser gets any bytes, cut anywhere: it never raises, and cuts make no difference."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from blockqueue.api._refusals import Parser

ADJUSTMENTS = Adjustments(max_request_header_size=16_384, max_request_body_size=65_536)

TOKENS = [
    *(b"GET", b"POST", b"get", b" ", b"/", b"/topics", b"*", b"http://a/", b"//a", b"%00", b"#"),
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b":", b"\t", b","),
    *(b"Host: a", b"Host: a/b", b"http://[", b"Content-Length: ", b"5", b"+5", b"9" * 5_000),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Connection: close"),
    *(b"Expect: 100-continue", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0x5", b";a=b", b";", b"\x00"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
]
streams = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=20).map(b"".join)


def outcomes(parser_class: type[HTTPRequestParser], pieces: list[bytes]) -> list[Any]:
    """Return what is read from a stream that comes in pieces, up to the first refusal."""
    found: list[Any] = []
    parser: Any = parser_class(ADJUSTMENTS)
    for piece in pieces:
        while piece:
            consumed = parser.received(piece)
            assert 0 < consumed <= len(piece)
            piece = piece[consumed:]
            if not parser.completed:
                continue
            if parser.error is not None:
                found.append((parser.error.code, parser.error.body, parser.target))
                return found
            if not parser.empty:
                headers = tuple(sorted(parser.headers.items()))
                body = parser.get_body_stream().read()
                found.append((parser.command, parser.request_uri, headers, body))
            parser.close()
            parser = parser_class(ADJUSTMENTS)
    found.append((parser.headers_finished, parser.expect_continue))
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut a stream into pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(streams, st.lists(st.integers(0, 10_000), max_size=8))
@example(b"\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n", [1, 2, 3])
@example(b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", [5])
def test_a_stream_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    """Also the words of a refusal; a client could otherwise hide something from a proxy."""
    whole = outcomes(Parser, [data])

    assert outcomes(Parser, cut(data, places)) == whole


@given(streams)
def test_byte_by_byte_is_no_exception(data: bytes) -> None:
    """The smallest pieces there are."""
    assert outcomes(Parser, cut(data, list(range(len(data))))) == outcomes(Parser, [data])


class _Forgetful(Parser):
    """The control: it sees only the start of what comes, not of the request."""

    def parse_header(self, header_plus: bytes) -> None:
        self.header_plus = b""
        super().parse_header(header_plus[: 1_000 if len(header_plus) % 2 else None])

    def received(self, data: bytes) -> int:
        if data[:1] == b"\n":
            self.header_plus = b""
        return super().received(data)


def test_a_parser_that_forgets_is_caught() -> None:
    """What the two tests above would say about it."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    assert outcomes(_Forgetful, cut(data, list(range(len(data))))) != outcomes(_Forgetful, [data])


@given(streams)
def test_what_is_served_is_what_waitress_would_serve(data: bytes) -> None:
    """Our parser refuses more, and reads nothing in another way."""
    ours, plain = outcomes(Parser, [data]), _plain_outcomes(data)

    served = [each for each in ours if len(each) == 4]
    assert served == plain[: len(served)]


def _plain_outcomes(data: bytes) -> list[Any]:
    """Return what Waitress alone reads."""
    found: list[Any] = []
    parser: Any = HTTPRequestParser(ADJUSTMENTS)
    while data:
        try:
            data = data[parser.received(data) :]
        except ValueError:  # a defect of it that ours works around
            return found
        if not parser.completed:
            continue
        if parser.error is not None:
            return found
        if not parser.empty:
            headers = tuple(sorted(parser.headers.items()))
            body = parser.get_body_stream().read()
            found.append((parser.command, parser.request_uri, headers, body))
        parser.close()
        parser = HTTPRequestParser(ADJUSTMENTS)
    return found
