"""What actors tell each other. Nobody outside this package sends these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pykka

from blockqueue.storage import Delivery, Topic

from ._promise import Promise
from ._runtime import Envelope, Forwarded

Ref = pykka.ActorRef[Any]


class Waiter(msgspec.Struct):
    """A consumer that waits for messages."""

    limit: int | None
    lease_ms: int | None
    deadline_ms: int
    through_pause: bool
    promise: Promise[list[Delivery]]


# To everybody.


class Wake(NamedTuple):
    """There may be something to claim: a publish, a resume, another process."""


class WakeTopics(NamedTuple):
    """Another process has committed something for these topics; for all if there are none."""

    topic_ids: Collection[int]


class Flush(NamedTuple):
    """Answer all who wait with an empty list: the queue is about to stop."""


class StopIfIdle(NamedTuple):
    """Stop if nobody has needed you for a while."""


class Gone(NamedTuple):
    """The topic or subscriber was deleted, or the queue stops: answer all with ``error``."""

    error: BaseException


# To a JobActor.


class SubscriberGone(NamedTuple):
    """The subscriber was deleted."""

    name: str
    error: BaseException


class SubscriberStopped(NamedTuple):
    """A subscriber's actor has stopped by itself: idle, or its subscriber is gone."""

    name: str


class SubscriberFailed(NamedTuple):
    """A subscriber's actor has died of ``error``; the rest is for the next one."""

    name: str
    error: BaseException
    waiters: Sequence[Waiter]
    rest: Sequence[Envelope | Forwarded]


class Adopt(NamedTuple):
    """These actors have lost their JobActor; supervise them."""

    children: Mapping[str, Ref]


# To a SubscriberActor.


class Supervisor(NamedTuple):
    """Another JobActor supervises you from now on."""

    job: Ref


class Carried(NamedTuple):
    """These consumers waited with the actor that you replace."""

    waiters: Sequence[Waiter]


# To the QueueActor.


class FindJob(NamedTuple):
    """Answer: the ActorRef of the topic's actor, started if need be."""

    name: str


class JobStopped(NamedTuple):
    """A topic's actor has stopped by itself: idle, or its topic is gone."""

    topic: Topic
    job: Ref


class JobFailed(NamedTuple):
    """A topic's actor has died of ``error``; the rest is for the next one."""

    topic: Topic
    error: BaseException
    children: Mapping[str, Ref]
    rest: Sequence[Envelope | Forwarded]


class TopicGone(NamedTuple):
    """The topic was deleted."""

    name: str
    error: BaseException
