"""A topic's actor: joins publishes into one write, and supervises the subscribers' actors."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import pykka

from blockqueue.storage import (
    BlockQueueError,
    CommitUnknown,
    NotFound,
    Published,
    Topic,
    Tx,
    Unavailable,
    ValidationError,
    meters,
    publish_calls_in,
    subscriber_named,
)

from . import _signals as signals
from ._engine import Engine
from ._gathering import Gathered, GatheringActor, GatheringInbox
from ._restarts import Restarts
from ._runtime import (
    LATER,
    Envelope,
    Forwarded,
    inbox_of,
    refuse,
    tell,
)
from ._signals import Ref
from ._subscriber import SubscriberActor
from ._writer import Operation
from .messages import Claim, Publish, Settle

logger = logging.getLogger("blockqueue")


class _Inbox(GatheringInbox):
    gathers = Publish


class JobActor(GatheringActor):
    """Owns one topic's publishes that are not written yet, and its SubscriberActors."""

    def __init__(self, engine: Engine, supervisor: Ref, topic: Topic) -> None:
        super().__init__(engine.pool)
        self.topic = topic
        self._engine = engine
        self.meters = engine.store.meters
        self._supervisor = supervisor
        self._subscribers: dict[str, Ref] = {}
        self._restarts: dict[str, Restarts] = {}

    def on_receive(self, message: Any) -> Any:
        match message:
            case Claim() | Settle():
                return self._forward(message)
            case signals.Wake() | signals.Flush():
                self._tell_all(message)
            case signals.SubscriberStopped(name):
                self._forget(name)
            case signals.SubscriberFailed():
                self._replace(message)
            case signals.SubscriberGone(name, error):
                self._end_subscriber(name, error)
            case signals.Adopt(children):
                self._subscribers.update(children)
                self._tell_all(signals.Supervisor(self.actor_ref))
            case signals.Gone(error):
                self._end(error)
            case signals.StopIfIdle():
                self._stop_if_idle()
            case _:  # anybody may have sent it: see ``BlockQueue.job``
                raise ValidationError(f"a topic's actor cannot handle {message!r}")
        return None

    # Publishing.

    @staticmethod
    def _create_actor_inbox() -> _Inbox:
        return _Inbox()

    def write_gathered(self) -> None:
        publishes = _Publishes(self)
        self._engine.write(
            Operation(
                publishes.run,
                publishes.begin,
                publishes.finish,
                await_callers=self.actor_inbox.await_callers,
            )
        )

    def wake_listeners(self) -> None:
        """Let who waits look again, after a publish. Runs on the writer."""
        if self.actor_stopped.is_set():  # who waits does so with the actor that came after
            self._engine.wake_all()
        for ref in list(self._subscribers.values()):
            actor = inbox_of(ref).owner
            if isinstance(actor, SubscriberActor):
                actor.wake_waiters()

    # Supervising.

    def _subscriber(self, name: str) -> Ref:
        ref = self._subscribers.get(name)
        if ref is None or not ref.is_alive():
            with self._engine.store.reading() as snapshot:
                found = subscriber_named(snapshot, self.topic.id, name)
            ref = SubscriberActor.start(self._engine, self.actor_ref, found)
            self._subscribers[name] = ref
        return ref

    def _forward(self, message: Claim | Settle) -> Any:
        forwarded = Forwarded(message, self.reply_to)
        try:
            inbox_of(self._subscriber(message.subscriber)).put(forwarded)
        except pykka.ActorDeadError:  # it ended a moment ago
            self._forget(message.subscriber)
            inbox_of(self._subscriber(message.subscriber)).put(forwarded)
        return LATER

    def _replace(self, failed: signals.SubscriberFailed) -> None:
        """Let another actor go on with the consumers and messages that a failed one left."""
        try:
            if not self._restarts.setdefault(failed.name, Restarts()).allowed():
                raise RuntimeError(f"subscriber {failed.name!r} keeps failing") from failed.error
            ref = self._subscriber(failed.name)
            self.meters.add(meters.ACTOR_RESTARTS)
        except BaseException as error:
            gone = error if isinstance(error, BlockQueueError) else Unavailable(str(error))
            for waiter in failed.waiters:
                waiter.promise.fail(gone)
            refuse(failed.rest, gone)
            if gone is error:
                return
            raise
        inbox_of(ref).put(Forwarded(signals.Carried(failed.waiters), None))
        for envelope in failed.rest:
            inbox_of(ref).put(envelope)

    def _forget(self, name: str) -> None:
        ref = self._subscribers.get(name)
        if ref is not None and not ref.is_alive():  # not the one that came after it
            del self._subscribers[name]

    def _end_subscriber(self, name: str, error: BaseException) -> None:
        ref = self._subscribers.pop(name, None)
        if ref is not None:
            tell(ref, signals.Gone(error))

    def _tell_all(self, message: Any) -> None:
        for ref in self._subscribers.values():
            tell(ref, message)

    # Ending.

    def _end(self, error: BaseException) -> None:
        self._tell_all(signals.Gone(error))
        self._subscribers = {}
        self.close(error)

    def _stop_if_idle(self) -> None:
        self._tell_all(signals.StopIfIdle())
        idle = time.monotonic() - self.used_at >= self._engine.idle_s
        if idle and not self._subscribers:
            self.close_if_empty()

    def on_stop(self) -> None:
        # Some are left only if somebody has stopped it by its ref.
        self._tell_all(signals.Gone(Unavailable("the topic's actor was stopped")))
        tell(self._supervisor, signals.JobStopped(self.topic, self.actor_ref))

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        # Publishes that have been gathered are the writer's, and go on without this actor.
        failed = signals.JobFailed(self.topic, error, dict(self._subscribers), rest)
        if not tell(self._supervisor, failed):
            gone = Unavailable(f"topic {self.topic.name!r} failed: {error!r}")
            refuse(failed.rest, gone)
            self._tell_all(signals.Gone(gone))


