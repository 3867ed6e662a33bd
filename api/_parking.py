"""Requests that wait without a thread.

A resource whose answer is not there yet raises ``Parked``. The request's thread is free
again, and when the promise is done a thread sends the answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import falcon

from blockqueue.actors import Promise
from blockqueue.storage import Refused

from ._answer import Answer
from ._request_info import RequestInfo, info_of
from ._visits import Visit, visit_of

#: Where a request's environment has its ``Seat``.
SEAT = "blockqueue.seat"


class Parked(BaseException):
    """The answer will be there when ``promise`` is done. Not an error: nobody may catch it.

    ``render`` makes the answer from the promise's value, or raises what was wrong; ``refuse``
    makes it from an error. ``give_back`` is called with the value if the client does not get
    it. A ``poll`` may take long, by the client's wish; anything else is withdrawn after
    ``timeout`` seconds.
    """

    def __init__(
        self,
        promise: Promise[Any],
        render: Callable[[Any], Answer],
        refuse: Callable[[BaseException], Answer],
        *,
        timeout: float,
        info: RequestInfo,
        give_back: Callable[[Any], object] | None = None,
        poll: bool = False,
        visit: Visit | None = None,
    ) -> None:
        super().__init__()
        self.promise = promise
        self.info = info
        self._render = render
        self._refuse = refuse
        self.give_back = give_back
        self.poll = poll
        #: Whether it counts among the polls that wait.
        self.is_counted = False
        self._visit = visit
        self.deadline = math.inf if poll else time.monotonic() + timeout

    def answer(self) -> Answer:
        """Return what to say, now that the promise is done."""
        answer = self._answer()
        self.ended(answer.status)
        return answer

    def _answer(self) -> Answer:
        if self.promise.error is not None:
            return self._refuse(self.promise.error)
        try:
            if self.poll and self._visit is not None:
                self._visit.check_still()  # it may have waited for long
            return self._render(self.promise.value)
        except Refused as error:
            self.undo()
            return self._refuse(error)
        except Exception as error:
            return self._refuse(error)

    def undo(self) -> None:
        """The client does not get the answer."""
        give_back, self.give_back = self.give_back, None
        if give_back is not None and self.promise.error is None and self.promise.value:
            give_back(self.promise.value)

    def ended(self, status: int | None) -> None:
        """Note how the request has ended; None: nobody was there to get the answer."""
        if self._visit is not None:
            self._visit.ended(status)


def answer_later(
    req: falcon.Request,
    promise: Promise[Any],
    render: Callable[[Any], Answer],
    refuse: Callable[[BaseException], Answer],
    **options: Any,
) -> Answer:
    """Answer with the promise's value when it is there; until then wait without a thread.

    Options are those of ``Parked``. Under another server than ours the thread waits.
    """
    visit = visit_of(req)
    parked = Parked(promise, render, refuse, info=info_of(req), visit=visit, **options)
    seat: Seat | None = req.env.get(SEAT)
    if visit is not None and not promise.is_done:
        visit.park(promise, poll=parked.poll)
    if seat is not None and not promise.is_done:
        raise parked
    promise.result(math.inf if parked.poll else options["timeout"])
    if seat is not None and parked.give_back is not None:
        seat.on_lost(parked.undo)
    return parked.answer()


class Seat:
    """What a request knows of its connection."""

    def __init__(self) -> None:
        self._lost: Callable[[], None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether something must be undone if the answer cannot be sent."""
        return self._lost is not None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` if the answer of this request cannot be sent."""
        self._lost = callback

    def lose(self) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()
