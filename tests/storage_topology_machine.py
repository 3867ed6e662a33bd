"""The ground the random walks stand on: one file, its topics, time, transactions."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from contextlib import AbstractContextManager

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blockqueue import storage
from blockqueue.storage import (
    Batch,
    ManualClock,
    Paused,
    Position,
    Snapshot,
    Store,
    Subscriber,
    SubscriberNotFound,
    TopicNotFound,
    Tx,
    limits,
    pack_messages,
)

from . import storage_checks as checks
from . import storage_summary_checks as summary_checks
from . import storage_view_checks as view_checks
from .storage_model import DAY_MS, Consumer, Topic

TOPICS = ("left", "right")
# So few that a walk comes to the limit.
FAILURES_KEPT = 2
# No jitter: it depends on how messages are grouped into runs, which the model knows not.
OPTIONS = {
    "never-again": Subscriber("never-again", max_attempts=1, retry_jitter=0),
    "at-once": Subscriber("at-once", max_attempts=3, retry_initial_ms=0, retry_jitter=0),
    "later": Subscriber("later", max_attempts=4, retry_initial_ms=200, retry_jitter=0),
}


def has_topics(machine: TopologyMachine) -> bool:
    return bool(machine.topics)


def has_consumers(machine: TopologyMachine) -> bool:
    return bool(machine.consumers())


def is_outside(machine: TopologyMachine) -> bool:
    """Tell whether no transaction is open: time stands still inside one."""
    return machine.tx is None


def is_inside(machine: TopologyMachine) -> bool:
    return machine.tx is not None


class Abandoned(Exception):
    """Rolls a transaction back."""


class TopologyMachine(RuleBasedStateMachine):
    """Drives one file. Every verb runs in an open transaction if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(limits, "FAILURES_KEPT", FAILURES_KEPT)
        self.directory = tempfile.mkdtemp(prefix="blockqueue-model-")
        self.clock = ManualClock()
        self.store = Store(self._path, clock=self.clock)
        self.topics: dict[int, Topic] = {}
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
        self._patch.undo()

    # What the rules are made of.

    def writing(self) -> AbstractContextManager[Tx]:
        return self.store.transaction() if self.tx is None else _Open(self.tx)

    def reading(self) -> AbstractContextManager[Snapshot]:
        return self.store.reading() if self.tx is None else _Open(self.tx)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms() if self.tx is None else self.tx.now_ms

    def forget_views(self) -> None:
        """What was seen of a transaction was never there."""

    def consumers(self) -> list[tuple[int, int]]:
        return [(t, s) for t, topic in sorted(self.topics.items()) for s in sorted(topic.consumers)]

    def draw_consumer(self, data: st.DataObject) -> tuple[Topic, int, Consumer]:
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        topic = self.topics[topic_id]
        return topic, subscriber_id, topic.consumers[subscriber_id]

    # Topics and subscribers.

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
            self.create_topic(name, names, retention_ms)

    def create_topic(self, name: str, names: list[str], retention_ms: int) -> None:
        taken = any(topic.name == name for topic in self.topics.values())
        options = [OPTIONS[each] for each in names]
        with self.writing() as tx:
            if taken:
                with pytest.raises(storage.AlreadyExists):
                    storage.create_topic_in(tx, name, options, retention_ms)
                return
            made = storage.create_topic_in(tx, name, options, retention_ms)
            assert made.id not in self.topics, "a topic's number was used again"
            self.topics[made.id] = topic = Topic(made.id, name, retention_ms)
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

    # Time and maintenance.

    @precondition(is_outside)
    @rule(ms=st.sampled_from([1, 50, 399, 400, 1_000, 70_000, DAY_MS]))
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

    # Opening anew, transactions.

    @precondition(is_outside)
    @rule(lose_hints=st.booleans())
    def reopen(self, lose_hints: bool) -> None:
        self.store.close()
        if lose_hints:
            os.unlink(self._path + "-hints")
        self.store = Store(self._path, clock=self.clock)

    @precondition(is_outside)
    @rule()
    def begin(self) -> None:
        self._before = copy.deepcopy(self.topics)
        self._transaction = self.store.transaction()
        self.tx = self._transaction.__enter__()

    @precondition(is_inside)
    @rule(fails=st.booleans())
    def end(self, fails: bool) -> None:
        if fails:
            self.topics = self._before
            self.forget_views()
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
                    view_checks.check_failures(snapshot, topic, subscriber_id)
                view_checks.check_keys(snapshot, topic)
                summary_checks.check_subscribers(snapshot, topic)
            summary_checks.check_topics(snapshot, list(self.topics.values()))
            summary_checks.check_overview(snapshot, list(self.topics.values()))
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
