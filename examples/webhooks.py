"""Webhooks: each event goes to every customer, whose server may be away for a day.

    python examples/webhooks.py work https://a.example/hook https://b.example/hook
    python examples/webhooks.py publish '{"order": 42}'

Each address is a subscriber of its own, so one that is away holds nobody else up. It is tried again
after 1 s, 2 s, 4 s … up to an hour, 30 times; what then is dead can be replayed with
`blockqueue retries`. Needs the extra `client`, for its HTTP library.
"""

from __future__ import annotations

import argparse
import contextlib
from functools import partial

import httpx2

from blockqueue import (
    AlreadyExists,
    BlockQueue,
    Cancel,
    Job,
    RetryAfter,
    Subscriber,
    Worker,
    WorkerGroup,
)

_TOPIC = "events"


def subscribe(queue: BlockQueue, address: str) -> str:
    """Make the subscriber of an address, if there is none; return its name."""
    name = address.replace("/", "|")  # which a name cannot have
    subscriber = Subscriber(name, max_attempts=30)
    with contextlib.suppress(AlreadyExists):
        queue.create_topic(_TOPIC, [subscriber])
        return name
    with contextlib.suppress(AlreadyExists):
        queue.add_subscribers(_TOPIC, [subscriber])
    return name


def post(http: httpx2.Client, address: str, event: bytes, job: Job) -> None:
    """Send an event to an address. What it raises says what becomes of it."""
    answer = http.post(
        address,
        content=event,
        # The id is the same at each try: the customer can tell what came twice.
        headers={"Content-Type": "application/json", "Webhook-Id": job.id},
    )
    if answer.status_code == 410:
        raise Cancel(f"{address} wants no more events")
    wait = answer.headers.get("Retry-After", "")
    if answer.status_code in {429, 503} and wait.isdigit():
        raise RetryAfter(int(wait), f"{answer.status_code}, and to wait for {wait} s")
    answer.raise_for_status()
    print("sent", job.id, "to", address, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Send events to webhooks.")
    parser.add_argument("--db", default="webhooks.db")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("publish").add_argument("event")
    commands.add_parser("work").add_argument("addresses", nargs="+")
    arguments = parser.parse_args()

    with BlockQueue(arguments.db) as queue, httpx2.Client(timeout=10) as http:
        if arguments.command == "publish":
            print("published", queue.publish(_TOPIC, arguments.event).id)
            return
        names = {address: subscribe(queue, address) for address in arguments.addresses}
        print("subscribed", *arguments.addresses, flush=True)
        WorkerGroup(
            Worker(queue, _TOPIC, name, partial(post, http, address), type=bytes, concurrency=4)
            for address, name in names.items()
        ).run()


if __name__ == "__main__":
    main()
