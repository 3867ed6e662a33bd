"""Makes a database, or works on damaged ones, as a server would.

``build DATABASE SEED [BREAK…]`` publishes in two halves and waits for a line after each.
``serve [BREAK…]`` reads the path of a database a line, and answers with the JSON of a ``Work``.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from blockqueue import BlockQueue, BlockQueueError

TOPIC = "topic"
SUBSCRIBERS = ("first", "second")

_HALF = 40
_ROUNDS_MAX = 200


class Made(msgspec.Struct):
    """What is in the database: bodies by id, and the ids that are done or leased."""

    bodies: dict[str, str] = {}
    done: dict[str, list[str]] = {}
    leased: dict[str, list[str]] = {}


class Work(msgspec.Struct):
    """What came out of a damaged database. ``crashes``: errors that nobody had named."""

    received: dict[str, list[tuple[str, str]]] = {}
    dead: dict[str, list[str]] = {}
    refused: list[str] = []
    crashes: list[str] = []


def build(database: str, seed: int) -> None:
    """Publish, acknowledge and lease; end without closing, as one does that is killed."""
    random, made = Random(seed), Made()
    queue = BlockQueue(database)
    queue.create_topic(TOPIC, SUBSCRIBERS)
    for _half in range(2):
        for _ in range(_HALF):
            count = random.choice((1, 1, 2, 7))
            sizes = [random.choice((3, 60, 900, 3000)) for _ in range(count)]
            bodies = [random.randbytes(size).hex() for size in sizes]
            receipts = queue.publish_many(TOPIC, bodies, priority=random.choice((0, 0, 5)))
            made.bodies |= {
                receipt.id: body for receipt, body in zip(receipts, bodies, strict=True)
            }
        for subscriber in SUBSCRIBERS:
            taken = queue.claim(TOPIC, subscriber, limit=random.randrange(5, 40), lease="12h")
            done = taken[::2]
            queue.ack(TOPIC, subscriber, done)
            made.done.setdefault(subscriber, []).extend(each.id for each in done)
            made.leased.setdefault(subscriber, []).extend(each.id for each in taken[1::2])
        _say(made)
        sys.stdin.readline()
        queue.system.store.checkpoint()
    os._exit(0)


def serve() -> None:
    logging.disable()
    for line in sys.stdin:
        _say(_work_on(line.strip()))


def _say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def _work_on(path: str) -> Work:
    work = Work()
    queues: list[BlockQueue] = []

    def attempt(act: Callable[[], object]) -> bool:
        """Do it; return whether it went well."""
        try:
            act()
        except BlockQueueError as error:
            work.refused.append(f"{type(error).__name__}: {error}")
            return False
        except Exception:
            work.crashes.append(traceback.format_exc(limit=-6))
            return False
        return True

    if not attempt(lambda: queues.append(BlockQueue(path))):
        return work
    (queue,) = queues
    attempt(queue.topics)
    attempt(lambda: queue.subscribers(TOPIC))
    for subscriber in SUBSCRIBERS:
        attempt(lambda subscriber=subscriber: _drain(queue, subscriber, work))  # type: ignore[misc]
        attempt(lambda subscriber=subscriber: _dead(queue, subscriber, work))  # type: ignore[misc]
    attempt(lambda: queue.publish(TOPIC, "after"))
    attempt(queue.close)
    return work


def _drain(queue: BlockQueue, subscriber: str, work: Work) -> None:
    received = work.received.setdefault(subscriber, [])
    for _ in range(_ROUNDS_MAX):
        taken = queue.claim(TOPIC, subscriber, limit=100)
        if not taken:
            return
        received += [(each.id, str(each.message)) for each in taken]
        queue.ack(TOPIC, subscriber, taken)
    raise RuntimeError(f"{subscriber} was not empty after {_ROUNDS_MAX} claims")


def _dead(queue: BlockQueue, subscriber: str, work: Work) -> None:
    page = queue.dead_page(TOPIC, subscriber, 1000)
    work.dead[subscriber] = [each.message_id for each in page.items]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.faults.broken import BREAKS

    serves = sys.argv[1] == "serve"
    for name in sys.argv[2 if serves else 4 :]:
        BREAKS[name]()
    if serves:
        serve()
    else:
        build(sys.argv[2], int(sys.argv[3]))
