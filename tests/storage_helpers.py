"""What most tests of the storage need: a store on a clock that stands still, a topic, handles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from blockqueue.storage import (
    DEFAULT_RETENTION_MS,
    Batch,
    Body,
    Delivery,
    Handle,
    ManualClock,
    Published,
    Store,
    Subscriber,
    Topic,
    Tx,
    create_topic,
    pack_messages,
    publish,
    subscribers,
)


class Queue(NamedTuple):
    """A store with one topic and its subscribers' numbers."""

    store: Store
    clock: ManualClock
    topic: Topic
    subscriber_ids: list[int]

    @property
    def subscriber_id(self) -> int:
        return self.subscriber_ids[0]

    def publish(self, bodies: Sequence[Body], priority: int = 0, delay_ms: int = 0) -> Published:
        batch = Batch(len(bodies), pack_messages(bodies), priority, delay_ms)
        return publish(self.store, self.topic.id, [batch])[0]

    def count(self, table: str) -> int:
        """Count a table's rows."""
        with self.store.reading() as snapshot:
            return int(snapshot.rows(f"SELECT count(*) FROM {table}")[0][0])


def open_queue(
    directory: Path, *options: Subscriber, retention_ms: int = DEFAULT_RETENTION_MS
) -> Queue:
    """Make a store in ``directory`` with one topic. The caller closes it."""
    clock = ManualClock()
    store = Store(directory / "queue.db", clock=clock)
    topic = create_topic(store, "topic", options or [Subscriber("worker")], retention_ms)
    with store.reading() as snapshot:
        numbers = [found.id for found in subscribers(snapshot, topic.id)]
    return Queue(store, clock, topic, numbers)


def handles(deliveries: Iterable[Delivery]) -> list[Handle]:
    """Name deliveries as their holder does."""
    return [Handle(each.priority, each.seq, each.tag, each.generation) for each in deliveries]


def damage_block(store: Store, first_seq: int, priority: int = 0) -> None:
    """Flip a bit in the middle of a block, as a bad disk does."""
    where = "WHERE priority = ? AND first_seq = ?"
    with store.transaction() as tx:
        (data,) = tx.rows(f"SELECT data FROM block {where}", (priority, first_seq))[0]
        broken = bytearray(data)
        broken[len(broken) // 2] ^= 1
        tx.change(f"UPDATE block SET data = ? {where}", (bytes(broken), priority, first_seq))


def lose_block(store: Store, first_seq: int, priority: int = 0) -> None:
    """Take a block away."""
    with store.transaction() as tx:
        tx.change("DELETE FROM block WHERE priority = ? AND first_seq = ?", (priority, first_seq))


class RolledBack(Exception):
    """Ends a transaction without a commit."""


@contextmanager
def rolled_back(store: Store) -> Iterator[Tx]:
    """Open a transaction that comes to nothing."""
    try:
        with store.transaction() as tx:
            yield tx
            raise RolledBack
    except RolledBack:
        pass
