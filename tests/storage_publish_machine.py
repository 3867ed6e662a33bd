"""Random publishing: with keys and without, delayed, for a time of day, several calls at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from blockqueue import storage
from blockqueue.storage import BlockQueueError, Body, Envelope, NoSubscribers, Published

from .storage_model_publish import (
    Planned,
    PlannedBatch,
    PlannedCall,
    has_news,
    publish_calls,
    refusal,
)
from .storage_topology_machine import TOPICS, TopologyMachine, has_topics

PRIORITIES = (-5, 0, 7)
DELAYS = st.sampled_from([0, 0, 1, 300, 2_000])
BATCHES = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(PRIORITIES), DELAYS), min_size=1, max_size=4
)
# Few keys, so that they meet again; mostly for the same message.
KEYS = st.sampled_from([None, "a", "b", "c", "ключ\0", "ключ"])
KEYED = st.tuples(KEYS, st.sampled_from([b"same"] * 7 + [b"other"]))
# When a batch is visible: after a delay, or at a time on the wall, counted from now.
TIMES = st.one_of(
    st.tuples(st.just("delay"), DELAYS),
    st.tuples(st.just("at"), st.sampled_from([-5_000, -1, 0, 1, 700])),
)
CALL = st.lists(
    st.tuples(st.lists(KEYED, min_size=1, max_size=5), st.sampled_from(PRIORITIES), TIMES),
    min_size=1,
    max_size=3,
)
CALLS = st.lists(CALL, min_size=1, max_size=3)

CallPlan = list[tuple[list[tuple[str | None, bytes]], int, tuple[str, int]]]


class PublishMachine(TopologyMachine):
    """Publishes on that ground."""

    def __init__(self) -> None:
        super().__init__()
        self.published = 0
        self.wall_shift_ms = 0

    @initialize(retention_ms=st.sampled_from([0, 1_000]))
    def start(self, retention_ms: int) -> None:
        self.create_topic(TOPICS[0], ["at-once", "later"], retention_ms)
        self.publish_plan(1, [(20, 0, 0), (5, 7, 300)])

    def _body(self) -> Body:
        self.published += 1
        text = f"message {self.published}"
        kinds: list[Body] = [text, text.encode(), Envelope(text, {"n": "1"}, "cause", "key")]
        return kinds[self.published % 3]

    @precondition(has_topics)
    @rule(data=st.data(), plan=BATCHES)
    def publish(self, data: st.DataObject, plan: list[tuple[int, int, int]]) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.topics)))
        self.publish_plan(topic_id, plan)

    def publish_plan(self, topic_id: int, plan: list[tuple[int, int, int]]) -> None:
        """Publish so many messages for each (count, priority, delay)."""
        call = [
            PlannedBatch([Planned(self._body()) for _ in range(count)], priority, delay_ms)
            for count, priority, delay_ms in plan
        ]
        self._publish(topic_id, [call])

    @precondition(has_topics)
    @rule(data=st.data(), plans=CALLS)
    def publish_with_keys(self, data: st.DataObject, plans: list[CallPlan]) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.topics)))
        self._publish(topic_id, [self._planned(plan) for plan in plans])

    @rule(shift_ms=st.sampled_from([0, 999, -999, 7_200_000, -3_600_000]))
    def set_the_clock_on_the_wall(self, shift_ms: int) -> None:
        self.clock.set_wall(self.clock.now_ms() + shift_ms)
        self.wall_shift_ms = shift_ms

    def _planned(self, plan: CallPlan) -> PlannedCall:
        return [
            self._timed([Planned(self._body(), *keyed) for keyed in messages], priority, *time)
            for messages, priority, time in plan
        ]

    def _timed(
        self, messages: list[Planned], priority: int, kind: str, from_now_ms: int
    ) -> PlannedBatch:
        if kind == "delay":
            return PlannedBatch(messages, priority, from_now_ms)
        at_ms = self.clock.wall_ms() + from_now_ms
        # The two clocks are called the same as long as they are less than a second apart.
        apart = abs(self.wall_shift_ms) >= 1_000
        visible_ms = at_ms - self.wall_shift_ms if apart else at_ms
        return PlannedBatch(messages, priority, 0, at_ms, visible_ms)

    def _publish(self, topic_id: int, calls: Sequence[PlannedCall]) -> None:
        """Publish calls: as a group, or if it is a single one the way single ones go."""
        topic = self.topics[topic_id]
        batches = [[batch.packed() for batch in call] for call in calls]
        done: Sequence[list[Published] | BlockQueueError]
        with self.writing() as tx:
            if not topic.consumers and has_news(topic, calls):
                with pytest.raises(NoSubscribers):
                    storage.publish_calls_in(tx, topic_id, batches)
                return
            error = refusal(topic, calls[0]) if len(calls) == 1 else None
            if error is not None:
                with pytest.raises(error):
                    storage.publish_in(tx, topic_id, batches[0])
                return
            if len(calls) == 1:
                done = [storage.publish_in(tx, topic_id, batches[0])]
            else:
                done = storage.publish_calls_in(tx, topic_id, batches)
        publish_calls(topic, calls, done, self.now_ms)
