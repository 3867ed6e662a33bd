"""``blockqueue consume``."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from blockqueue.storage import BackPressure, BlockQueueError, CommitUnknown, Paused, Unavailable

from ._cli_exec import Run
from ._cli_group import FAILED
from ._cli_options import duration
from ._cli_rows import show_message
from ._cli_signals import Interrupts
from ._cli_source import JSON, SUBSCRIBER, TOPIC, Source, source_options
from ._durations import milliseconds

if TYPE_CHECKING:
    from blockqueue import BlockQueue, Delivery
    from blockqueue.client import Client
    from blockqueue.client import Delivery as Remote

_PRINTED_AT_ONCE = 100
_FOLLOWED_S = 20.0
_PAUSE_S = 2.0
# What a consumer that follows waits out.
_PASSES = (Paused, Unavailable, BackPressure, CommitUnknown)


@click.command()
@TOPIC
@SUBSCRIBER
@click.option("--exec", "command", help="Run this by sh for each, the message on its input.")
@click.option("--follow", "-f", is_flag=True, help="Go on when there is nothing.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many.")
@click.option("--wait", default="0s", type=duration, help="Wait so long for the next one.")
@click.option("--lease", default="1m", show_default=True, type=duration, help="Extended by --exec.")
@click.option("--timeout", type=duration, help="End a command that takes longer: it has failed.")
@source_options
@JSON
@click.pass_context
def consume(
    ctx: click.Context,
    source: Source,
    topic: str,
    subscriber: str,
    command: str | None,
    follow: bool,
    limit: int | None,
    wait: str,
    lease: str,
    timeout: str | None,
    as_json: bool,
) -> None:
    """Take messages of SUBSCRIBER and print them, until there is none.

    A message is acknowledged once it is printed; with --exec, when the command exits with 0.
    If it exits with anything else, the message is tried again by the subscriber's policy, and
    at the end `consume` exits with 1. Ending it ends all processes of its group: by SIGTERM, and
    by SIGKILL 5 s later. BLOCKQUEUE_MESSAGE_ID, BLOCKQUEUE_MESSAGE_HEADERS (JSON)
    and BLOCKQUEUE_HEADER_NAME are in the command's environment.
    """
    timeout_s = _timeout_s(timeout, command)
    wait_s = _FOLLOWED_S if follow else milliseconds("wait", wait) / 1000
    with source.opened() as queue, Interrupts() as interrupts:
        run = None
        if command is not None:
            run = partial(Run, command, interrupts=interrupts, timeout_s=timeout_s)
        consumer = _Consumer(queue, topic, subscriber, lease, run, as_json)
        left = limit
        while left is None or left > 0:
            most = 1 if command is not None else min(left or _PRINTED_AT_ONCE, _PRINTED_AT_ONCE)
            claimed = consumer.claim(most, wait_s, follow)
            if not claimed and not follow:
                break
            consumer.handle(claimed)
            left = None if left is None else left - len(claimed)
    if consumer.failed:
        ctx.exit(FAILED)


def _timeout_s(timeout: str | None, command: str | None) -> float | None:
    if timeout is None:
        return None
    if command is None:
        raise click.UsageError("--timeout is for --exec")
    timeout_ms = milliseconds("timeout", timeout)
    if timeout_ms <= 0:
        raise click.UsageError("--timeout must be more than zero")
    return timeout_ms / 1000


class _Consumer:
    """Takes messages, hands each on, and tells the queue what became of it."""

    def __init__(
        self,
        queue: BlockQueue | Client,
        topic: str,
        subscriber: str,
        lease: str,
        run: Callable[..., Run] | None,
        as_json: bool,
    ) -> None:
        self.failed = 0
        self._queue = queue
        self._place = (topic, subscriber)
        self._lease = lease
        self._run = run
        self._as_json = as_json

    def claim(self, limit: int, wait_s: float, follow: bool) -> Sequence[Delivery | Remote]:
        try:
            return self._queue.claim(*self._place, limit=limit, wait=wait_s, lease=self._lease)
        except _PASSES as error:
            if not follow:
                raise
            click.echo(f"{error}; waiting", err=True)
            threading.Event().wait(_PAUSE_S)
            return []

    def handle(self, claimed: Sequence[Delivery | Remote]) -> None:
        """Hand on what was claimed. What is not handed on is given back: that is no failure."""
        held: list[Any] = list(claimed)
        if not held:
            return
        try:
            if self._run is not None:
                self._exec(self._run, held[0])
            else:
                for delivery in held:
                    show_message(self._shown(delivery))
                sys.stdout.flush()
                self._queue.ack(*self._place, held)
        except BlockQueueError:
            raise
        except BaseException:
            with suppress(BlockQueueError):  # acknowledged just now; or the lease runs out
                self._queue.snooze(*self._place, held, delay=0)
            raise

    def _exec(self, run: Callable[..., Run], delivery: Delivery | Remote) -> None:
        lease_s = milliseconds("lease", self._lease) / 1000
        error = run(delivery=delivery, lease_s=lease_s).result(dict(os.environ))
        try:
            if error:
                self.failed += 1
                click.echo(f"{delivery.id}: {error}", err=True)
                delivery.nack(error=error)
            else:
                delivery.ack()
        except BlockQueueError as lost:  # it comes again; the others need not wait for that
            self.failed += 1
            click.echo(f"{delivery.id}: {lost}", err=True)

    def _shown(self, delivery: Delivery | Remote) -> str | bytes:
        if not self._as_json:
            return delivery.message
        message = delivery.message
        return json.dumps(
            {
                "id": delivery.id,
                "message": message.decode(errors="backslashreplace")
                if isinstance(message, bytes)
                else message,
                "headers": dict(delivery.headers),
                "correlation_id": delivery.correlation_id,
                "priority": delivery.priority,
                "delivery_count": delivery.delivery_count,
                "failure_count": delivery.failure_count,
            }
        )
