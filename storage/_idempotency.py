"""Idempotency keys: a publish that is repeated finds what it published before.

A key belongs to a topic and is kept as long as its message, and for a day at least. It
stands for the whole request: ``fingerprint`` tells whether the message, its headers, its
priority and the way it was delayed are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from ._errors import IdempotencyConflict, ValidationError
from ._frames import Body
from ._snapshot import Tx

_KEPT_MS = 24 * 3600 * 1000


class Keyed(msgspec.Struct, frozen=True):
    """The messages of a batch of which some have keys, one entry a message.

    ``bodies`` are there a second time because those that were published before are left out.
    """

    bodies: Sequence[Body]
    keys: Sequence[str | None]
    fingerprints: Sequence[bytes]


class Known(NamedTuple):
    """What was published with a key before."""

    fingerprint: bytes
    priority: int
    seq: int
    tag: int
    created_ms: int
    visible_ms: int


class Fresh(NamedTuple):
    """What is being published with a key now: a new message, and its place in its batch."""

    fingerprint: bytes
    batch: int
    offset: int


class Keys:
    """The keys in use while a group of calls is published."""

    def __init__(self, tx: Tx, topic_id: int) -> None:
        self._tx = tx
        self._topic_id = topic_id
        #: Keys that are new in this group.
        self.fresh: dict[str, Fresh] = {}

    def admit(self, keyed: Keyed, batch: int, mine: dict[str, Fresh]) -> list[Known | Fresh | None]:
        """Say of each message whether it is new (None), or which one it repeats.

        ``mine`` are the keys of the same call that came before, to which new ones are added.

        Raises IdempotencyConflict: a key was used before for a different message.
        """
        repeats: list[Known | Fresh | None] = []
        fresh = 0
        for key, fingerprint in zip(keyed.keys, keyed.fingerprints, strict=True):
            earlier = None if key is None else self._find(key, mine)
            if earlier is not None and earlier.fingerprint != fingerprint:
                raise IdempotencyConflict(
                    f"idempotency key {key!r} was used before for a different message; "
                    "nothing was written"
                )
            if earlier is None:
                if key is not None:
                    mine[key] = Fresh(fingerprint, batch, fresh)
                fresh += 1
            repeats.append(earlier)
        return repeats

    def _find(self, key: str, mine: dict[str, Fresh]) -> Known | Fresh | None:
        found = mine.get(key) or self.fresh.get(key)
        if found is not None:
            return found
        row = self._tx.row(
            "SELECT fingerprint, priority, seq, tag, created_ms, visible_ms FROM idempotency"
            " WHERE topic_id = ? AND key = ?",
            (self._topic_id, key),
        )
        return None if row is None else Known(*row)

    def store(self, places: Sequence[tuple[str, Known]]) -> None:
        """Note where the messages of new keys are."""
        self._tx.change_each(
            "INSERT INTO idempotency (topic_id, key, fingerprint, priority, seq, tag,"
            " created_ms, visible_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(self._topic_id, key, *known) for key, known in places],
        )


def check_call(call: Iterable[Keyed]) -> None:
    """Raise ValidationError if a call gives a key twice, for different messages."""
    told: dict[str, bytes] = {}
    for keyed in call:
        for key, fingerprint in zip(keyed.keys, keyed.fingerprints, strict=True):
            if key is not None and told.setdefault(key, fingerprint) != fingerprint:
                raise ValidationError(
                    f"idempotency key {key!r} is given twice, for different messages"
                )


def release_keys(tx: Tx, topic_id: int, priority: int, first_seq: int, end_seq: int) -> None:
    """Let go of the keys of messages that are being removed: those not a day old stay for it."""
    tx.execute(
        "UPDATE idempotency SET delete_ms = created_ms + ?5"
        " WHERE topic_id = ?1 AND priority = ?2 AND seq >= ?3 AND seq < ?4",
        (topic_id, priority, first_seq, end_seq, _KEPT_MS),
    )


def delete_keys(tx: Tx, limit: int) -> bool:
    """Delete up to ``limit`` keys whose time has come. False: there were none."""
    tx.execute(
        "DELETE FROM idempotency WHERE (topic_id, key) IN"
        " (SELECT topic_id, key FROM idempotency WHERE delete_ms <= ? LIMIT ?)",
        (tx.now_ms, limit),
    )
    return tx.changes() > 0
