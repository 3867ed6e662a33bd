"""Random walks through the storage's verbs, each step compared with the naive model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from msgspec.structs import replace

from blockqueue import storage
from blockqueue.storage import (
    Ack,
    Cancel,
    Drop,
    Extend,
    Handle,
    Nack,
    Outcome,
    Paused,
    Release,
    Replay,
    Settlement,
    Snooze,
    State,
)

from .storage_checks import all_rows, check_delivery
from .storage_list_machine import ListMachine
from .storage_model import Consumer, Place, Record, Topic, singles
from .storage_publish_machine import BATCHES, CALL, DELAYS, PRIORITIES, CallPlan
from .storage_topology_machine import has_consumers, has_topics, is_outside

SETTLEMENTS = st.one_of(
    st.just(Ack()),
    st.just(Ack()),
    st.builds(Nack, st.one_of(st.none(), DELAYS), st.sampled_from(["", "it broke"])),
    st.builds(Extend, st.one_of(st.none(), st.integers(1, 3_000))),
    st.builds(Snooze, DELAYS),
    st.just(Release()),
    st.builds(Replay, st.booleans()),
    st.just(Drop()),
    st.builds(Cancel, st.sampled_from(["", "enough"]), st.booleans()),
)
PROOFS = st.sampled_from(
    ["generation"] * 3
    + ["token"] * 3
    + ["id"] * 3
    + ["old generation", "old token", "wrong token"]
    + ["id of another publish"]
)

# None of these may change anything, whatever it is given for.
STALE = st.sampled_from(
    [
        *("old generation", "old token", "wrong token", "id of another publish"),
        *("id of another topic", "token for another topic", "generation for another topic"),
        *("id of another subscriber", "token of another subscriber"),
    ]
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


class StorageMachine(ListMachine):
    """Claims and settles what was published."""

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
        self.publish_plan(topic_id, plan)
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
        wanted = {State.LEASED}
        if isinstance(settlement, Replay):
            wanted = {State.WAITING, State.DEAD}
        elif isinstance(settlement, Cancel) and not settlement.leased:
            wanted |= {State.WAITING, State.PENDING}
        places = [place for place, each in consumer.records.items() if each.state in wanted]
        if not places:
            return
        first = data.draw(st.integers(0, len(places) - 1))
        count = data.draw(st.integers(1, len(places) - first))
        step = data.draw(st.sampled_from([1, 1, 1, 2, 3]))
        chosen = sorted(places)[first : first + count : step]
        proof = data.draw(PROOFS)
        handles = [self._handle(topic, consumer, place, proof) for place in chosen]
        if data.draw(st.booleans()):
            handles = join_neighbours(handles)
        self._settle(topic, subscriber_id, settlement, handles[::-1] if backwards else handles)

    @precondition(has_consumers)
    @rule(data=st.data())
    def settle_each_in_its_way(self, data: st.DataObject) -> None:
        """Settle deliveries by one call, each by a settlement of its own."""
        topic, subscriber_id, consumer = self.draw_consumer(data)
        if not consumer.records:
            return
        leased = [place for place, each in consumer.records.items() if each.state == State.LEASED]
        places = data.draw(
            st.lists(st.sampled_from(sorted(leased or consumer.records)), min_size=1, max_size=8)
        )
        settlements = [data.draw(SETTLEMENTS) for _ in places]
        handles = [self._handle(topic, consumer, place, data.draw(PROOFS)) for place in places]
        self._settle(topic, subscriber_id, settlements, handles)

    @precondition(has_consumers)
    @rule(data=st.data(), settlement=SETTLEMENTS)
    def settle_with_what_is_stale(self, data: st.DataObject, settlement: Settlement) -> None:
        """A foreign or an old receipt changes nothing at all."""
        topic, subscriber_id, consumer = self.draw_consumer(data)
        if not consumer.records:
            return
        places = data.draw(st.lists(st.sampled_from(sorted(consumer.records)), min_size=1))
        handles = [self._stale(topic, consumer, place, data.draw(STALE)) for place in places]
        with self.writing() as tx:
            before = all_rows(tx)
            settled = storage.settle_in(tx, subscriber_id, settlement, handles)
            assert all_rows(tx) == before
        assert settled == topic.settle(subscriber_id, settlement, handles, self.now_ms)
        assert {each.outcome for each in settled} <= {Outcome.LOST, Outcome.UNKNOWN}

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

    @precondition(lambda machine: is_outside(machine) and has_consumers(machine))
    @rule(data=st.data(), plans=st.lists(CALL, max_size=2), spared=st.integers(0, 3))
    def fail_then_finish_then_make_room(
        self, data: st.DataObject, plans: list[CallPlan], spared: int
    ) -> None:
        """Lead messages all the way: published, failed, done by nearly everybody, removed."""
        topic, _, _ = self.draw_consumer(data)
        for plan in plans:
            self._publish(topic.id, [self._planned(plan)])
        self._finish(topic, Nack(1, "it broke"))
        self.clock.advance(1)
        self._finish(topic, Ack(), spared)
        for _ in range(2):
            self.make_room()
            self.clock.advance(topic.retention_ms)

    def _finish(self, topic: Topic, settlement: Settlement, spared: int = 0) -> None:
        """Let every consumer claim all it can and settle it, except for the first few."""
        for subscriber_id, consumer in topic.consumers.items():
            self._claim(topic, subscriber_id, consumer, 1_000, 5_000)
            records = [(place, consumer.records[place]) for place in sorted(consumer.records)]
            leased = [place for place, each in records if each.state == State.LEASED][spared:]
            handles = [self._handle(topic, consumer, place, "generation") for place in leased]
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

    def _stale(self, topic: Topic, consumer: Consumer, place: Place, kind: str) -> Handle:
        tag, record, other = topic.messages[place].tag, consumer.records[place], topic.id + 1
        token = record.tokens[-1] if record.tokens else None
        tokens = [
            each.records[place].tokens[-1]
            for each in topic.consumers.values()
            if each is not consumer and place in each.records and each.records[place].tokens
        ]
        match kind:
            case "id of another topic":
                return Handle(*place, tag, topic_id=other)
            case "token for another topic":
                return Handle(*place, tag, token, topic_id=other)
            case "generation for another topic":
                return Handle(*place, tag, record.generation, topic_id=other)
            case "id of another subscriber":
                return Handle(*place, tag, subscriber_id=consumer.options.id + 1)
            case "token of another subscriber":
                return Handle(*place, tag, tokens[0] if tokens else "no token")
            case _:
                return self._handle(topic, consumer, place, kind)

    def _settle(
        self,
        topic: Topic,
        subscriber_id: int,
        settlement: Settlement | Sequence[Settlement],
        handles: Sequence[Handle],
    ) -> None:
        with self.writing() as tx:
            settled = storage.settle_in(tx, subscriber_id, settlement, handles)
        expected = topic.settle(subscriber_id, settlement, handles, self.now_ms)
        named = list(singles(handles))
        kinds = [settlement] * len(named) if isinstance(settlement, Settlement) else settlement
        for kind, handle, told, want in zip(kinds, named, settled, expected, strict=True):
            if isinstance(kind, Release) and told.outcome == want.outcome == Outcome.DONE:
                if told.due_ms != want.due_ms:
                    assert told.due_ms is not None
                    topic.adopt_release(subscriber_id, handle, told.due_ms)
            else:
                assert told == want


def join_neighbours(handles: Sequence[Handle]) -> list[Handle]:
    """Name neighbours with one generation by one handle, as a holder of many may do."""
    joined: list[Handle] = []
    for handle in handles:
        last = joined[-1] if joined else None
        if (
            last is not None
            and isinstance(handle.proof, int)
            and handle.proof == last.proof
            and (handle.priority, handle.seq) == (last.priority, last.seq + last.count)
        ):
            joined[-1] = replace(last, count=last.count + 1)
        else:
            joined.append(handle)
    return joined
