"""A database with something in the retry bucket, and the command that looks at it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner, Result

from blockqueue import BlockQueue, ManualClock, State, Subscriber
from blockqueue.api.cli_retries import retries
from blockqueue.storage import delivery_id, parse_id, subscriber_named, topic_named

HOUR_MS = 3_600_000


def fail(queue: BlockQueue, clock: ManualClock, message: str, reasons: Sequence[str]) -> str:
    """Publish a message and let it fail once for each reason; return its id."""
    published = queue.publish("cart", message).id
    for reason in reasons:
        clock.advance(2)
        (delivery,) = queue.claim("cart", "counter")
        delivery.nack(delay="1ms", error=reason)
    return published


class Prepared:
    """A database with one dead letter (2 h old) and one that waits (1 h old)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        clock = ManualClock(time.time_ns() // 1_000_000 - 2 * HOUR_MS)
        with BlockQueue(path, clock=clock) as queue:
            queue.create_topic("cart", [Subscriber("counter", max_attempts=2), "other"])
            self.dead = fail(queue, clock, "dead\x1b[2J\n", ["busy", "Timeout\nof the bank"])
            clock.advance(HOUR_MS)
            self.waiting = queue.publish("cart", '{"n": 1}').id
            (delivery,) = queue.claim("cart", "counter")
            delivery.nack(delay="10h", error="refused")

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run the command on the subscriber."""
        words = ["cart", "counter", "--db", str(self.path), *arguments]
        return CliRunner().invoke(retries, words, input=stdin)

    def ids(self, *arguments: str) -> list[str]:
        """Return the ids that it lists."""
        found = self.run("--json", *arguments)
        assert found.exit_code == 0, found.output
        return [json.loads(line)["id"] for line in found.stdout.splitlines()]

    def states(self) -> dict[str, State]:
        """Return what is in the bucket, by id."""
        with BlockQueue(self.path) as queue:
            return {each.id: each.state for each in queue.bucket("cart", "counter").entries()}

    def delivery_id(self, message_id: str, subscriber: str = "counter") -> str:
        """Return the id by which the first HTTP contract knows a message."""
        ref = parse_id(message_id)
        assert ref is not None
        with BlockQueue(self.path) as queue, queue.system.reading() as snapshot:
            owner = subscriber_named(snapshot, topic_named(snapshot, "cart").id, subscriber)
            return delivery_id(owner.id, ref.priority, ref.seq, ref.tag)


def crowd(path: Path) -> None:
    """Add 450 dead letters, half an hour old."""
    clock = ManualClock(time.time_ns() // 1_000_000 - HOUR_MS // 2)
    with BlockQueue(path, clock=clock) as queue:
        queue.publish_many("cart", [f"m{n}" for n in range(450)])
        for _ in range(2):
            clock.advance(2)
            taken = queue.claim("cart", "counter", limit=1000)
            queue.nack("cart", "counter", taken, delay="1ms", error="crowd")
