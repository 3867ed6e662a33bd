"""The life of a delivery: the only place that says which state follows which.

                      claim                     ack
    (publish)──▶ PENDING ────▶ LEASED ───────────────▶ PROCESSED
        │           │          │  ▲ │ nack, expire,
        │ delay     │ cancel   │  │ │ snooze, release
        │           │    claim │  │ ▼
        └───────────┼──────────┼─ WAITING ◀──┐
                    │   cancel │    │        │ replay
                    ▼          ▼    │ drop   │
                 CANCELLED ◀────────┴────── DEAD ◀── (LEASED: the last failure allowed)
                                      drop

PENDING has no row: it is everything at or above the cursor without one. PROCESSED and
CANCELLED are history: a run of them may go once it lies below its subscriber's cursor.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from ._errors import BlockQueueError


class State(IntEnum):
    """What a run of messages is to one subscriber. The numbers are stored."""

    #: Handed out; the receipt works until ``due_ms``.
    LEASED = 0
    #: Visible at ``due_ms``: a retry, a snooze, a delay, a replay. The retry bucket.
    WAITING = 1
    #: Failed as often as allowed. Only an operator moves it on.
    DEAD = 2
    #: Acknowledged.
    PROCESSED = 3
    #: Given up on purpose.
    CANCELLED = 4
    #: Never handed out. Not stored.
    PENDING = 5

    @property
    def status(self) -> str:
        """What the HTTP contract calls it."""
        return _STATUSES[self]


_STATUSES = {
    State.LEASED: "delivered",
    State.WAITING: "pending",
    State.DEAD: "dead_letter",
    State.PROCESSED: "processed",
    State.CANCELLED: "cancelled",
    State.PENDING: "pending",
}


class Event(Enum):
    """What can happen to a delivery."""

    DELAY = "delay"
    CLAIM = "claim"
    ACK = "ack"
    NACK = "nack"
    EXPIRE = "expire"
    BURY = "bury"
    EXTEND = "extend"
    SNOOZE = "snooze"
    RELEASE = "release"
    CANCEL = "cancel"
    REPLAY = "replay"
    DROP = "drop"


_S, _E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.PENDING, _E.DELAY): _S.WAITING,
    (_S.PENDING, _E.CLAIM): _S.LEASED,
    (_S.PENDING, _E.BURY): _S.DEAD,
    (_S.PENDING, _E.CANCEL): _S.CANCELLED,
    (_S.WAITING, _E.CLAIM): _S.LEASED,
    (_S.WAITING, _E.BURY): _S.DEAD,
    (_S.WAITING, _E.CANCEL): _S.CANCELLED,
    (_S.WAITING, _E.REPLAY): _S.WAITING,
    (_S.WAITING, _E.DROP): _S.CANCELLED,
    (_S.LEASED, _E.ACK): _S.PROCESSED,
    (_S.LEASED, _E.NACK): _S.WAITING,
    (_S.LEASED, _E.EXPIRE): _S.WAITING,
    (_S.LEASED, _E.BURY): _S.DEAD,
    (_S.LEASED, _E.EXTEND): _S.LEASED,
    (_S.LEASED, _E.SNOOZE): _S.WAITING,
    (_S.LEASED, _E.RELEASE): _S.WAITING,
    (_S.LEASED, _E.CANCEL): _S.CANCELLED,
    (_S.DEAD, _E.REPLAY): _S.WAITING,
    (_S.DEAD, _E.DROP): _S.CANCELLED,
}

HISTORY = frozenset({State.PROCESSED, State.CANCELLED})
ACTIVE = frozenset({State.LEASED, State.WAITING})


class IllegalTransition(BlockQueueError):
    """The state does not allow the event."""

    code = "conflict"
    status = 409


def next_state(state: State, event: Event) -> State:
    """Return the state after ``event``. Raises IllegalTransition and changes nothing."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a {state.name.lower()} delivery cannot {event.value}") from None
