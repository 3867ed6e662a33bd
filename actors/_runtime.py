"""How actors run: an inbox that can close, pumped by threads that all actors share.

Pykka gives each actor a thread and an inbox that swallows messages after its end. Here an
actor costs no thread while it is idle, so 10,000 of them cost nothing; and a message
is either handled or refused with ActorDeadError, never lost in between.
"""

from __future__ import annotations

import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec
import pykka
from pykka.messages import (
    _ActorStop,  # pyright: ignore[reportPrivateUsage]  # what ref.stop() sends has no other name
)

from blockqueue.storage import BlockQueueError

from ._promise import Promise

logger = logging.getLogger("blockqueue")


class Envelope(Protocol):
    """What Pykka puts into an inbox."""

    @property
    def message(self) -> Any: ...

    @property
    def reply_to(self) -> Promise[Any] | None: ...


class Forwarded(msgspec.Struct):
    """An envelope of our own: a message, and who waits for its answer."""

    message: Any
    reply_to: Promise[Any] | None


# How many actors a caller still gives a turn when its own answer is there.
_LAST_TURNS = 2


class _Local(threading.local):
    """The actors that this thread is about to pump; None on a thread that pumps none."""

    ready: collections.deque[PooledActor] | None = None


class Pool:
    """The threads that pump actors, and the callers' threads that lend a hand.

    A thread goes on with the actors that its own messages have woken, so that the common way
    (caller, topic, writer) needs no change of threads; each change costs as much as a fifth
    of a commit. Before an actor that blocks it leaves the others to the pool.
    """

    def __init__(self, name: str, size: int) -> None:
        self._shared: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._local = _Local()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def schedule(self, actor: PooledActor) -> None:
        ready = self._local.ready
        if ready is None:
            self._shared.put(actor.pump)
        else:
            ready.append(actor)

    def heal(self, actor: PooledActor) -> None:
        """Have an actor pumped that may have been left unscheduled. Harmless if it was not."""
        self._shared.put(actor.heal)

    def lend(self, inbox: Inbox, envelope: Envelope, promise: Promise[Any]) -> None:
        """Put a message, then pump what it wakes until ``promise`` is done or others do it.

        What is left then gets one short turn, so that the actors are free for the next call.
        The main thread never pumps: Ctrl-C could strike there in the middle of a commit.
        Raises ActorDeadError if the inbox is closed.
        """
        local = self._local
        if local.ready is not None or threading.get_ident() == threading.main_thread().ident:
            inbox.put(envelope)
            return
        ready = local.ready = collections.deque()
        try:
            inbox.put(envelope)
            while ready and not promise.is_done:
                self._pump_next(ready)
            for _ in range(_LAST_TURNS):
                if ready and not ready[0].blocks:
                    ready.popleft().pump()
        finally:
            local.ready = None
            self._share(ready)

    def _work(self) -> None:
        ready = self._local.ready = collections.deque()
        while (turn := self._shared.get()) is not None:
            turn()
            while ready:
                self._pump_next(ready)

    def _pump_next(self, ready: collections.deque[PooledActor]) -> None:
        actor = ready.popleft()
        if actor.blocks:
            self._share(ready)
        actor.pump()

    def _share(self, ready: collections.deque[PooledActor]) -> None:
        while ready:
            self._shared.put(ready.popleft().pump)

    def stop(self, timeout: float) -> bool:
        """Let the threads end after what is scheduled. True: all have ended in time."""
        for _ in self._threads:
            self._shared.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class Inbox:
    """Messages for one actor. ``put`` and ``close`` take the same lock, so none slips between.

    Ctrl-C may strike the main thread between noting that the actor is scheduled and
    scheduling it. So whatever ends a ``put`` early has the actor healed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._envelopes: list[Envelope] = []
        self._closed = False
        self._scheduled = False
        self.owner: PooledActor | None = None

    def put(self, envelope: Any, /) -> None:
        try:
            self._put(envelope)
        except pykka.ActorDeadError:
            raise
        except BaseException:
            assert self.owner is not None
            self.owner.pool.heal(self.owner)
            raise

    def _put(self, envelope: Envelope) -> None:
        with self._lock:
            if self._closed:
                raise pykka.ActorDeadError("the actor has stopped")
            self._envelopes.append(envelope)
            if self._scheduled:
                return
            self._scheduled = True
        assert self.owner is not None
        self.owner.pool.schedule(self.owner)

    def drain(self) -> list[Envelope]:
        """Return all messages."""
        with self._lock:
            envelopes, self._envelopes = self._envelopes, []
            return envelopes

    def rest(self) -> bool:
        """Say that the pump rests if nothing has come in: the next ``put`` schedules it."""
        with self._lock:
            self._scheduled = bool(self._envelopes)
            return not self._scheduled

    def close(self) -> list[Envelope]:
        """Refuse messages from now on, and return those that were not handled."""
        with self._lock:
            self._closed = True
            envelopes, self._envelopes = self._envelopes, []
            return envelopes

    def close_if_empty(self) -> bool:
        """Close unless a message has come in. Called by the owner while it is pumped."""
        with self._lock:
            self._closed = self._closed or not self._envelopes
            return self._closed

    def get(self) -> Any:
        raise RuntimeError("this inbox is drained by its pool")

    def empty(self) -> bool:
        with self._lock:
            return not self._envelopes


#: Returned by a handler that will complete ``reply_to`` itself, later.
LATER: Final = object()


class PooledActor(pykka.Actor):
    """Base of our actors: handles its messages one at a time, on any thread of its pool.

    A subclass implements ``on_receive`` and, to act once on all that came in together,
    ``on_drained``. An error that is not a BlockQueueError is a bug: it goes to the caller, if
    there is one, and the actor dies; ``on_failed`` then hands over what it still holds.
    """

    actor_inbox: Inbox
    #: Whether pumping it may wait for the disk.
    blocks: ClassVar[bool] = False

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.actor_inbox.owner = self
        #: Who asked, while ``on_receive`` runs; None after a ``tell``.
        self.reply_to: Promise[Any] | None = None
        self.used_at = time.monotonic()
        self._pumping = threading.Lock()  # held by the thread that pumps it
        #: What it took out of its inbox and has not come to yet.
        self._turn: collections.deque[Envelope] = collections.deque()

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> Promise[Any]:
        return Promise()

    def _start_actor_loop(self) -> None:
        """Nothing to start: the first message schedules the actor."""

    def pump(self) -> None:
        """Handle what is in the inbox. Runs on any thread, never on two at once."""
        if not self._pumping.acquire(blocking=False):
            return  # whoever pumps it looks into the inbox again before resting
        try:
            self._take_turn()
        finally:
            self._pumping.release()
        if not self.actor_inbox.rest() and not self.actor_stopped.is_set():
            # At the end of the queue: a busy actor lets the others have their turn.
            self.pool.schedule(self)

    def _take_turn(self) -> None:
        turn = self._turn = collections.deque(self.actor_inbox.drain())
        try:
            while turn:
                self._handle(turn.popleft())
            if not self.actor_stopped.is_set():
                self.on_drained()
        except BaseException as error:
            logger.exception("%s failed and is being replaced", self)
            self._die(error)
        self.used_at = time.monotonic()

    def heal(self) -> None:
        """Make up for a ``put`` that was interrupted. Runs on a thread of the pool."""
        self.pump()

    def _handle(self, envelope: Envelope) -> None:
        self.reply_to = reply_to = envelope.reply_to
        if isinstance(envelope.message, _ActorStop):
            self.close()
            if reply_to is not None:
                reply_to.complete(None)
            return
        try:
            answer = self.on_receive(envelope.message)
        except BlockQueueError as error:
            if reply_to is None:
                logger.warning("%s could not handle %r: %s", self, envelope.message, error)
            else:
                reply_to.fail(error)
        except BaseException as error:
            if reply_to is not None:
                reply_to.fail(error)
            raise
        else:
            if reply_to is not None and answer is not LATER:
                reply_to.complete(answer)

    def close(self, error: BaseException | None = None) -> None:
        """Stop now: refuse what was not handled yet with ``error``, and whatever comes later."""
        self._unregister()
        self.refuse(self._take_rest(), error or pykka.ActorDeadError(f"{self} has stopped"))
        self.on_stop()

    def close_if_empty(self) -> bool:
        """Stop unless something has come in meanwhile. True: it has stopped."""
        if self._turn or not self.actor_inbox.close_if_empty():
            return False
        self._unregister()
        self.on_stop()
        return True

    def _unregister(self) -> None:
        self.actor_stopped.set()
        pykka.ActorRegistry.unregister(self.actor_ref)

    def _take_rest(self) -> list[Envelope]:
        """Close the inbox; return what was not handled, in order."""
        rest = [*self._turn, *self.actor_inbox.close()]
        self._turn.clear()
        return rest

    def _die(self, error: BaseException) -> None:
        self._unregister()
        try:
            self.on_failed(error, self._take_rest())
        except Exception:  # the thread that pumped it must go on with the others
            logger.exception("%s failed and could not hand over", self)

    def refuse(self, rest: Sequence[Envelope], error: BaseException) -> None:
        """Answer messages that came too late."""
        refuse(rest, error)

    def on_drained(self) -> None:
        """Act on all messages that came in together. Runs on the pool's thread."""

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        """Pass on what this dead actor still holds. ``rest``: messages not handled."""
        refuse(rest, pykka.ActorDeadError(f"{self} has failed"))


def refuse(envelopes: Sequence[Envelope], error: BaseException) -> None:
    """Answer with an error whoever waits for these messages."""
    for envelope in envelopes:
        if envelope.reply_to is not None:
            envelope.reply_to.fail(error)


def inbox_of(ref: pykka.ActorRef[Any]) -> Inbox:
    """Return the inbox behind a ref of one of our actors."""
    inbox = ref.actor_inbox
    assert isinstance(inbox, Inbox)
    return inbox


def tell(ref: pykka.ActorRef[Any], message: Any) -> bool:
    """Send a message that does not matter any more if the actor has stopped."""
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        return False
    return True
