"""Random walks through the storage's verbs, each step compared with the naive model."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blockqueue import storage
from blockqueue.storage import (
    Ack,
    Batch,
    Body,
    Drop,
    Envelope,
    Extend,
    Handle,
    ManualClock,
    Nack,
    NoSubscribers,
    Outcome,
    Paused,
    Position,
    Release,
    Replay,
    Settlement,
    Snapshot,
    Snooze,
    State,
    Store,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    Tx,
    pack_messages,
)

from . import storage_checks as checks
from .storage_model import Consumer, Place, Record, Topic, check_delivery

TOPICS = ("left", "right")
PRIORITIES = (-5, 0, 7)
# No jitter: it depends on how messages are grouped into runs, which the model knows not.
OPTIONS = {
    "never-again": Subscriber("never-again", max_attempts=1, retry_jitter=0),
    "at-once": Subscriber("at-once", max_attempts=3, retry_initial_ms=0, retry_jitter=0),
    "later": Subscriber("later", max_attempts=4, retry_initial_ms=200, retry_jitter=0),
}
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
ROUNDS = st.lists(st.tuples(st.integers(1, 60), SETTLEMENTS), min_size=1, max_size=5)


class Abandoned(Exception):
    """Rolls a transaction back."""


class StorageMachine(RuleBasedStateMachine):
    """Drives one file. Every verb runs in an open transaction if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="blockqueue-model-")
        self.clock = ManualClock()
        self.store = Store(self._path, clock=self.clock)
        self.topics: dict[int, Topic] = {}
        self.published = 0
        self.tx: Tx | None = None
        self._transaction: AbstractContextManager[Tx] | None = None
        self._before: dict[int, Topic] = {}

    @property
    def _path(self) -> str:
        return os.path.join(self.directory, "queue.db")

    def teardown(self) -> None:
        if self.tx is not None:
            self._end(Abandoned())
        self.store.close()
        shutil.rmtree(self.directory)

    # What the rules are made of.

    def writing(self) -> AbstractContextManager[Tx]:
        return self.store.transaction() if self.tx is None else _Open(self.tx)

    def reading(self) -> AbstractContextManager[Snapshot]:
        return self.store.reading() if self.tx is None else _Open(self.tx)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms() if self.tx is None else self.tx.now_ms

    def consumers(self) -> list[tuple[int, int]]:
        return [(t, s) for t, topic in sorted(self.topics.items()) for s in sorted(topic.consumers)]

    def draw_consumer(self, data: st.DataObject) -> tuple[Topic, int, Consumer]:
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        topic = self.topics[topic_id]
        return topic, subscriber_id, topic.consumers[subscriber_id]

    def has_topics(self) -> bool:
        return bool(self.topics)

    def has_consumers(self) -> bool:
        return bool(self.consumers())

    def outside(self) -> bool:
        return self.tx is None

    # Topics and subscribers.

    @initialize(retention_ms=st.sampled_from([0, 1_000]))
    def start(self, retention_ms: int) -> None:
        self._create_topic(TOPICS[0], ["at-once", "later"], retention_ms)
        self._publish(1, [(20, 0, 0), (5, 7, 300)])

    @rule(
        data=st.data(),
        name=st.sampled_from(TOPICS),
        names=st.lists(st.sampled_from(sorted(OPTIONS)), unique=True, min_size=1),
        retention_ms=st.sampled_from([0, 1_000]),
    )
    def create_or_delete_topic(
        self, data: st.DataObject, name: str, names: list[str], retention_ms: int
    ) -> None:
        known = {topic.name: number for number, topic in self.topics.items()}
        if name in known and data.draw(st.integers(0, 3)) == 0:
            self._delete_topic(known[name])
        else:
            self._create_topic(name, names, retention_ms)

    def _create_topic(self, name: str, names: list[str], retention_ms: int) -> None:
        taken = any(topic.name == name for topic in self.topics.values())
        options = [OPTIONS[each] for each in names]
        with self.writing() as tx:
            if taken:
                with pytest.raises(storage.AlreadyExists):
                    storage.create_topic_in(tx, name, options, retention_ms)
                return
            made = storage.create_topic_in(tx, name, options, retention_ms)
            assert made.id not in self.topics, "a topic's number was used again"
            self.topics[made.id] = topic = Topic(name, retention_ms)
            for found in storage.subscribers(tx, made.id):
                topic.consumers[found.id] = Consumer(found)

    @precondition(has_topics)
    @rule(data=st.data(), name=st.sampled_from(sorted(OPTIONS)))
    def add_or_delete_subscriber(self, data: st.DataObject, name: str) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.topics)))
        topic = self.topics[topic_id]
        known = {each.options.name: number for number, each in topic.consumers.items()}
        with self.writing() as tx:
            if name in known:
                storage.delete_subscriber_in(tx, known[name])
                del topic.consumers[known[name]]
                with pytest.raises(SubscriberNotFound):
                    storage.claim_in(tx, known[name], 1)
                return
            storage.add_subscribers_in(tx, topic_id, [OPTIONS[name]])
            found = storage.subscriber_named(tx, topic_id, name)
        topic.consumers[found.id] = Consumer(found)

    def _delete_topic(self, topic_id: int) -> None:
        with self.writing() as tx:
            storage.delete_topic_in(tx, topic_id)
            with pytest.raises(TopicNotFound):
                storage.publish_in(tx, topic_id, [Batch(1, pack_messages([""]))])
        del self.topics[topic_id]

    @precondition(has_consumers)
    @rule(data=st.data(), whole_topic=st.booleans())
    def pause_and_refuse_and_maybe_resume(self, data: st.DataObject, whole_topic: bool) -> None:
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        stays = data.draw(st.integers(0, 3)) == 0
        topic = self.topics[topic_id]
        with self.writing() as tx:
            if whole_topic:
                storage.pause_topic_in(tx, topic_id, True)
            else:
                storage.pause_subscriber_in(tx, subscriber_id, True)
            with pytest.raises(Paused):
                storage.claim_in(tx, subscriber_id, 1)
            if not stays:
                storage.pause_topic_in(tx, topic_id, False)
                storage.pause_subscriber_in(tx, subscriber_id, False)
        if stays and whole_topic:
            topic.paused = True
        elif stays:
            topic.consumers[subscriber_id].paused = True
        else:
            topic.paused = topic.consumers[subscriber_id].paused = False

    # Messages.

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
        rounds: list[tuple[int, Settlement]],
        plan: list[tuple[int, int, int]],
    ) -> None:
        """Let one consumer do a few rounds of what consumers do all day."""
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        topic = self.topics[topic_id]
        consumer = topic.consumers[subscriber_id]
        self._publish(topic_id, plan)
        for limit, settlement in rounds:
            self._claim(topic, subscriber_id, consumer, limit, 5_000)
            self._settle_stretch(data, topic, subscriber_id, settlement)
            if self.tx is None:
                self.clock.advance(150)

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

    # Time, maintenance, transactions.

    @precondition(outside)
    @rule(ms=st.sampled_from([1, 50, 399, 400, 1_000, 70_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule(limit=st.sampled_from([1, 3, 1_000]))
    def expire(self, limit: int) -> None:
        expected = {
            number
            for topic in self.topics.values()
            for number, consumer in topic.consumers.items()
            if consumer.expire(self.now_ms)
        }
        swept: set[int] = set()
        with self.writing() as tx:
            while found := storage.expire_in(tx, limit):
                swept.update(found)
        assert swept == expected

    @rule()
    def make_room(self) -> None:
        position = Position()
        with self.writing() as tx:
            while storage.mark_step_in(tx, position):
                pass
            while storage.delete_step_in(tx):
                pass
            next_ms = storage.next_delete_ms(tx)
            assert next_ms is None or next_ms > self.now_ms
            while storage.purge_step_in(tx):
                pass
            assert not storage.vacuum_step_in(tx)
            subscribers = [subscriber_id for _, subscriber_id in self.consumers()]
            checks.check_nothing_left(tx, list(self.topics), subscribers)
            for topic_id, topic in self.topics.items():
                kept = tx.rows(
                    "SELECT priority, first_seq, count FROM block WHERE topic_id = ?", (topic_id,)
                )
                places = [(p, seq) for p, first, n in kept for seq in range(first, first + n)]
                topic.forget_blocks(places, self.now_ms)

    @precondition(outside)
    @rule(lose_hints=st.booleans())
    def reopen(self, lose_hints: bool) -> None:
        self.store.close()
        if lose_hints:
            os.unlink(self._path + "-hints")
        self.store = Store(self._path, clock=self.clock)

    @precondition(outside)
    @rule()
    def begin(self) -> None:
        self._before = copy.deepcopy(self.topics)
        self._transaction = self.store.transaction()
        self.tx = self._transaction.__enter__()

    @precondition(lambda self: self.tx is not None)
    @rule(fails=st.booleans())
    def end(self, fails: bool) -> None:
        if fails:
            self.topics = self._before
        self._end(Abandoned() if fails else None)

    def _end(self, error: Abandoned | None) -> None:
        assert self._transaction is not None
        transaction, self.tx, self._transaction = self._transaction, None, None
        try:
            transaction.__exit__(type(error) if error else None, error, None)
        except Abandoned:
            pass

    # What must hold after every step.

    @invariant()
    def agrees_with_the_model(self) -> None:
        with self.reading() as snapshot:
            for topic_id, topic in self.topics.items():
                checks.check_views(snapshot, topic_id, topic)
                for subscriber_id in topic.consumers:
                    checks.check_lanes(snapshot, subscriber_id)
                    checks.check_records(snapshot, topic_id, topic, subscriber_id)
                    checks.check_conservation(snapshot, topic_id, subscriber_id)
                    checks.check_bucket(snapshot, topic_id, topic, subscriber_id)
            consumers = [
                each for topic in self.topics.values() for each in topic.consumers.values()
            ]
            checks.check_lease_hint(snapshot, consumers)


class _Open:
    """A transaction that is open already and stays so."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def __enter__(self) -> Tx:
        return self._tx

    def __exit__(self, *_: object) -> None:
        pass
