"""What sends an answer: of a request that was just handled, or of one that was parked."""

from __future__ import annotations

from typing import Any

import falcon
from waitress.task import WSGITask

from ._access_log import Noted
from ._parking import SEAT, Parked
from ._request_info import RequestInfo, info_in

# Up to this size an answer is sent in one piece, by the request's own thread.
JOINED_BYTES_MAX = 65_536


class _Writes(Noted):
    """Sends a short answer in one piece: each piece costs a call to the system."""

    def write(self, data: bytes) -> None:
        whole = self.content_length == len(data) and self.has_body
        if self.wrote_header or not whole or len(data) > JOINED_BYTES_MAX:
            super().write(data)
            return
        channel: Any = self.channel
        channel.write_soon(self.build_response_header() + data)
        self.wrote_header = True
        self.content_bytes_written = len(data)


class Task(_Writes, WSGITask):
    """Handles a request; gives it its seat."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        channel: Any = self.channel
        environ[SEAT] = channel.seat
        self._environ = environ
        return environ

    @property
    def info(self) -> RequestInfo:  # type: ignore[override]
        return info_in(self._environ) or RequestInfo(self._environ["REQUEST_METHOD"], None)


class AnswerTask(_Writes):
    """Answers a request that was parked, without handling it again."""

    complete = True

    def __init__(self, channel: Any, request: Any) -> None:
        super().__init__(channel, request)
        self._parked: Parked = channel.answering
        self.info = self._parked.info

    def execute(self) -> None:
        answer = self._parked.answer()
        self.status = falcon.code_to_http_status(answer.status)
        self.response_headers = [("Content-Type", answer.content_type), *answer.headers]
        self.content_length = len(answer.body)
        self.write(answer.body)
