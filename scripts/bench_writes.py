"""The write path: publishes, and whole cycles, against bare SQLite and the bare verbs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial

import apsw
import msgspec
from bench_figures import (
    Bench,
    Figure,
    bare_connection,
    in_threads,
    in_turns,
    in_worker,
    messages,
    ratio_of_rates,
    timed,
)

from blockqueue import BlockQueue, storage
from blockqueue.storage._frames import pack_frame

_BATCH = 100
_BLOCK_TABLE = """
    CREATE TABLE block (
        topic_id INTEGER NOT NULL, priority INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        count INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (topic_id, priority, first_seq)
    ) STRICT
"""
_MESSAGE_TABLE = "CREATE TABLE message (id INTEGER PRIMARY KEY, data TEXT NOT NULL) STRICT"


def _committing(
    connection: apsw.Connection, sql: str, params: Callable[[int], tuple[object, ...]]
) -> Callable[[], None]:
    """Return a call that inserts one row in a transaction of its own."""
    numbers = itertools.count()

    def commit() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(sql, params(next(numbers)))
        connection.execute("COMMIT")

    return commit


def _bare_blocks(path: str) -> Callable[[], None]:
    """Return a call that commits the same compressed block of 100 messages again and again."""
    packed = msgspec.Raw(storage.pack_messages(messages(_BATCH)))
    data = pack_frame(1, 0, 0, _BATCH, [(_BATCH, int(time.time() * 1000), 12345, packed)])
    sql = "INSERT INTO block (topic_id, priority, first_seq, count, data) VALUES (?, ?, ?, ?, ?)"
    connection = bare_connection(path, _BLOCK_TABLE)
    return _committing(connection, sql, lambda n: (1, 0, n * _BATCH, _BATCH, data))


def bare_rows(path: str, message: str) -> Callable[[], None]:
    """Return a call that commits one message as a row again and again."""
    connection = bare_connection(path, _MESSAGE_TABLE)
    return _committing(connection, "INSERT INTO message (data) VALUES (?)", lambda _: (message,))


def publish_many(bench: Bench) -> list[Figure]:
    """publish_many of 100 by one caller, against a bare transaction with the same block."""
    batch = messages(_BATCH)
    bare = _bare_blocks(bench.path("bare.db"))
    figures: list[Figure] = []
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])
        publish = partial(queue.publish_many, "cart", batch)

        def measure() -> tuple[list[float], list[float]]:
            return in_turns(bench.sizes, partial(timed, publish), partial(timed, bare))

        bench.warm_up(bench.path("bare.db"), bare)
        in_worker(partial(bench.warm_up, bench.path("ours.db"), publish))
        what = "publish_many of 100, one caller ¹"
        figures.append(ratio_of_rates(what, *in_worker(measure), 0.6, _BATCH))
        what = "  the same from the main thread ²"
        figures.append(ratio_of_rates(what, *measure(), None, _BATCH))
    return figures


def cycle(bench: Bench) -> list[Figure]:
    """Publish, claim and ack 100 at a time through the face, against the verbs themselves."""
    batch = messages(_BATCH)
    store = storage.Store(bench.path("verbs.db"))
    topic = storage.create_topic(store, "cart", [storage.Subscriber("counter")])
    with store.reading() as snapshot:
        subscriber_id = storage.subscriber_named(snapshot, topic.id, "counter").id

    def verbs() -> None:
        storage.publish(store, topic.id, [storage.Batch(_BATCH, storage.pack_messages(batch))])
        claimed = storage.claim(store, subscriber_id, _BATCH)
        handles = [storage.Handle(d.priority, d.seq, d.tag, d.generation) for d in claimed]
        assert len(storage.settle(store, subscriber_id, storage.Ack(), handles)) == _BATCH

    figures: list[Figure] = []
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])

        def face() -> None:
            queue.publish_many("cart", batch)
            claimed = queue.claim("cart", "counter", limit=_BATCH)
            assert len(claimed) == _BATCH
            queue.ack("cart", "counter", claimed)

        def measure() -> tuple[list[float], list[float]]:
            return in_turns(bench.sizes, partial(timed, face), partial(timed, verbs))

        in_worker(partial(bench.warm_up, bench.path("verbs.db"), verbs))
        in_worker(partial(bench.warm_up, bench.path("ours.db"), face))
        what = "publish + claim + ack in 100s, one caller ¹"
        figures.append(ratio_of_rates(what, *in_worker(measure), 0.6, _BATCH))
        what = "  the same from the main thread ²"
        figures.append(ratio_of_rates(what, *measure(), None, _BATCH))
    store.close()
    return figures


def singles(bench: Bench) -> list[Figure]:
    """Single durable publishes from many threads, against one row a commit from one."""
    sizes = bench.sizes
    (message,) = messages(1)
    bare = bare_rows(bench.path("bare.db"), message)
    ours: list[float] = []
    bound: list[float] = []
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])
        publish = partial(queue.publish, "cart", message)
        bench.warm_up(bench.path("bare.db"), bare)
        in_worker(partial(bench.warm_up, bench.path("ours.db"), publish))
        rows = max(1, sizes.singles // 8)
        for _ in range(sizes.rounds):
            calls = max(1, sizes.singles // sizes.threads)
            seconds = in_threads(sizes.threads, partial(timed, publish, calls))
            ours.append(seconds / (calls * sizes.threads))
            bound.append(in_worker(partial(timed, bare, rows)) / rows)
    what = f"single durable publishes from {sizes.threads} threads"
    return [ratio_of_rates(what, ours, bound, 4.0)]


def fan_out(bench: Bench) -> list[Figure]:
    """publish_many of 100 to a topic with 100 subscribers, against one with 1."""
    batch = messages(_BATCH)
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("many", [f"subscriber-{number}" for number in range(100)])
        queue.create_topic("one", ["subscriber"])
        many = partial(queue.publish_many, "many", batch)
        one = partial(queue.publish_many, "one", batch)

        def measure() -> tuple[list[float], list[float]]:
            bench.warm_up(bench.path("ours.db"), one)
            return in_turns(bench.sizes, partial(timed, many), partial(timed, one))

        what = "publish_many of 100 with 100 subscribers, against 1"
        return [ratio_of_rates(what, *in_worker(measure), 0.9, _BATCH)]
