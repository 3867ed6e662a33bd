"""Topics and subscribers, as steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from blockqueue.api._durations import milliseconds
from blockqueue.api._options import Subscriber
from blockqueue.storage import TopicNotFound, limits

from ._requests import Steps, ask, subscriber_path, tell, topic_path
from ._values import Page, SubscriberStatus, Topic


class _Topics(msgspec.Struct):
    topics: list[Topic]
    next_cursor: str | None = None


class _Subscribers(msgspec.Struct):
    subscribers: list[SubscriberStatus]
    next_cursor: str | None = None


def page_query(limit: int, after: str | None) -> dict[str, str]:
    """Return a list's parameters. Raises ValidationError, where a server would not say so."""
    limits.check_range("limit", limit, 1, limits.BATCH_MAX)
    return {"limit": str(limit)} | ({} if after is None else {"cursor": after})


def create_topic(name: str, subscribers: Iterable[Subscriber | str]) -> Steps[Topic]:
    listed = [_option(each) for each in subscribers]
    return (yield from ask(Topic, "POST", "/topics", {"name": name, "subscribers": listed}))


def delete_topic(name: str) -> Steps[None]:
    yield from tell("DELETE", topic_path(name), deletes=True)


def topic_page(limit: int, after: str | None) -> Steps[Page[Topic]]:
    found = yield from ask(_Topics, "GET", "/topics", query=page_query(limit, after))
    return Page(found.topics, found.next_cursor or None)


def all_topics() -> Steps[list[Topic]]:
    found: list[Topic] = []
    after: str | None = None
    while True:
        page = yield from topic_page(limits.BATCH_MAX, after)
        found += page.items
        after = page.after
        if after is None:
            return found


def topic(name: str) -> Steps[Topic]:
    for found in (yield from all_topics()):
        if found.name == name:
            return found
    raise TopicNotFound(f"there is no topic {name!r}")


def add_subscribers(topic: str, subscribers: Iterable[Subscriber | str]) -> Steps[None]:
    listed = [_option(each) for each in subscribers]
    yield from tell("POST", topic_path(topic) + "/subscribers", listed)


def delete_subscriber(topic: str, subscriber: str) -> Steps[None]:
    yield from tell("DELETE", subscriber_path(topic, subscriber), deletes=True)


def subscriber_page(topic: str, limit: int, after: str | None) -> Steps[Page[SubscriberStatus]]:
    path, query = topic_path(topic) + "/subscribers", page_query(limit, after)
    found = yield from ask(_Subscribers, "GET", path, query=query)
    return Page(found.subscribers, found.next_cursor or None)


def subscribers(topic: str) -> Steps[list[SubscriberStatus]]:
    found: list[SubscriberStatus] = []
    after: str | None = None
    while True:
        page = yield from subscriber_page(topic, limits.BATCH_MAX, after)
        found += page.items
        after = page.after
        if after is None:
            return found


def pause(topic: str, subscriber: str | None, verb: str) -> Steps[None]:
    place = topic_path(topic) if subscriber is None else subscriber_path(topic, subscriber)
    yield from tell("POST", f"{place}/{verb}")


def _option(subscriber: Subscriber | str) -> dict[str, Any]:
    """Return a subscriber as a body says it. Raises ValidationError.

    Zero stands for the default there, so what is zero here is checked or said otherwise.
    """
    given = Subscriber(subscriber) if isinstance(subscriber, str) else subscriber
    given.stored().check()
    policy: dict[str, Any] = {
        "initial_delay": _delay("retry_initial", given.retry_initial),
        "max_delay": _delay("retry_max", given.retry_max),
        "multiplier": given.retry_multiplier,
    }
    if given.retry_jitter:
        policy["jitter"] = given.retry_jitter
    else:
        policy["disable_jitter"] = True
    option = {
        "max_attempts": given.max_attempts,
        "visibility_duration": f"{milliseconds('visibility', given.visibility)}ms",
        "dequeue_batch_size": given.claim_limit,
        "retry_policy": policy,
    }
    return {"name": given.name, "option": option}


def _delay(what: str, value: Any) -> str:
    return f"{milliseconds(what, value) or 1}ms"
