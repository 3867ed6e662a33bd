"""One message, seen whole: what it is, and what has become of it for each subscriber."""

from __future__ import annotations

import msgspec

from ._cursors import run_at
from ._errors import DeliveryNotFound, MessageNotFound
from ._failures import Failure, failures
from ._frames import Body
from ._ids import MessageRef, parse_id
from ._pages import After, Page, page_of
from ._settle import settle_in
from ._settlements import Cancel, Handle
from ._snapshot import Snapshot, Tx
from ._states import ACTIVE, State
from ._subscriber import Subscriber
from ._topology import subscribers
from ._verb import verb


class DeliveryStatus(msgspec.Struct, frozen=True):
    """What a message is to one subscriber.

    ``ended_ms``: when it was acknowledged, cancelled or dead, right to the minute.
    ``reason``: of the last failure, or why it was cancelled.
    """

    subscriber_id: int
    subscriber: str
    state: State
    delivery_count: int
    failure_count: int
    visible_ms: int
    ended_ms: int | None
    reason: str | None


class MessageStatus(msgspec.Struct, frozen=True):
    """A message with a delivery for each subscriber that it was published to, by name."""

    id: str
    topic_id: int
    body: Body
    priority: int
    scheduled_ms: int
    created_ms: int
    deliveries: list[DeliveryStatus]


def message_status(snapshot: Snapshot, topic_id: int, message_id: str) -> MessageStatus:
    """Return a message of the topic. Raises MessageNotFound, CorruptBlock."""
    ref = _find(snapshot, topic_id, message_id)
    block = snapshot.block(topic_id, ref.priority, ref.seq)
    segment = block.segment(ref.seq)
    visible_ms = segment.created_ms if segment.visible_ms is None else segment.visible_ms
    statuses = [
        _delivery_status(snapshot, subscriber, ref, visible_ms)
        for subscriber in subscribers(snapshot, topic_id)
    ]
    return MessageStatus(
        message_id.lower(),
        topic_id,
        block.body(ref.seq),
        ref.priority,
        visible_ms,
        segment.created_ms,
        [status for status in statuses if status is not None],
    )


def _find(snapshot: Snapshot, topic_id: int, message_id: str) -> MessageRef:
    """Return what the id of a message that is kept says. Raises MessageNotFound."""
    ref = parse_id(message_id)
    unknown = MessageNotFound(f"the topic has no message {message_id!r}")
    if ref is None or ref.is_delivery or ref.owner != topic_id:
        raise unknown
    row = snapshot.row(
        "SELECT 1 FROM block WHERE topic_id = ? AND priority = ? AND first_seq <= ?"
        " AND first_seq + count > ? ORDER BY first_seq DESC LIMIT 1",
        (topic_id, ref.priority, ref.seq, ref.seq),
    )
    if row is None:
        raise unknown
    if snapshot.block(topic_id, ref.priority, ref.seq).segment(ref.seq).tag != ref.tag:
        raise unknown
    return ref


def _delivery_status(
    snapshot: Snapshot, subscriber: Subscriber, ref: MessageRef, visible_ms: int
) -> DeliveryStatus | None:
    """Return what a message is to ``subscriber``; None if it was not published to it."""
    row = snapshot.row(
        "SELECT start_seq, next_seq FROM cursor WHERE subscriber_id = ? AND priority = ?",
        (subscriber.id, ref.priority),
    )
    start_seq, next_seq = row if row is not None else (0, 0)
    if ref.seq < start_seq:
        return None
    run = run_at(snapshot, subscriber.id, ref.priority, ref.seq)
    if run is None:
        # Below the cursor its history is gone, and the message is about to go.
        state = State.PENDING if ref.seq >= next_seq else State.PROCESSED
        return DeliveryStatus(subscriber.id, subscriber.name, state, 0, 0, visible_ms, None, None)
    since_ms = run.due_ms if run.state == State.WAITING else run.since_ms
    active = run.state in ACTIVE
    return DeliveryStatus(
        subscriber.id,
        subscriber.name,
        State(run.state),
        run.delivery_count,
        run.failure_count,
        since_ms if active and since_ms is not None else visible_ms,
        None if active else run.since_ms,
        run.reason,
    )


def cancel_message_in(
    tx: Tx, topic_id: int, message_id: str, reason: str = ""
) -> list[DeliveryStatus]:
    """Give a message up for all subscribers that have not finished it; receipts die.

    Returns what it is to each of them now. Raises MessageNotFound.
    """
    ref = _find(tx, topic_id, message_id)
    handle = Handle(ref.priority, ref.seq, ref.tag, topic_id=topic_id)
    for found in message_status(tx, topic_id, message_id).deliveries:
        settle_in(tx, found.subscriber_id, Cancel(reason), [handle])
    return message_status(tx, topic_id, message_id).deliveries


def failure_page(
    snapshot: Snapshot,
    subscriber: Subscriber,
    message_id: str,
    limit: int,
    after: After | None = None,
) -> Page[Failure]:
    """Return the failures of a delivery that are kept, the latest first.

    Raises DeliveryNotFound.
    """
    unknown = DeliveryNotFound(f"the subscriber has no delivery of message {message_id!r}")
    try:
        ref = _find(snapshot, subscriber.topic_id, message_id)
    except MessageNotFound:
        raise unknown from None
    if _delivery_status(snapshot, subscriber, ref, 0) is None:
        raise unknown
    found = failures(snapshot, subscriber.id, ref.priority, ref.seq, message_id.lower())
    if after is not None:
        found = [failure for failure in found if failure.generation < after[1]]
    return page_of(found, limit, lambda failure: (failure.failed_ms, failure.generation))


cancel_message = verb(cancel_message_in)
