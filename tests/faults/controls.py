"""``blockqueue`` with a safeguard taken out: what the faults must notice.

Run as ``python controls.py NAME serve …``, with the options of ``blockqueue serve``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from blockqueue.actors import _signals, _subscriber
from blockqueue.api import _channel, _parking, _worker_link
from blockqueue.api import server as api_server
from blockqueue.api._message import Message
from blockqueue.api.cli import main
from blockqueue.api.v1 import deliveries, messages
from blockqueue.storage import _clock


def wall_clock() -> None:
    """Leases follow a clock that can be set."""

    def now_ms(self: _clock.BootClock) -> int:
        return time.time_ns() // 1_000_000

    _clock.BootClock.now_ms = now_ms  # type: ignore[method-assign]


def no_drain() -> None:
    """A signal ends the server where it stands."""

    def leave(self: api_server.Server) -> bool:
        os._exit(0)

    api_server.Server._drain = leave  # type: ignore[method-assign]


def no_keys() -> None:
    """Idempotency keys are thrown away."""
    checked = messages.NewMessage.checked

    def without_key(self: messages.NewMessage) -> Message:
        return checked(msgspec.structs.replace(self, idempotency_key=None))

    messages.NewMessage.checked = without_key  # type: ignore[method-assign]


def no_receipts() -> None:
    """Whoever knows a delivery's id may settle it."""
    handle_of = deliveries.handle_of  # type: ignore[attr-defined]

    def without_receipt(message_id: str, receipt: str | None) -> Any:
        return handle_of(message_id, None)

    deliveries.handle_of = without_receipt  # type: ignore[attr-defined]


def long_leases() -> None:
    """A lease lasts for an hour, whatever was asked for."""
    claim: Any = deliveries.Claim  # type: ignore[attr-defined]

    def claim_for_long(subscriber: str, limit: int, lease_ms: int, timeout: float) -> Any:
        return claim(subscriber, limit, 3_600_000, timeout)

    deliveries.Claim = claim_for_long  # type: ignore[attr-defined, assignment]


def trusts_clients() -> None:
    """Every client is taken for a living one, and nothing is given back."""

    def nothing(self: Any) -> None:
        return None

    def is_there(self: _channel.Channel) -> bool:
        return False

    _channel.Channel._client_has_gone = is_there  # type: ignore[method-assign]
    _channel.Channel._cancel = nothing  # type: ignore[method-assign]
    _parking.Parked.undo = nothing  # type: ignore[method-assign]


def no_wake() -> None:
    """Nobody who waits is told of a commit."""
    on_receive = _subscriber.SubscriberActor.on_receive

    def sleep_on(self: _subscriber.SubscriberActor, message: Any) -> Any:
        if isinstance(message, _signals.Wake):
            return None
        return on_receive(self, message)

    _subscriber.SubscriberActor.on_receive = sleep_on  # type: ignore[method-assign]


def orphans() -> None:
    """Workers do not notice that their parent has died."""

    def look_away(self: _worker_link.Link) -> None:
        return None

    _worker_link._PR_SET_PDEATHSIG = 30  # another question, which changes nothing
    _worker_link.Link._watch = look_away  # type: ignore[method-assign]


def leak() -> None:
    """A little of every request is kept for ever."""
    kept: list[bytes] = []
    service = _channel.Channel.service

    def keep(self: _channel.Channel) -> None:
        kept.append(os.urandom(16_384))
        service(self)

    _channel.Channel.service = keep  # type: ignore[method-assign]


BREAKS: dict[str, Callable[[], None]] = {
    "wall-clock": wall_clock,
    "no-drain": no_drain,
    "no-keys": no_keys,
    "no-receipts": no_receipts,
    "long-leases": long_leases,
    "trusts-clients": trusts_clients,
    "no-wake": no_wake,
    "orphans": orphans,
    "leak": leak,
}


def program(name: str) -> tuple[str, ...]:
    """Return what Python has to run for the build that is broken in this way."""
    assert name in BREAKS, name
    return (str(Path(__file__).resolve()), name)


if __name__ == "__main__":
    BREAKS[sys.argv.pop(1)]()
    main(prog_name="blockqueue")
