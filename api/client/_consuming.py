"""Claiming and settling, as steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blockqueue.api._durations import Duration, milliseconds
from blockqueue.storage import DeliveryNotFound, Finished, LeaseLost, ValidationError, limits

from ._errors import lease_lost
from ._held import Held, Leased
from ._requests import Steps, ask, segment, subscriber_path, tell
from ._values import Claimed, LeaseEnd, Result

# What a settlement raises if the lease is not the caller's any more.
_LOST = (LeaseLost, DeliveryNotFound, Finished)


def claim(
    topic: str, subscriber: str, limit: int | None, wait: Duration, lease: Duration | None
) -> Steps[list[Claimed]]:
    path = subscriber_path(topic, subscriber) + "/claim"
    query: dict[str, str] = {}
    if limit is not None:
        query["limit"] = str(limits.check_range("limit", limit, 1, limits.BATCH_MAX))
    if lease is not None:
        query["lease"] = f"{_lease_ms('lease', lease)}ms"
    left_ms = max(0, milliseconds("wait", wait))
    while True:
        held_ms = min(left_ms, limits.WAIT_MS_MAX)
        query["timeout"] = f"{held_ms or 1}ms"
        # Claiming again would lease more: what an answer that was lost had leased comes
        # again when its lease runs out.
        options = {"query": dict(query), "repeatable": False, "held_s": held_ms / 1000}
        claimed = yield from ask(list[Claimed], "POST", path, **options)
        left_ms -= held_ms
        if claimed or left_ms <= 0:
            return claimed


def ack(topic: str, subscriber: str, deliveries: Sequence[Held]) -> Steps[None]:
    yield from _settle_batch(topic, subscriber, "ack", deliveries, {})


def nack(
    topic: str, subscriber: str, deliveries: Sequence[Held], delay: Duration | None, error: str
) -> Steps[None]:
    more: dict[str, Any] = {"error": _reason("error", error)}
    if delay is not None:
        more["retry_delay"] = f"{milliseconds('delay', delay)}ms"
    yield from _settle_batch(topic, subscriber, "nack", deliveries, more)


def _settle_batch(
    topic: str, subscriber: str, verb: str, deliveries: Sequence[Held], more: dict[str, Any]
) -> Steps[None]:
    if not deliveries:
        return
    path = f"{subscriber_path(topic, subscriber)}/messages/batch/{verb}"
    held = [_named(each) for each in deliveries]
    items = [{"message_id": id, "receipt_token": receipt, **more} for id, receipt in held]
    results = yield from ask(list[Result], "POST", path, items)
    lost = [each.message_id for each in results if each.status == "failed"]
    if lost:
        raise lease_lost(lost, len(held))


def extend(topic: str, subscriber: str, deliveries: Sequence[Held], by: Duration) -> Steps[None]:
    more = {"extension": f"{_lease_ms('by', by)}ms"}
    lost: list[str] = []
    for each in deliveries:
        id, receipt = _named(each)
        body = {"receipt_token": receipt, **more}
        path = _delivery_path(topic, subscriber, id) + "/lease"
        try:
            end = yield from ask(LeaseEnd, "POST", path, body)
        except _LOST:
            lost.append(id)
        else:
            if isinstance(each, Leased):
                each.extended(end.lease_expires_at)
    if lost:
        raise lease_lost(lost, len(deliveries))


def snooze(topic: str, subscriber: str, deliveries: Sequence[Held], delay: Duration) -> Steps[None]:
    more = {"delay": f"{milliseconds('delay', delay)}ms"}
    yield from _settle_each(topic, subscriber, "snooze", deliveries, more)


def cancel(
    topic: str, subscriber: str, deliveries: Sequence[Held | str], reason: str
) -> Steps[None]:
    more = {"reason": _reason("reason", reason)}
    refused: DeliveryNotFound | Finished | None = None
    for message_id in (each for each in deliveries if isinstance(each, str)):
        path = _delivery_path(topic, subscriber, message_id) + "/cancel"
        try:
            yield from tell("POST", path, more)
        except (DeliveryNotFound, Finished) as error:
            refused = refused or error
    held = [each for each in deliveries if not isinstance(each, str)]
    if refused is None:
        yield from _settle_each(topic, subscriber, "cancel", held, more)
    else:
        raise refused


def _settle_each(
    topic: str, subscriber: str, verb: str, deliveries: Sequence[Held], more: dict[str, Any]
) -> Steps[None]:
    """Settle what no batch does. One that is lost does not keep the others from it."""
    lost: list[str] = []
    for id, receipt in map(_named, deliveries):
        path = f"{_delivery_path(topic, subscriber, id)}/{verb}"
        try:
            yield from tell("POST", path, {"receipt_token": receipt, **more})
        except _LOST:
            lost.append(id)
    if lost:
        raise lease_lost(lost, len(deliveries))


def _delivery_path(topic: str, subscriber: str, message_id: str) -> str:
    return f"{subscriber_path(topic, subscriber)}/messages/{segment('message id', message_id)}"


def _named(held: Held) -> tuple[str, str]:
    """Return a delivery's id and receipt. Raises ValidationError."""
    id, receipt = (held.id, held.receipt_token) if isinstance(held, Leased) else held
    if not isinstance(id, str) or not isinstance(receipt, str) or not receipt:
        raise ValidationError(f"a delivery is an id and a receipt token, not {held!r}")
    return id, receipt


def _reason(what: str, value: object) -> str:
    """Return a text as the queue would keep it: a long one would make a body of many too large."""
    if not isinstance(value, str):
        raise ValidationError(f"{what} must be text, not {type(value).__name__}")
    return limits.cut_reason(value)


def _lease_ms(what: str, value: Duration) -> int:
    return limits.check_range(what, milliseconds(what, value), 1, limits.LEASE_MS_MAX, " ms (12h)")
