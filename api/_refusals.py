"""Requests that the application never sees: not HTTP, ambiguous, or too large."""

from __future__ import annotations

from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from blockqueue.api._answer import Answer
from blockqueue.api._envelope import failure
from blockqueue.api.v1 import _problem


class Parser(HTTPRequestParser):
    """Refuses what a proxy before us could understand in another way than we do."""

    #: The request's first line, if it is refused.
    first_words = b""

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.error is not None:
            self.expect_continue = False  # or the client would be told to send its body first
            first_line: Any = getattr(self, "first_line", b"")
            if not self.headers_finished:  # Waitress has put another line in its place
                first_line = (self.header_plus + data).lstrip().split(b"\r\n", 1)[0]
            self.first_words = first_line
        return consumed

    @property
    def target(self) -> str:
        """What the request asks for, as far as that can be read."""
        words = self.first_words.split(b" ", 2)
        return words[1].decode("latin-1") if len(words) > 1 else ""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # Python reads no number of more than 4300 digits
            raise ParsingError("Content-Length is invalid") from error
        headers: Any = self.headers
        if self.version not in {"1.0", "1.1"}:
            raise ParsingError("only HTTP/1.0 and HTTP/1.1 are served")
        if self.chunked and "CONTENT_LENGTH" in headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if "TRANSFER_ENCODING" in headers:  # the chunks would be read as the next request
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        host = headers.get("HOST")
        if "," in (host or "") or (host is None and self.version == "1.1"):
            raise ParsingError("HTTP/1.1 wants exactly one Host")


class RefusalTask(ErrorTask):
    """Says in the words of the contract what is wrong with a request that cannot be read."""

    def execute(self) -> None:
        request: Any = self.request
        channel: Any = self.channel
        error = request.error
        answer = self._answer(request, error.code, self._text(error))
        reason = error.reason if answer.status == error.code else "Bad Request"
        self.status = f"{answer.status} {reason}"
        self.response_headers = [("Content-Type", answer.content_type), *answer.headers]
        self.set_close_on_finish()
        self.content_length = len(answer.body)
        channel.refuse()
        self.write(answer.body)

    @staticmethod
    def _answer(request: Any, status: int, text: str) -> Answer:
        if not _problem.is_v1(getattr(request, "target", "")):
            return Answer(status, failure(status, text))
        request_id = _problem.choose_request_id(request.headers.get("X_REQUEST_ID"))
        code = _problem.INTERNAL_ERROR if status == 500 else _problem.VALIDATION_ERROR
        # A body that is too large is nothing special there.
        return _problem.problem(code, text, request_id, status=400 if status == 413 else status)

    def _text(self, error: Any) -> str:
        adj: Any = self.channel.adj
        if error.code == 413:
            return f"the body has more than {adj.max_request_body_size - 1} bytes"
        if error.code == 431:
            return f"the request line and headers have {adj.max_request_header_size} bytes or more"
        return str(error.body)
