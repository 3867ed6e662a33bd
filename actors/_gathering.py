"""Calls that gather while the writer is busy, and are then done together."""

from __future__ import annotations

import threading
from types import NoneType

import pykka

from ._runtime import Envelope, Inbox, PooledActor, refuse

# For so long a caller is waited for who was in the last group. A thread that is woken needs
# about half of that to come back, one after the other.
_AWAITED_S = 0.000_03
_AWAITED_S_MAX = 0.001


class GatheringInbox(Inbox):
    """An inbox that keeps messages of one kind aside, until the writer is ready for them.

    However many callers send one, the actor's ``write_gathered`` runs once, on the first
    caller's thread; the operation that it gives to the writer begins with ``take`` and so
    serves all who have come until then. Such a message costs no turn of the actor.
    """

    #: The kind of message that is gathered.
    gathers: type = NoneType

    def __init__(self) -> None:
        super().__init__()
        self._gathered: list[Envelope] = []  # guarded by _lock, like the next three
        self._writing = False
        #: How many came together the last time.
        self._expected = 0
        #: Released when so many are there again; None: nobody waits for that.
        self._complete: threading.Lock | None = None

    def _put(self, envelope: Envelope) -> None:
        if type(envelope.message) is not self.gathers:
            super()._put(envelope)
            return
        with self._lock:
            if self._closed:
                raise pykka.ActorDeadError("the actor has stopped")
            self._gathered.append(envelope)
            if self._complete is not None and len(self._gathered) >= self._expected:
                self._complete.release()
                self._complete = None
            if self._writing:
                return
            self._writing = True
        assert isinstance(self.owner, GatheringActor)
        self.owner.write_gathered()

    def await_callers(self) -> None:
        """Wait a moment until as many have come as the last time. The writer does this.

        Those were answered just now and are likely to call again, but run one at a time, and
        only while the writer rests. Going on without them would halve the groups. A group that
        stays smaller is what is waited for the next time; a lone caller never is.
        """
        with self._lock:
            missing = self._expected - len(self._gathered)
            if missing <= 0 or self._expected == 1:
                return
            complete = self._complete = threading.Lock()
            complete.acquire()
        complete.acquire(timeout=min(missing * _AWAITED_S, _AWAITED_S_MAX))
        with self._lock:
            self._complete = None

    def take(self) -> list[Envelope]:
        """Return the messages whose callers still want them. The writer does this."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            self._writing = False
            self._expected = len(gathered)
        return [each for each in gathered if each.reply_to is None or each.reply_to.begin()]


class Gathered:
    """The messages that one operation takes out of a ``GatheringInbox`` when it begins."""

    def __init__(self, inbox: GatheringInbox) -> None:
        self._inbox = inbox
        self._taken = False
        self.begun: list[Envelope] = []

    def begin(self) -> bool:
        self._taken = True
        self.begun = self._inbox.take()
        return bool(self.begun)

    def fail(self, error: BaseException) -> None:
        """Answer everybody with an error; if it never began, those who wait in the inbox."""
        if not self._taken:
            self.begin()
        refuse(self.begun, error)


class GatheringActor(PooledActor):
    """An actor with a ``GatheringInbox``."""

    actor_inbox: GatheringInbox

    def write_gathered(self) -> None:
        """Give the writer an operation for what gathers. Runs on any thread.

        One too many is harmless: it finds nothing to take, and is not run.
        """
        raise NotImplementedError

    def heal(self) -> None:
        self.write_gathered()
        super().heal()
