"""The retry bucket and the dead letters of one subscriber, for operators."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from blockqueue import storage
from blockqueue.storage import BucketEntry, Drop, Outcome, Replay, Settlement, State, limits

if TYPE_CHECKING:
    from ._consuming import Consuming


class Bucket:
    """Messages that wait for another try (WAITING) or have failed for good (DEAD).

    Safe while consumers work: what a consumer takes meanwhile is left alone.
    """

    def __init__(self, queue: Consuming, topic: str, subscriber: str) -> None:
        self._queue = queue
        self._topic = topic
        self._name = subscriber

    def entries(
        self, states: Sequence[State] = (State.WAITING, State.DEAD)
    ) -> Iterator[BucketEntry]:
        """Yield the messages, the newest first. Raises TopicNotFound, SubscriberNotFound.

        Reads page by page, so it holds nothing back and takes little memory.
        """
        with self._queue.system.reading() as snapshot:
            topic = storage.topic_named(snapshot, self._topic)
            subscriber = storage.subscriber_named(snapshot, topic.id, self._name)
            priorities = storage.bucket_lanes(snapshot, subscriber.id)
        lanes = [
            self._lane(subscriber, priority, state) for priority in priorities for state in states
        ]
        yield from heapq.merge(*lanes, key=_newest_first)

    def _lane(
        self, subscriber: storage.Subscriber, priority: int, state: State
    ) -> Iterator[BucketEntry]:
        below_seq = 2**63 - 1
        while True:
            with self._queue.system.reading() as snapshot:
                page = storage.bucket_page(snapshot, subscriber, priority, state, below_seq)
            if not page:
                return
            yield from page
            below_seq = page[-1].handle.seq

    def replay(self, entries: Sequence[BucketEntry]) -> int:
        """Make messages visible now; dead ones start over. Returns how many that were."""
        return self._settle(Replay(), entries)

    def drop(self, entries: Sequence[BucketEntry]) -> int:
        """Give messages up for good. Returns how many that were."""
        return self._settle(Drop(), entries)

    def _settle(self, settlement: Settlement, entries: Sequence[BucketEntry]) -> int:
        done = 0
        for start in range(0, len(entries), limits.BATCH_MAX):
            handles = [entry.handle for entry in entries[start : start + limits.BATCH_MAX]]
            settled = self._queue.settle(self._topic, self._name, settlement, handles)
            done += sum(each.outcome is Outcome.DONE for each in settled)
        return done


def _newest_first(entry: BucketEntry) -> tuple[int, int]:
    return -(entry.created_ms or 0), -entry.handle.seq
