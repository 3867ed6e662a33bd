"""A request with its token, from its admission until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

from blockqueue import storage
from blockqueue.actors import Promise
from blockqueue.storage import Forbidden, RateLimited, Unauthorized

from ._keys import Key, KeyRing

#: Where a request's environment has its ``Visit``, if it needs one.
VISIT = "blockqueue.visit"


class Visit:
    """What must be known of a request as long as it lasts.

    ``report`` is told, once, the status of the answer; None if nobody was there to get it.
    """

    __slots__ = ("_counted", "_key", "_report", "_ring", "topic")

    def __init__(
        self, ring: KeyRing, key: Key | None, report: Callable[[Visit, int | None], None] | None
    ) -> None:
        self._ring = ring
        self._key = key  # None: no token is needed
        self._report = report
        #: Where it counts as in flight. Taken out by whoever is first to see its end.
        self._counted = [] if key is None else [key.quota]
        #: The topic that the body names.
        self.topic: str | None = None

    def check_creates(self, topic: str) -> None:
        """Raise Forbidden unless a topic of that name may be made."""
        self.topic = topic
        if self._key is not None and not self._key.token.may(storage.MANAGE, topic):
            raise Forbidden(f"the token has no scope manage:{topic}")

    def check_still(self) -> None:
        """Raise Unauthorized if the token was revoked, or has expired, since it was found."""
        if self._key is not None and not self._ring.still_has(self._key):
            raise Unauthorized("the token has expired or was revoked")

    def park(self, promise: Promise[Any], *, poll: bool) -> None:
        """Be in flight until the promise is done. One poll too many is ended at once."""
        if self._key is None:
            return
        quota = self._key.quota
        promise.on_done(lambda _: self._leave())
        if poll:
            try:
                quota.park()
            except RateLimited as error:
                promise.fail(error)
            else:
                promise.on_done(lambda _: quota.unpark())

    def _leave(self) -> None:
        try:
            self._counted.pop().leave()
        except IndexError:  # it has left before
            pass

    def ended(self, status: int | None) -> None:
        """Say how it ended. Repeatable: the first word counts."""
        self._leave()
        report, self._report = self._report, None
        if report is not None:
            report(self, status)


def visit_of(req: falcon.Request) -> Visit | None:
    found: Visit | None = req.env.get(VISIT)
    return found


def check_creates(req: falcon.Request, topic: str) -> None:
    """Raise Forbidden unless who asks may make a topic of that name."""
    visit = visit_of(req)
    if visit is not None:
        visit.check_creates(topic)
