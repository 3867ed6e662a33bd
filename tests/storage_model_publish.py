"""The naive queue's publishing: a loop over messages, and a dict of idempotency keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blockqueue.storage import (
    Batch,
    BlockQueueError,
    Body,
    IdempotencyConflict,
    Keyed,
    Published,
    ValidationError,
    pack_messages,
)

from .storage_model import Key, Message, Topic


@dataclass(frozen=True)
class Planned:
    """A message that is about to be published."""

    body: Body
    key: str | None = None
    fingerprint: bytes = b""


@dataclass(frozen=True)
class PlannedBatch:
    """Messages with one priority and one time. ``visible_ms``: when, if not at once."""

    messages: Sequence[Planned]
    priority: int
    delay_ms: int = 0
    at_ms: int | None = None
    visible_ms: int | None = None

    def packed(self) -> Batch:
        bodies = [each.body for each in self.messages]
        keys = [each.key for each in self.messages]
        keyed = Keyed(bodies, keys, [each.fingerprint for each in self.messages])
        return Batch(
            len(bodies),
            pack_messages(bodies),
            self.priority,
            self.delay_ms,
            self.at_ms,
            keyed if any(key is not None for key in keys) else None,
        )


PlannedCall = Sequence[PlannedBatch]


def refusal(topic: Topic, call: PlannedCall) -> type[BlockQueueError] | None:
    """Return the error that a call's keys earn it, if they do."""
    told: dict[str, bytes] = {}
    keyed = [each for batch in call for each in batch.messages if each.key is not None]
    for each in keyed:
        assert each.key is not None
        if told.setdefault(each.key, each.fingerprint) != each.fingerprint:
            return ValidationError
    for text, fingerprint in told.items():
        if text in topic.keys and topic.keys[text].fingerprint != fingerprint:
            return IdempotencyConflict
    return None


def has_news(topic: Topic, calls: Sequence[PlannedCall]) -> bool:
    """Say whether any call brings a message that was not published before."""
    return any(
        each.key is None or each.key not in topic.keys
        for call in calls
        if refusal(topic, call) is None
        for batch in call
        for each in batch.messages
    )


def publish_calls(
    topic: Topic,
    calls: Sequence[PlannedCall],
    done: Sequence[Sequence[Published] | BlockQueueError],
    now_ms: int,
) -> None:
    """Take over what was published; tags are drawn by chance, so they come from ``done``."""
    for call, published in zip(calls, done, strict=True):
        error = refusal(topic, call)
        if error is not None:
            assert type(published) is error
            continue
        assert not isinstance(published, BlockQueueError), published
        parts = [part for each in published for part in _singles(each)]
        assert len(parts) == sum(len(batch.messages) for batch in call)
        rest = iter(parts)
        for batch in call:
            _publish_batch(topic, batch, rest, now_ms)


def _publish_batch(
    topic: Topic, batch: PlannedBatch, parts: Iterator[Published], now_ms: int
) -> None:
    tags: set[int] = set()
    for planned in batch.messages:
        part = next(parts)
        key = None if planned.key is None else topic.keys.get(planned.key)
        if key is None:
            visible_ms = now_ms + batch.delay_ms if batch.visible_ms is None else batch.visible_ms
            place = (batch.priority, topic.end_seq(batch.priority))
            expected = Key(planned.fingerprint, place, now_ms, visible_ms, part.tag)
            topic.add(place, Message(planned.body, now_ms, visible_ms, part.tag))
            if planned.key is not None:
                topic.keys[planned.key] = expected
            tags.add(part.tag)
        else:
            expected = key
        assert (part.priority, part.first_seq) == expected.place
        assert (part.topic_id, part.tag) == (topic.id, expected.tag)
        assert (part.created_ms, part.visible_ms) == (expected.created_ms, expected.visible_ms)
        assert part.duplicate == (key is not None)
    assert len(tags) <= 1, "one call's messages of one batch share a tag"


def _singles(published: Published) -> Iterator[Published]:
    for index in range(published.count):
        yield Published(
            published.topic_id,
            published.priority,
            published.first_seq + index,
            1,
            published.tag,
            published.created_ms,
            published.visible_ms,
            published.duplicate,
        )
