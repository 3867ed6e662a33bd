"""Idempotency keys: publishes among a million that are known already."""

from __future__ import annotations

import random
import time
import uuid
from functools import partial

from bench_backlog import fill
from bench_figures import Bench, Figure, in_turns, in_worker, messages, ratio_of_rates, timed
from bench_writes import bare_rows

from blockqueue import BlockQueue, Message
from blockqueue.storage import Tx
from blockqueue.storage._idempotency import Keys, Known

_BATCH = 100
_ROWS = 100_000


def _store_keys(queue: BlockQueue, topic: str, count: int) -> None:
    """Publish so many messages, and store a random key for each as if it had come with it.

    The rows go in by big transactions, each in its keys' order: several times faster than
    to publish the messages with their keys, and the same rows in the end.
    """
    fill(queue, topic, count)
    topic_id = queue.topic(topic).id
    now_ms = queue.system.store.clock.now_ms()
    fingerprint = random.randbytes(16)

    def store(seqs: range, tx: Tx) -> None:
        places = [(_key(), Known(fingerprint, 0, seq, seq, now_ms, now_ms)) for seq in seqs]
        Keys(tx, topic_id).store(sorted(places))

    for first in range(0, count, _ROWS):
        queue.change(partial(store, range(first, min(first + _ROWS, count))))


def _key() -> str:
    return str(uuid.uuid4())


def keys(bench: Bench) -> list[Figure]:
    """publish_many of 100 with new keys among many, against one row a commit without."""
    count, batch = bench.sizes.keys, messages(_BATCH)
    bare = bare_rows(bench.path("bare.db"), batch[0])
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])

        def publish(times: int = 1) -> float:
            """Publish so many batches; to make up their keys takes no time."""
            batches = [
                [Message(each, idempotency_key=_key()) for each in batch] for _ in range(times)
            ]
            started = time.perf_counter()
            for each in batches:
                queue.publish_many("cart", each)
            return time.perf_counter() - started

        def measure() -> tuple[list[float], list[float]]:
            _store_keys(queue, "cart", count)
            bench.warm_up(bench.path("ours.db"), publish)
            return in_turns(bench.sizes, publish, partial(timed, bare))

        bench.warm_up(bench.path("bare.db"), bare)
        ours, bound = in_worker(measure)
        with queue.system.reading() as snapshot:
            ((stored,),) = snapshot.rows("SELECT count(*) FROM idempotency")
        assert stored > count
    what = f"publish_many of {_BATCH} with keys among {count:,}, against bare single rows ¹"
    return [ratio_of_rates(what, [each / _BATCH for each in ours], bound, 5)]
