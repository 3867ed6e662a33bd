"""A subscriber's deliveries as lists: what is active, and what is dead, the newest first.

The order is that of (published, message id), downwards. Within a lane both rise with the
sequence number, so the lanes are walked downwards one by one and merged.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ._errors import CorruptBlock
from ._frames import Body
from ._ids import message_id, receipt_token
from ._pages import After, Page, page_of
from ._runs import COLUMNS, Run
from ._snapshot import Snapshot
from ._states import ACTIVE, State
from ._subscriber import Subscriber

_ROWS = 500
_BLOCKS_BELOW = """SELECT first_seq, count FROM block WHERE topic_id = ? AND priority = ?
                   AND first_seq < ? ORDER BY first_seq DESC LIMIT 1"""
_NO_SEQ = 2**63 - 1


class DeliveryView(msgspec.Struct, frozen=True):
    """A delivery as lists show it. Leased ones have a receipt and a lease's end.

    ``visible_ms``: when it can be claimed, or since when it could have been. ``body`` is
    None if its block is damaged. ``reason``: of its last failure.
    """

    message_id: str
    body: Body | None
    created_ms: int
    state: State
    delivery_count: int
    failure_count: int
    priority: int
    receipt_token: str | None
    lease_expires_ms: int | None
    visible_ms: int
    reason: str | None


class _Lane(NamedTuple):
    """A lane as the subscriber stands in it."""

    priority: int
    end_seq: int
    next_seq: int


class _Place(NamedTuple):
    """A message of the list, and the run that it belongs to."""

    created_ms: int
    priority: int
    seq: int
    run: Run


def active_page(
    snapshot: Snapshot, subscriber: Subscriber, limit: int, after: After | None = None
) -> Page[DeliveryView]:
    """Return deliveries that are pending or leased."""
    return _page(snapshot, subscriber, limit, after, dead=False)


def dead_page(
    snapshot: Snapshot, subscriber: Subscriber, limit: int, after: After | None = None
) -> Page[DeliveryView]:
    """Return dead letters."""
    return _page(snapshot, subscriber, limit, after, dead=True)


def _page(
    snapshot: Snapshot, subscriber: Subscriber, limit: int, after: After | None, *, dead: bool
) -> Page[DeliveryView]:
    rows = snapshot.rows(
        "SELECT lane.priority, end_seq, coalesce(next_seq, 0) FROM lane"
        " LEFT JOIN cursor ON subscriber_id = ? AND cursor.priority = lane.priority"
        " WHERE topic_id = ? AND "
        + ("dead > 0" if dead else "(end_seq > coalesce(next_seq, 0) OR waiting + leased > 0)"),
        (subscriber.id, subscriber.topic_id),
    )
    lanes = []
    for lane in map(_Lane._make, rows):
        below_seq = _below(snapshot, subscriber.topic_id, lane, after)
        walk = _dead if dead else _active
        runs = walk(snapshot, subscriber.id, lane, below_seq)
        lanes.append(_places(snapshot, subscriber.topic_id, lane.priority, runs))
    found = page_of(heapq.merge(*lanes, reverse=True), limit, lambda place: place[:3])
    views = [_view(snapshot, subscriber, place) for place in found.items]
    return Page(views, found.after)


def _places(
    snapshot: Snapshot, topic_id: int, priority: int, runs: Iterator[Run]
) -> Iterator[_Place]:
    """Yield the messages of runs, downwards."""
    for run in runs:
        for seq in range(run.end_seq - 1, run.first_seq - 1, -1):
            yield _Place(published_ms(snapshot, topic_id, priority, seq), priority, seq, run)


def _active(snapshot: Snapshot, subscriber_id: int, lane: _Lane, below_seq: int) -> Iterator[Run]:
    """Yield what is pending or leased below ``below_seq``, rows and what has none."""
    stop = min(lane.end_seq, below_seq)
    where = f"(first_seq >= {lane.next_seq} OR due_ms IS NOT NULL)"
    for run in _rows(snapshot, subscriber_id, lane.priority, stop, where):
        gap = max(run.end_seq, lane.next_seq)
        if gap < stop:
            yield Run(gap, stop - gap, State.PENDING)
        if run.state in ACTIVE:
            yield run.part(run.first_seq, min(run.end_seq, stop) - run.first_seq)
        stop = run.first_seq
    if lane.next_seq < stop:
        yield Run(lane.next_seq, stop - lane.next_seq, State.PENDING)


def _dead(snapshot: Snapshot, subscriber_id: int, lane: _Lane, below_seq: int) -> Iterator[Run]:
    for run in _rows(snapshot, subscriber_id, lane.priority, below_seq, "state = 2"):
        yield run.part(run.first_seq, min(run.end_seq, below_seq) - run.first_seq)


def _rows(
    snapshot: Snapshot, subscriber_id: int, priority: int, below_seq: int, where: str
) -> Iterator[Run]:
    """Yield rows that begin below ``below_seq``, downwards."""
    while True:
        rows = snapshot.rows(
            f"SELECT {COLUMNS} FROM delivery WHERE subscriber_id = ? AND priority = ?"
            f" AND first_seq < ? AND {where} ORDER BY first_seq DESC LIMIT {_ROWS}",
            (subscriber_id, priority, below_seq),
        )
        for row in rows:
            yield Run(*row)
        if len(rows) < _ROWS:
            return
        below_seq = rows[-1][0]


def _below(snapshot: Snapshot, topic_id: int, lane: _Lane, after: After | None) -> int:
    """Return the sequence number below which a lane's part of the next page begins."""
    if after is None:
        return _NO_SEQ
    created_ms, priority, seq = after
    if lane.priority == priority:
        return int(seq)
    later_ms = created_ms if lane.priority > priority else created_ms + 1
    return _first_since(snapshot, topic_id, lane, later_ms)


