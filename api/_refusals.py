"""Requests that the application never sees: not HTTP, ambiguous, or too large."""

from __future__ import annotations

import re
import time
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error

from blockqueue.api._access_log import Noted
from blockqueue.api._answer import Answer
from blockqueue.api._envelope import failure
from blockqueue.api._log_context import busy_with
from blockqueue.api._request_info import RequestInfo
from blockqueue.api.v1 import _problem

from ._chunks import Chunks

# What may come but once: of two, a proxy might believe the other one.
_ONCE = (
    b"\r\nhost:",
    b"\r\ncontent-length:",
    b"\r\ncontent-type:",
    b"\r\ntransfer-encoding:",
    b"\r\nauthorization:",
)
_CHUNKED_TWICE = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[^\r\n]*chunked")
# Printable ASCII; a fragment does not belong there.
_TARGET = re.compile(r"[!\"$-~]+")
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+;=:%\[\]-]*")


class RequestTimeout(Error):
    """The client has taken too long to send its request."""

    code = 408
    reason = "Request Timeout"


class Parser(HTTPRequestParser):
    """Refuses what a proxy before us could understand in another way than we do."""

    #: The request's first line, if it is refused.
    first_words = b""
    #: Waitress names it in its log, also if there is none.
    path = ""
    #: When all of it was there, by time.monotonic.
    complete_s = 0.0

    def received(self, data: bytes) -> int:
        in_head = not self.headers_finished
        start = (self.header_plus.lstrip(b"\r\n") or data.lstrip(b"\r\n"))[:1]
        consumed = int(super().received(data))
        if in_head and self.headers_finished and start.isspace():  # Waitress skips it
            self.completed = True
            self.empty = False
            self.error: Any = BadRequest("a request does not begin with a blank")
        if self.error is not None:
            # Waitress may have put another line in its place.
            self._refused(self.header_plus + data if in_head else self._line)
        if self.completed:
            self.complete_s = time.monotonic()
        return consumed

    def fail(self, error: Error) -> None:
        """Refuse the request as far as it has come."""
        self.error = error
        self.completed = True
        self.complete_s = time.monotonic()
        self._refused(self._line if self.headers_finished else self.header_plus)

    @property
    def _line(self) -> bytes:
        line: bytes = getattr(self, "first_line", b"")
        return line

    def _refused(self, said: bytes) -> None:
        self.expect_continue = False  # or the client would be told to send its body first
        self.first_words = said.lstrip().split(b"\r\n", 1)[0]

    @property
    def target(self) -> str:
        """What the request asks for, as far as that can be read."""
        words = self.first_words.split(b" ", 2)
        return words[1].decode("latin-1") if len(words) > 1 else ""

    def parse_header(self, header_plus: bytes) -> None:
        _check_lines(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Python reads no number of more than 4300 digits
            raise ParsingError("the target or the Content-Length is invalid") from error
        headers: Any = self.headers
        if self.version not in {"1.0", "1.1"}:
            raise ParsingError("only HTTP/1.0 and HTTP/1.1 are served")
        target: str = getattr(self, "request_uri", "")
        if _TARGET.fullmatch(target) is None:
            raise ParsingError("the request's target is invalid")
        if self.chunked and "CONTENT_LENGTH" in headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if "TRANSFER_ENCODING" in headers:  # the chunks would be read as the next request
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        host = headers.get("HOST")
        if host is None and self.version == "1.1":
            raise ParsingError("HTTP/1.1 wants a Host")
        if host is not None and _HOST.fullmatch(host) is None:
            raise ParsingError("the Host is invalid")
        if self.chunked:
            self.body_rcv: Any = Chunks(self.body_rcv.getbuf())


def _check_lines(head: bytes) -> None:
    """Raise ParsingError for what cannot be seen any more once the lines are read."""
    first_line = head.split(b"\r\n", 1)[0]
    if first_line != first_line.rstrip():
        raise ParsingError("the request line ends with a blank")
    if b"\r\n " in head or b"\r\n\t" in head:
        raise ParsingError("a header goes on in the next line, which HTTP has given up")
    lowered = head.lower()
    for name in _ONCE:
        if lowered.count(name) > 1:
            raise ParsingError(f"{name.decode().strip(':').strip()} is there twice")
    if _CHUNKED_TWICE.search(lowered):
        raise ParsingError("Transfer-Encoding names chunked twice")


class RefusalTask(Noted, ErrorTask):
    """Says in the words of the contract what is wrong with a request that cannot be read."""

    def execute(self) -> None:
        request: Any = self.request
        given = request.headers.get("X_REQUEST_ID")
        self.info = RequestInfo(getattr(request, "command", None), given)
        busy_with(self.info)
        channel: Any = self.channel
        error = request.error
        answer = self._answer(request, error.code, self._text(error))
        reason = error.reason if answer.status == error.code else "Bad Request"
        self.status = f"{answer.status} {reason}"
        self.response_headers = [("Content-Type", answer.content_type), *answer.headers]
        self.set_close_on_finish()
        self.content_length = len(answer.body)
        if not isinstance(error, RequestTimeout):  # it sends so slowly that nothing is unread
            channel.refuse()
        self.write(answer.body)

    def _answer(self, request: Any, status: int, text: str) -> Answer:
        if not _problem.is_v1(getattr(request, "target", "")):
            return Answer(status, failure(status, text))
        code = _problem.INTERNAL_ERROR if status == 500 else _problem.VALIDATION_ERROR
        # A body that is too large is nothing special there.
        return _problem.problem(code, text, self.info.id, status=400 if status == 413 else status)

    def _text(self, error: Any) -> str:
        adj: Any = self.channel.adj
        if error.code == 413:
            return f"the body has more than {adj.max_request_body_size - 1} bytes"
        if error.code == 431:
            return f"the request line and headers have {adj.max_request_header_size} bytes or more"
        return str(error.body)
