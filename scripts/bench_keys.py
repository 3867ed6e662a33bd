"""Idempotency keys: publishes among a million that are known already.

Keys that rise with time, as numbers of orders and UUIDs of version 7 do, are stored side by
side. Random ones each touch a page of their own, which is written twice: to the log and, later,
to its place. That is measured, too, but only shown: no tree that is ordered by key avoids it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from functools import partial

from bench_backlog import fill
from bench_figures import Bench, Figure, in_turns, in_worker, messages, ratio_of_rates, timed
from bench_writes import bare_rows

from blockqueue import BlockQueue, Message
from blockqueue.storage import Tx
from blockqueue.storage._idempotency import Keys, Known

_BATCH = 100
_ROWS = 100_000


Key = Callable[[], str]


def _store_keys(queue: BlockQueue, topic: str, count: int, key: Key) -> None:
    """Publish so many messages, and store a key for each as if it had come with it.

    The rows go in by big transactions, each in its keys' order: several times faster than
    to publish the messages with their keys, and the same rows in the end.
    """
    fill(queue, topic, count)
    topic_id = queue.topic(topic).id
    now_ms = queue.system.store.clock.now_ms()
    fingerprint = random.randbytes(16)

    def store(seqs: range, tx: Tx) -> None:
        places = [(key(), Known(fingerprint, 0, seq, seq, now_ms, now_ms)) for seq in seqs]
        Keys(tx, topic_id).store(sorted(places))

    for first in range(0, count, _ROWS):
        queue.change(partial(store, range(first, min(first + _ROWS, count))))


def _random_key() -> str:
    return str(uuid.uuid4())


def _rising_key() -> str:
    return str(uuid.UUID(int=time.time_ns() << 64 | random.getrandbits(64)))


def keys(bench: Bench) -> list[Figure]:
    """publish_many of 100 with new keys among many, against one row a commit without."""
    what = f"publish_many of {_BATCH} with keys among {bench.sizes.keys:,}, against bare rows ¹"
    return [
        _publishes(bench, what, _rising_key, 5),
        _publishes(bench, "  the same with random keys", _random_key, None),
    ]


def _publishes(bench: Bench, what: str, key: Key, at_least: float | None) -> Figure:
    count, batch, path = bench.sizes.keys, messages(_BATCH), bench.path(f"{key.__name__}.db")
    bare = bare_rows(path + "-bare", batch[0])
    with BlockQueue(path) as queue:
        queue.create_topic("cart", ["counter"])

        def publish(times: int = 1) -> float:
            """Publish so many batches; to make up their keys takes no time."""
            batches = [
                [Message(each, idempotency_key=key()) for each in batch] for _ in range(times)
            ]
            started = time.perf_counter()
            for each in batches:
                queue.publish_many("cart", each)
            return time.perf_counter() - started

        def measure() -> tuple[list[float], list[float]]:
            _store_keys(queue, "cart", count, key)
            bench.warm_up(path, publish)
            return in_turns(bench.sizes, publish, partial(timed, bare))

        bench.warm_up(path + "-bare", bare)
        ours, bound = in_worker(measure)
        with queue.system.reading() as snapshot:
            ((stored,),) = snapshot.rows("SELECT count(*) FROM idempotency")
        assert stored > count
    return ratio_of_rates(what, [each / _BATCH for each in ours], bound, at_least)
