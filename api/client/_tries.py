"""One request, sent until it is answered, and what is known of it meanwhile."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import tenacity

from blockqueue.storage import BlockQueueError, Conflict, NotFound, ValidationError

from ._errors import AnswerLost, ServerUnreachable, check, is_doubtful, is_undone
from ._requests import Answer, Request

# A try that takes longer than this part of the whole is given up, so that there is another.
_TRY_PART = 3
_CONNECT_S_MAX = 5.0
# Random up to twice as long each time, so that many clients do not come back as one.
_backoff = tenacity.wait_random_exponential(multiplier=0.1, min=0.02, max=2.0)
# Raised before a byte of the request was sent.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)


class Tries:
    """The tries of one request.

    ``_doubtful``: an earlier try may have done what was asked, though no answer said so.
    """

    def __init__(self, request: Request, base: str, timeout_s: float) -> None:
        self._request = request
        self._base = base
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._try_ends_s = 0.0
        self._after_s = 0.0
        self._doubtful = False

    def policy(self) -> dict[str, Any]:
        """Return when to try again, for tenacity."""
        return {
            "retry": tenacity.retry_if_exception(self._again),
            "wait": self._wait,
            "stop": tenacity.stop_before_delay(self._timeout_s),
            "reraise": True,
        }

    def arguments(self) -> dict[str, Any]:
        """Return what to send now, for httpx."""
        request = self._request
        left_s = max(0.001, self._deadline_s - time.monotonic())
        try_s = min(self._timeout_s / _TRY_PART, left_s)
        self._try_ends_s = time.monotonic() + try_s + request.held_s
        timeout = httpx2.Timeout(
            try_s, connect=min(try_s, _CONNECT_S_MAX), read=try_s + request.held_s
        )
        headers = dict(request.headers)
        if request.body is not None:
            headers["content-type"] = "application/json"
        return {
            "method": request.method,
            "url": self._base + request.path,
            "params": request.query or None,
            "content": request.body,
            "headers": headers,
            "timeout": timeout,
        }

    def check_time(self) -> None:
        """Raise if an answer comes, but too slowly: httpx only knows how long a read takes."""
        if time.monotonic() > self._try_ends_s:
            raise httpx2.ReadTimeout("the answer comes too slowly")

    def read(self, response: httpx2.Response, body: bytes) -> Answer:
        """Return the answer. Raises the error that it stands for."""
        answer = Answer(response.status_code, response.headers, body)
        after = answer.headers.get("retry-after", "")
        self._after_s = float(after) if after.isdecimal() else 0.0
        check(answer, self._request)
        return answer

    def failed(self, error: httpx2.RequestError) -> BlockQueueError:
        """Return what it means that there is no answer."""
        self._after_s = 0.0
        why = str(error) or type(error).__name__
        if isinstance(error, _NOT_SENT):
            return ServerUnreachable(f"no connection to {self._base}: {why}")
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
            return ValidationError(f"the request to {self._base} cannot be sent: {why}")
        return AnswerLost(f"no answer from {self._base}: {why}")

    def verdict(self, error: BlockQueueError) -> Answer:
        """Raise what the last try's error means after all the others, or say it is well."""
        if not self._doubtful or is_doubtful(error):
            raise error
        if is_undone(error):
            raise AnswerLost(f"an answer was lost, so it may have been done; then: {error}")
        if self._request.deletes and isinstance(error, NotFound):
            return Answer(204, {}, b"")
        if isinstance(error, Conflict | NotFound):
            error.args = (f"{error} (perhaps by this call: the answer to a try was lost)",)
        raise error

    def _again(self, error: BaseException) -> bool:
        if is_doubtful(error):
            if self._request.repeatable:
                self._doubtful = True
            return self._request.repeatable
        return is_undone(error)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        return max(self._after_s, _backoff(state))
