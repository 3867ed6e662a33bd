"""Requests that the application never sees: not HTTP, ambiguous, or too large."""

from __future__ import annotations

from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask

from ._envelope import failure


class Parser(HTTPRequestParser):
    """Refuses what a proxy before us could understand in another way than we do."""

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.error is not None:
            self.expect_continue = False  # or the client would be told to send its body first
        return consumed

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


class EnvelopeErrorTask(ErrorTask):
    """Says in the contract's envelope what is wrong with a request that cannot be read."""

    def execute(self) -> None:
        request: Any = self.request
        channel: Any = self.channel
        error = request.error
        body = failure(error.code, self._text(error))
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", "application/json")]
        self.set_close_on_finish()
        self.content_length = len(body)
        channel.refuse()
        self.write(body)

    def _text(self, error: Any) -> str:
        adj: Any = self.channel.adj
        if error.code == 413:
            return f"the body has more than {adj.max_request_body_size - 1} bytes"
        if error.code == 431:
            return f"the request line and headers have {adj.max_request_header_size} bytes or more"
        return str(error.body)
