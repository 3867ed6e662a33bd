"""Leases that ran out: each is a failure, whether anybody claims or not."""

from __future__ import annotations

from ._cursors import Cursor
from ._failures import fail_in
from ._snapshot import Tx
from ._states import Event, State
from ._subscriber import Subscriber
from ._topology import subscriber
from ._verb import verb
from .meters import DELIVERY_OPERATIONS, MAINTENANCE_ROWS, result_of

REASON = "lease expired"
_RUNS_MAX = 1_000


def expire_lane(tx: Tx, cursor: Cursor, subscriber: Subscriber, limit: int = _RUNS_MAX) -> int:
    """End up to ``limit`` leases that ran out; return how many runs that were."""
    count = 0
    while count < limit:
        run = cursor.first_due(State.LEASED, tx.now_ms)
        if run is None:
            break
        part = cursor.carve(run, run.first_seq, run.count)
        moved = fail_in(tx, part, Event.EXPIRE, subscriber, cursor.priority, REASON)
        cursor.place(moved)
        tx.count(DELIVERY_OPERATIONS["expire", result_of(moved)], moved.count)
        count += 1
    return count


def expire_in(tx: Tx, limit: int = _RUNS_MAX) -> list[int]:
    """End leases that ran out, of all subscribers; return whose they were.

    Fewer than ``limit`` runs: there are no more. Corrects the hint of the next one.
    """
    swept: list[int] = []
    count = 0
    for subscriber_id, priority in tx.rows(
        "SELECT subscriber_id, priority FROM cursor WHERE lease_due_ms <= ?"
        " ORDER BY lease_due_ms LIMIT ?",
        (tx.now_ms, limit),
    ):
        if count >= limit:
            break
        cursor = Cursor.open(tx, subscriber_id, priority)
        count += expire_lane(tx, cursor, subscriber(tx, subscriber_id), limit - count)
        cursor.save()
        swept.append(subscriber_id)
    tx.swept = True
    if count:
        tx.count(MAINTENANCE_ROWS["delivery_reaper"], count)
    return swept


expire = verb(expire_in)
