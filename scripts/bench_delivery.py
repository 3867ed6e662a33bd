"""What deliveries cost one by one: acks out of order, priorities, many runs, due times."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

from bench_backlog import claims_in_turns, fill
from bench_figures import (
    Bench,
    Figure,
    in_threads,
    in_turns,
    in_worker,
    median,
    messages,
    percentile,
    ratio_of_rates,
    timed,
)

from blockqueue import BlockQueue, Delivery, Message

_BATCH = 1_000
_CLAIM = 100


def random_acks(bench: Bench) -> list[Figure]:
    """Leased messages acked one by one by many threads, in random order and in order."""
    count, threads = bench.sizes.leased, bench.sizes.threads
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])

        def lease() -> list[Delivery]:
            fill(queue, "cart", count)
            leased: list[Delivery] = []
            while claimed := queue.claim("cart", "counter", limit=_BATCH):
                leased += claimed
            assert len(leased) == count
            return leased

        def spend(shuffle: random.Random | None) -> float:
            leased = in_worker(lease)
            if shuffle is not None:
                shuffle.shuffle(leased)
            rest = iter(leased)  # whichever thread is free takes the next one

            def ack() -> None:
                for delivery in rest:
                    delivery.ack()

            return in_threads(threads, ack) / count

        spend(random.Random(0))  # to warm up
        turns = [(spend(random.Random(n)), spend(None)) for n in range(bench.sizes.rounds)]
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased, status.dead) == (0, 0, 0)
    what = f"acks of {count:,} one by one, {threads} threads, in random order, against in order"
    ours, bound = [each for each, _ in turns], [each for _, each in turns]
    return [ratio_of_rates(what, ours, bound, 0.5, unit="acks/s")]


def priorities(bench: Bench) -> list[Figure]:
    """Claims where many priorities are in use, against one; only priority 0 has messages."""
    count = bench.sizes.priorities
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("many", ["counter"])
        queue.create_topic("one", ["counter"])

        def measure() -> tuple[list[float], list[float]]:
            for number in range(count):
                queue.publish("many", messages(1)[0], priority=number - count // 2)
            claimed = queue.claim("many", "counter", limit=_BATCH)
            assert len(claimed) == count
            queue.ack("many", "counter", claimed)
            return claims_in_turns(bench, queue, "many", "one")

        ours, bound = in_worker(measure)
    what = f"claim of {_CLAIM} (acked after) with {count} priorities in use, against 1 ¹"
    return [ratio_of_rates(what, ours, bound, 0.8, _CLAIM)]


def _publish_delayed(queue: BlockQueue, topic: str, delays_ms: list[int]) -> None:
    """Publish a message for each delay from now, 1000 at a time.

    Each is a run of its own, unless its neighbour in the batch is due in the same millisecond.
    """
    clock = queue.system.store.clock
    begun_ms = clock.now_ms()
    batch = messages(_BATCH)
    for first in range(0, len(delays_ms), _BATCH):
        spent_ms = clock.now_ms() - begun_ms
        queue.publish_many(
            topic,
            [
                Message(each, delay=timedelta(milliseconds=delay_ms - spent_ms))
                for each, delay_ms in zip(batch, delays_ms[first : first + _BATCH], strict=False)
            ],
        )


def counters(bench: Bench) -> list[Figure]:
    """A subscriber's counters when it has very many runs, against when it has few."""
    count, few = bench.sizes.runs, 10
    hour_ms = 3_600_000
    with BlockQueue(bench.path("ours.db")) as queue:

        def measure() -> tuple[list[float], list[float]]:
            for topic, runs in (("many", count), ("few", few)):
                queue.create_topic(topic, ["counter"])
                _publish_delayed(queue, topic, [hour_ms + number for number in range(runs)])
                assert queue.subscribers(topic)[0].waiting == runs
            with queue.system.reading() as snapshot:
                ((rows,),) = snapshot.rows("SELECT count(*) FROM delivery")
            assert rows == count + few
            ours, bound = (partial(queue.subscribers, topic) for topic in ("many", "few"))
            return in_turns(bench.sizes, partial(timed, ours), partial(timed, bound))

        ours, bound = in_worker(measure)
    what = f"the counters of a subscriber with {count:,} runs, against {few}"
    ratios = [a / b for a, b in zip(ours, bound, strict=True)]
    ours_us, bound_us = 1e6 * median(ours), 1e6 * median(bound)
    return [Figure(what, median(ratios), "×", ours_us, bound_us, "µs", at_most=2)]


def delayed(bench: Bench) -> list[Figure]:
    """How late delayed messages are handed out to a consumer that waits for them."""
    count, spread_s = bench.sizes.delayed, bench.sizes.delayed_s
    # Published in no order. The first is due well after the last is published.
    lead_ms = 500 + count // 10
    delays_ms = [lead_ms + int(number * 1000 * spread_s / count) for number in range(count)]
    random.Random(1).shuffle(delays_ms)
    late_ms: list[int] = []
    with BlockQueue(bench.path("ours.db")) as queue:
        queue.create_topic("cart", ["counter"])
        clock = queue.system.store.clock

        def consume() -> None:
            begun_ms = clock.now_ms()
            _publish_delayed(queue, "cart", delays_ms)
            assert clock.now_ms() < begun_ms + lead_ms
            while len(late_ms) < count:
                claimed = queue.claim("cart", "counter", limit=_CLAIM, wait=60)
                now_ms = clock.now_ms()
                for delivery in claimed:
                    stored = delivery.stored(queue)
                    assert stored is not None
                    late_ms.append(now_ms - stored.visible_ms)
                queue.ack("cart", "counter", claimed)

        in_worker(consume)
    assert min(late_ms) >= 0
    what = f"lateness of {count:,} delayed messages over {spread_s:g} s"
    return [
        Figure(what + ", p99", percentile(late_ms, 0.99), "ms", at_most=100),
        Figure("  median", median(late_ms), "ms"),
        Figure("  the latest", max(late_ms), "ms"),
    ]
