"""The root of the actors: finds or starts the topics' actors, and supervises them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from blockqueue.storage import (
    BlockQueueError,
    Topic,
    TopicNotFound,
    Unavailable,
    meters,
    topic_named,
)

from . import _signals as signals
from ._engine import Engine
from ._job import JobActor
from ._restarts import Restarts
from ._runtime import Envelope, Forwarded, PooledActor, inbox_of, refuse, tell
from ._signals import Ref


class _LookAround(NamedTuple):
    """Time to see which actors are idle."""


class QueueActor(PooledActor):
    """Owns the topics' actors. There is one per process and database."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.pool)
        self._engine = engine
        engine.root = self.actor_ref
        self._jobs: dict[str, Ref] = {}
        self._topic_ids: dict[str, int] = {}  # of the same topics
        self._names: dict[int, str] = {}  # the other way round
        self._restarts: dict[str, Restarts] = {}
        self._looking_around = False

    def on_receive(self, message: Any) -> Any:
        match message:
            case signals.FindJob(name):
                return self._job(name)
            case signals.Wake() | signals.Flush():
                self._tell_all(message)
            case signals.WakeTopics(topic_ids):
                self._wake(topic_ids)
            case signals.TopicGone(name, error):
                self._end_job(name, error)
            case signals.JobStopped(topic, job):
                self._forget(topic, job)
            case signals.JobFailed():
                self._replace(message)
            case signals.Gone(error):
                self._tell_all(message)
                self.close(error)
            case _LookAround():
                self._looking_around = False
                self._tell_all(signals.StopIfIdle())
                self._look_around_later()
            case _:
                raise TypeError(f"a QueueActor cannot handle {message!r}")
        return None

    def _job(self, name: str) -> Ref:
        """Return a topic's actor, after a look whether it is still that topic's.

        Another process may have deleted it and made a new one of that name. One that has
        just ended is returned, too, until the word of its end comes: only then can another
        take over what it has left. Whoever gets it asks again.
        """
        ref = self._jobs.get(name)
        try:
            with self._engine.store.reading() as snapshot:
                found = topic_named(snapshot, name)
        except TopicNotFound as error:
            self._end_job(name, error)
            raise
        if ref is not None and self._topic_ids[name] == found.id:
            return ref
        self._end_job(name, TopicNotFound(f"topic {name!r} was deleted"))
        return self._start(found)

    def _end_job(self, name: str, error: BaseException) -> None:
        ref = self._jobs.pop(name, None)
        self._names.pop(self._topic_ids.pop(name, -1), None)
        if ref is not None:
            tell(ref, signals.Gone(error))

    def _start(self, topic: Topic) -> Ref:
        ref = JobActor.start(self._engine, self.actor_ref, topic)
        self._jobs[topic.name] = ref
        self._topic_ids[topic.name] = topic.id
        self._names[topic.id] = topic.name
        self._look_around_later()
        return ref

    def _forget(self, topic: Topic, job: Ref) -> None:
        if self._jobs.get(topic.name) is job:  # not that of a newer topic of that name
            del self._jobs[topic.name], self._topic_ids[topic.name]
            self._names.pop(topic.id, None)
            self._restarts.pop(topic.name, None)

    def _replace(self, failed: signals.JobFailed) -> None:
        """Start a failed actor anew, with the children and messages it left behind."""
        name = failed.topic.name
        if not self._restarts.setdefault(name, Restarts()).allowed():
            given_up = _gave_up(failed.error)
            refuse(failed.rest, given_up)
            for child in failed.children.values():
                tell(child, signals.Gone(given_up))
            raise RuntimeError(f"topic {name!r} keeps failing") from failed.error
        ref = self._start(failed.topic)
        self._engine.store.meters.add(meters.ACTOR_RESTARTS)
        inbox_of(ref).put(Forwarded(signals.Adopt(failed.children), None))
        for envelope in failed.rest:
            inbox_of(ref).put(envelope)

    def _wake(self, topic_ids: Collection[int]) -> None:
        """Let those who wait for messages of these topics look; of all if none is named."""
        names = map(self._names.get, topic_ids) if topic_ids else self._jobs
        for name in names:
            ref = self._jobs.get(name) if name is not None else None
            if ref is not None:
                tell(ref, signals.Wake())

    def _tell_all(self, message: Any) -> None:
        for ref in self._jobs.values():
            tell(ref, message)

    def _look_around_later(self) -> None:
        if self._jobs and not self._looking_around:
            self._looking_around = True
            delay_ms = max(1, round(self._engine.idle_s * 500))
            self._engine.alarm.after(delay_ms, partial(tell, self.actor_ref, _LookAround()))

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        given_up = _gave_up(error)
        refuse(rest, given_up)
        self._tell_all(signals.Gone(given_up))
        self._engine.fatal(given_up)


def _gave_up(error: BaseException) -> BlockQueueError:
    return Unavailable(f"the queue gave up after repeated failures: {error!r}")
