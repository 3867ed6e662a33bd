"""Clients of the second contract: keys make publishing repeatable, receipts acknowledging."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

import msgspec

from ..crash_checker import OK, UNKNOWN, Acked, Published, Received, Unanswered
from ..crash_clients import FORGET, TOPIC, Answer, Client, Publisher, Unsent, Wrong

LEASE_S = 2.0

# A client's clock and the server's agree to that.
_SLACK_S = 0.2
# What may be answered instead, without anything having happened.
_BUSY = (429, 507)
_REPEAT = 0.1


class _Receipt(msgspec.Struct):
    message_id: str


class _Published(msgspec.Struct):
    data: _Receipt


class _Delivery(msgspec.Struct):
    id: str
    message: str
    receipt_token: str


class _Claimed(msgspec.Struct):
    data: list[_Delivery]


class KeyedPublisher(Publisher):
    """Publishes with a key, again and again until it knows that it is stored, then once more."""

    def publish(self, body: str) -> None:
        key = body.rstrip("x")
        request = {"message": body, "idempotency_key": key}
        ids = set[str]()
        first: float | None = None
        status: int | None = None
        answered = 0.0
        repeats = self._random.random() < _REPEAT
        while self._may_go_on():
            try:
                answer = self._http.ask(
                    "POST", f"/v1/topics/{TOPIC}/messages?wait_for=commit", request
                )
            except Unsent:
                continue
            first = answer.sent if first is None else first
            if answer.status == OK:
                ids.add(msgspec.json.decode(answer.body, type=_Published).data.message_id)
                status, answered = OK, answered or answer.answered
                if not repeats:
                    break
                repeats = False
            elif answer.status not in (*UNKNOWN, *_BUSY):
                raise Wrong(f"a publish was answered with {answer}")
        if len(ids) > 1:
            raise Wrong(f"the key {key!r} led to several messages: {sorted(ids)}")
        if first is not None:
            self._journal.note(Published(body, first, answered or time.monotonic(), status))


class _Lease(NamedTuple):
    delivery: _Delivery
    #: It ends not before the first and not after the second of these times.
    ends_earliest: float
    ends_latest: float


class ReceiptConsumer(Client):
    """Claims and acknowledges with receipts, until it knows that it is done.

    Now and then it wakes up late, and shows a receipt whose lease has ended: that must be
    refused, whoever holds the message now.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._late: deque[_Lease] = deque()
        self.refused = 0

    def step(self) -> None:
        path = f"/v1/topics/{TOPIC}/subscribers/{self.subscriber}"
        try:
            answer = self._http.ask("POST", f"{path}/claim?timeout=1s&limit=3&lease={LEASE_S}s")
        except Unsent:
            return
        sent, answered = answer.sent, answer.answered
        if answer.status == OK:
            found = msgspec.json.decode(answer.body, type=_Claimed).data
            self._journal.note(
                *(
                    Received(self.subscriber, each.id, each.message, sent, answered)
                    for each in found
                )
            )
        elif answer.status in (*UNKNOWN, *_BUSY):
            found = []
            self._journal.note(Unanswered(self.subscriber, sent, answered, answer.status))
        else:
            raise Wrong(f"a claim was answered with {answer}")
        for each in found:
            lease = _Lease(each, sent + LEASE_S - _SLACK_S, answered + LEASE_S + _SLACK_S)
            if self._gate.draining.is_set() or self._random.random() >= FORGET:
                self._ack(path, lease)
            else:
                self._late.append(lease)
        while self._late and self._late[0].ends_latest < time.monotonic():
            self._ack_late(path, self._late.popleft())

    def _ack(self, path: str, lease: _Lease) -> None:
        """Acknowledge until it is known what came of it."""
        while self._may_go_on():
            answer = self._show(path, lease)
            if answer is None:
                continue
            acked = Acked(
                *(self.subscriber, lease.delivery.id, answer.sent, answer.answered, answer.status)
            )
            self._journal.note(acked)
            if answer.status in (*UNKNOWN, *_BUSY):
                continue
            if answer.status != OK and answer.answered < lease.ends_earliest:
                raise Wrong(f"a live receipt was answered with {answer}")
            return

    def _ack_late(self, path: str, lease: _Lease) -> None:
        """Show a receipt whose lease has ended."""
        answer = self._show(path, lease)
        if answer is not None and answer.status == OK:
            raise Wrong(f"{lease.delivery.id}: a receipt was good after its lease")
        self.refused += answer is not None and answer.status == 409

    def _show(self, path: str, lease: _Lease) -> Answer | None:
        receipt = {"receipt_token": lease.delivery.receipt_token}
        try:
            return self._http.ask("POST", f"{path}/messages/{lease.delivery.id}/ack", receipt)
        except Unsent:
            return None
