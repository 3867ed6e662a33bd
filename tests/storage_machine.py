"""Random walks through the storage's verbs, each step compared with the naive model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from blockqueue import storage
from blockqueue.storage import (
    Ack,
    Batch,
    Body,
    Drop,
    Envelope,
    Extend,
    Handle,
    Nack,
    NoSubscribers,
    Outcome,
    Paused,
    Release,
    Replay,
    Settlement,
    Snooze,
    State,
    pack_messages,
)

from .storage_model import Consumer, Place, Record, Topic, check_delivery
from .storage_topology_machine import TOPICS, TopologyMachine, has_consumers, has_topics

PRIORITIES = (-5, 0, 7)
DELAYS = st.sampled_from([0, 0, 1, 300, 2_000])
BATCHES = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(PRIORITIES), DELAYS), min_size=1, max_size=4
)
SETTLEMENTS = st.one_of(
    st.just(Ack()),
    st.just(Ack()),
    st.builds(Nack, st.one_of(st.none(), DELAYS), st.sampled_from(["", "it broke"])),
    st.builds(Extend, st.integers(1, 3_000)),
    st.builds(Snooze, DELAYS),
    st.just(Release()),
    st.just(Replay()),
    st.just(Drop()),
)
PROOFS = st.sampled_from(
    ["generation"] * 3
    + ["token"] * 3
    + ["id"] * 3
    + ["old generation", "old token", "wrong token"]
    + ["id of another publish"]
)
# How many to claim, how long the lease lasts, how long it takes, and what comes of it.
ROUNDS = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.sampled_from([400, 5_000]),
        st.sampled_from([0, 150, 400]),
        SETTLEMENTS,
    ),
    min_size=1,
    max_size=5,
)


class StorageMachine(TopologyMachine):
    """Publishes, claims and settles on that ground."""

    def __init__(self) -> None:
        super().__init__()
        self.published = 0

    @initialize(retention_ms=st.sampled_from([0, 1_000]))
    def start(self, retention_ms: int) -> None:
        self.create_topic(TOPICS[0], ["at-once", "later"], retention_ms)
        self._publish(1, [(20, 0, 0), (5, 7, 300)])

    def _bodies(self, count: int) -> list[Body]:
        bodies: list[Body] = []
        for _ in range(count):
            self.published += 1
            text = f"message {self.published}"
            kinds: list[Body] = [text, text.encode(), Envelope(text, {"n": "1"}, "cause")]
            bodies.append(kinds[self.published % 3])
        return bodies

    @precondition(has_topics)
    @rule(data=st.data(), plan=BATCHES)
    def publish(self, data: st.DataObject, plan: list[tuple[int, int, int]]) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.topics)))
        self._publish(topic_id, plan)

    def _publish(self, topic_id: int, plan: list[tuple[int, int, int]]) -> None:
        topic = self.topics[topic_id]
        bodies = [self._bodies(count) for count, _, _ in plan]
        batches = [
            Batch(len(texts), pack_messages(texts), priority, delay_ms)
            for texts, (_, priority, delay_ms) in zip(bodies, plan, strict=True)
        ]
        with self.writing() as tx:
            if not topic.consumers:
                with pytest.raises(NoSubscribers):
                    storage.publish_in(tx, topic_id, batches)
                return
            done = storage.publish_in(tx, topic_id, batches)
        topic.publish(batches, bodies, done)

    @precondition(has_consumers)
    @rule(data=st.data(), rounds=ROUNDS, plan=BATCHES)
    def publish_and_consume(
        self,
        data: st.DataObject,
        rounds: list[tuple[int, int, int, Settlement]],
        plan: list[tuple[int, int, int]],
    ) -> None:
        """Let one consumer do a few rounds of what consumers do all day."""
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        topic = self.topics[topic_id]
        consumer = topic.consumers[subscriber_id]
        self._publish(topic_id, plan)
        for limit, lease_ms, ms, settlement in rounds:
            self._claim(topic, subscriber_id, consumer, limit, lease_ms)
            if self.tx is None:
                self.clock.advance(ms)
            self._settle_stretch(data, topic, subscriber_id, settlement)

    @precondition(has_consumers)
    @rule(data=st.data(), limit=st.integers(1, 60), lease_ms=st.sampled_from([1, 400, 5_000]))
    def claim(self, data: st.DataObject, limit: int, lease_ms: int) -> None:
        topic, subscriber_id, consumer = self.draw_consumer(data)
        self._claim(topic, subscriber_id, consumer, limit, lease_ms)

    def _claim(
        self, topic: Topic, subscriber_id: int, consumer: Consumer, limit: int, lease_ms: int
    ) -> None:
        with self.writing() as tx:
            if topic.paused or consumer.paused:
                with pytest.raises(Paused):
                    storage.claim_in(tx, subscriber_id, limit, lease_ms)
                return
            taken = storage.claim_in(tx, subscriber_id, limit, lease_ms)
        expected = topic.claim(subscriber_id, limit, lease_ms, self.now_ms)
        assert [(each.priority, each.seq) for each in taken] == [each[0] for each in expected]
        for delivery, (place, message, record) in zip(taken, expected, strict=True):
            check_delivery(delivery, place, message, record, self.now_ms)
            assert delivery.receipt_token not in record.tokens, "a receipt was used again"
            record.tokens.append(delivery.receipt_token)

    @precondition(has_consumers)
    @rule(data=st.data(), settlement=SETTLEMENTS, backwards=st.booleans())
    def settle_a_stretch(
        self, data: st.DataObject, settlement: Settlement, backwards: bool
    ) -> None:
        """Settle many messages at once, mostly such as the settlement fits."""
        topic, subscriber_id, _ = self.draw_consumer(data)
        self._settle_stretch(data, topic, subscriber_id, settlement, backwards)

    def _settle_stretch(
        self,
        data: st.DataObject,
        topic: Topic,
        subscriber_id: int,
        settlement: Settlement,
        backwards: bool = False,
    ) -> None:
        consumer = topic.consumers[subscriber_id]
        wanted = {State.WAITING, State.DEAD} if isinstance(settlement, Replay) else {State.LEASED}
        places = [place for place, each in consumer.records.items() if each.state in wanted]
        if not places:
            return
        first = data.draw(st.integers(0, len(places) - 1))
        count = data.draw(st.integers(1, len(places) - first))
        step = data.draw(st.sampled_from([1, 1, 1, 2, 3]))
        chosen = sorted(places)[first : first + count : step]
        proof = data.draw(PROOFS)
        handles = [self._handle(topic, consumer, place, proof) for place in chosen]
        self._settle(topic, subscriber_id, settlement, handles[::-1] if backwards else handles)

    @precondition(has_consumers)
    @rule(data=st.data(), settlement=SETTLEMENTS)
    def settle_anything(self, data: st.DataObject, settlement: Settlement) -> None:
        """Settle a few messages in any state, in any order, some of them twice."""
        topic, subscriber_id, consumer = self.draw_consumer(data)
        if not topic.messages:
            return
        strangers = [(priority, topic.end_seq(priority)) for priority in (*PRIORITIES, 999)]
        known = st.sampled_from(sorted(topic.messages))
        places = st.lists(st.one_of(known, known, st.sampled_from(strangers)), min_size=1)
        handles = [
            self._handle(topic, consumer, place, data.draw(PROOFS)) for place in data.draw(places)
        ]
        self._settle(topic, subscriber_id, settlement, handles)

    @precondition(has_topics)
    @rule(data=st.data(), drop=st.booleans(), backwards=st.booleans())
    def drain(self, data: st.DataObject, drop: bool, backwards: bool) -> None:
        """Let everybody finish what is visible, and perhaps an operator drop the rest."""
        topic = self.topics[data.draw(st.sampled_from(sorted(self.topics)))]
        for subscriber_id, consumer in topic.consumers.items():
            self._claim(topic, subscriber_id, consumer, 1_000, 5_000)
            steps: list[tuple[Settlement, set[State]]] = [(Ack(), {State.LEASED})]
            if drop:
                steps.append((Drop(), {State.WAITING, State.DEAD}))
            for settlement, states in steps:
                places = [place for place, each in consumer.records.items() if each.state in states]
                places.sort(reverse=backwards)
                handles = [self._handle(topic, consumer, place, "generation") for place in places]
                self._settle(topic, subscriber_id, settlement, handles)

    def _handle(self, topic: Topic, consumer: Consumer, place: Place, kind: str) -> Handle:
        record, message = consumer.records.get(place, Record()), topic.messages.get(place)
        tokens, generation = record.tokens, record.generation
        tag = 0 if message is None else message.tag
        proofs: dict[str, int | str | None] = {
            "generation": generation,
            "old generation": generation - 1,
            "token": tokens[-1] if tokens else "no token",
            "old token": tokens[-2] if len(tokens) > 1 else "no token",
            "wrong token": "00000000-0000-0000-0000-000000000000",
            "id": None,
            "id of another publish": None,
        }
        if kind == "id of another publish":
            tag ^= 1
        return Handle(*place, tag, proofs[kind])

    def _settle(
        self, topic: Topic, subscriber_id: int, settlement: Settlement, handles: Sequence[Handle]
    ) -> None:
        with self.writing() as tx:
            settled = storage.settle_in(tx, subscriber_id, settlement, handles)
        expected = topic.settle(subscriber_id, settlement, handles, self.now_ms)
        if isinstance(settlement, Release):
            assert [each.outcome for each in settled] == [each.outcome for each in expected]
            for handle, each in zip(handles, settled, strict=True):
                if each.outcome == Outcome.DONE:
                    assert each.due_ms is not None
                    topic.adopt_release(subscriber_id, handle, each.due_ms)
        else:
            assert settled == expected