class _Publishes(Gathered):
    """The publishes that one write serves."""

    def __init__(self, job: JobActor) -> None:
        super().__init__(job.actor_inbox)
        self._job = job

    def run(self, tx: Tx) -> list[list[Published] | BlockQueueError]:
        calls = [envelope.message.batches for envelope in self.begun]
        return publish_calls_in(tx, self._job.topic.id, calls)

    def finish(
        self, published: list[list[Published] | BlockQueueError] | None, error: BaseException | None
    ) -> None:
        """Give each caller its part of what was written, and wake who waits for messages."""
        if isinstance(error, CommitUnknown) and published is not None:
            self._tell_unknown(published, error)
            return
        if error is not None:
            self._count_failed(self.begun)
            self.fail(error)
            if isinstance(error, NotFound):  # another process has deleted the topic
                tell(self._job.actor_ref, signals.Gone(error))
            return
        assert published is not None
        now = time.monotonic()
        took: list[float] = []
        for envelope, outcome in zip(self.begun, published, strict=True):
            if envelope.reply_to is None:
                continue
            took.append(now - envelope.reply_to.made)
            if isinstance(outcome, BlockQueueError):
                self._count_failed([envelope])
                envelope.reply_to.fail(outcome)
            else:
                envelope.reply_to.complete(outcome)
        self._job.meters.time(meters.PUBLISH_SECONDS, took)
        self._job.wake_listeners()

    def _count_failed(self, envelopes: Sequence[Envelope]) -> None:
        batches = [batch for envelope in envelopes for batch in envelope.message.batches]
        self._job.meters.add(meters.PUBLISH_FAILED, sum(batch.count for batch in batches))

    def _tell_unknown(
        self, published: list[list[Published] | BlockQueueError], error: CommitUnknown
    ) -> None:
        """Tell each caller which ids its messages have if they were written."""
        self._count_failed(self.begun)
        for envelope, outcome in zip(self.begun, published, strict=True):
            if envelope.reply_to is None:
                continue
            if isinstance(outcome, BlockQueueError):
                envelope.reply_to.fail(outcome)
            else:
                ids = [each for part in outcome for each in part.ids()]
                envelope.reply_to.fail(CommitUnknown(str(error), ids))