def _first_since(snapshot: Snapshot, topic_id: int, lane: _Lane, since_ms: int) -> int:
    """Return the lane's first message that was published at ``since_ms`` or later."""
    seqs = range(lane.end_seq)
    return bisect_left(
        seqs, since_ms, key=lambda seq: published_ms(snapshot, topic_id, lane.priority, seq)
    )


def published_ms(snapshot: Snapshot, topic_id: int, priority: int, seq: int) -> int:
    """Return when a message was published; it never falls from one to the next.

    One that cannot be read stands where the last readable one below it does.
    """
    try:
        return snapshot.block(topic_id, priority, seq).segment(seq).created_ms
    except CorruptBlock:
        pass
    while row := snapshot.row(_BLOCKS_BELOW, (topic_id, priority, seq)):
        seq, count = row
        try:
            return snapshot.block(topic_id, priority, seq).segment(seq + count - 1).created_ms
        except CorruptBlock:
            pass
    return 0


def _view(snapshot: Snapshot, subscriber: Subscriber, place: _Place) -> DeliveryView:
    created_ms, priority, seq, run = place
    visible_ms: int | None = run.due_ms
    receipt: str | None = None
    try:
        block = snapshot.block(subscriber.topic_id, priority, seq)
        tag, body, visible = block.segment(seq).tag, block.body(seq), block.segment(seq).visible_ms
    except CorruptBlock:
        tag, body, visible = 0, None, None
    if run.state == State.LEASED:
        secret = snapshot.store.receipt_secret
        receipt = receipt_token(secret, subscriber.id, priority, seq, tag, run.generation)
        visible_ms = run.since_ms
    if visible_ms is None:
        visible_ms = created_ms if visible is None else visible
    return DeliveryView(
        message_id(subscriber.topic_id, priority, seq, tag),
        body,
        created_ms,
        State(run.state),
        run.delivery_count,
        run.failure_count,
        priority,
        receipt,
        run.due_ms if run.state == State.LEASED else None,
        visible_ms,
        run.reason,
    )
