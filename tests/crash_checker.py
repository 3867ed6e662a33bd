"""What clients saw while a server was killed again and again, and what that proves.

A client notes each request when it ends: when it was sent, when its answer was there, and
the answer (None: it never came, so nobody knows what the server did). The server acted at
some moment between the two. ``check`` reports only what no such moment can excuse.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

# The server reads its clock when a transaction begins, a client when it sends.
CLOCK_SLACK_S = 0.1
OK = 200
#: These statuses leave open whether it was done.
UNKNOWN = (None, 503)


class Published(msgspec.Struct, frozen=True, gc=False, tag="publish"):
    """One POST of a body that no other POST has."""

    body: str
    sent: float
    answered: float
    status: int | None


class Received(msgspec.Struct, frozen=True, gc=False, tag="receive"):
    """One message in the answer to a GET."""

    subscriber: str
    id: str
    body: str
    sent: float
    answered: float


class Acked(msgspec.Struct, frozen=True, gc=False, tag="ack"):
    """One DELETE of a message."""

    subscriber: str
    id: str
    sent: float
    answered: float
    status: int | None


class Unanswered(msgspec.Struct, frozen=True, gc=False, tag="unanswered"):
    """One GET whose answer never came, or was not a list of messages.

    It proves nothing: what was handed out to it comes back when its lease has run out.
    """

    subscriber: str
    sent: float
    answered: float
    status: int | None


Record = Published | Received | Acked | Unanswered


class Kind(StrEnum):
    """What can be wrong, the worst first."""

    #: Its publish was answered with 200, and a subscriber never got it; or only one did. Or it
    #: was handed out, nobody has acknowledged it, and it never came again.
    LOST = "lost"
    #: Nobody published that, or its publish was refused.
    UNEXPECTED = "unexpected"
    #: One publish came under two ids.
    COPIED = "copied"
    #: Handed out twice, and the first lease can neither have run out nor been given back.
    UNEXPLAINED = "unexplained duplicate"
    #: As above, while the first consumer had not yet acknowledged: both held it at once.
    TWO_LEASES = "two leases"
    #: Handed out after the answer that it is acknowledged.
    RETURNED = "returned after ack"
    #: An acknowledgement was refused while its lease was live.
    REFUSED_ACK = "refused ack"


class Violation(msgspec.Struct, frozen=True):
    """One thing that must never happen, with what is needed to look into it."""

    kind: Kind
    text: str


class Verdict(msgspec.Struct, frozen=True):
    """What the journal says."""

    published: int
    unknown: int
    #: Of the unknown ones: how many came out. Each may, or may not.
    recovered: int
    received: int
    acked: int
    #: Deliveries of a message that its subscriber had received before, all explained.
    redelivered: int
    violations: list[Violation]

    def count(self, *kinds: Kind) -> int:
        """Return how many violations are of one of the kinds."""
        return sum(each.kind in kinds for each in self.violations)


def check(
    journal: Iterable[Record],
    subscribers: Sequence[str],
    visibility_s: float,
    *,
    drained: bool = True,
) -> Verdict:
    """Return what is proven by a journal that holds all that clients did since the start.

    ``drained``: all queues were emptied at the end, and all clients have ended. So what has not
    come is lost, and so is what has come and was neither acknowledged nor handed out again.
    """
    return _Check(journal, subscribers, visibility_s - CLOCK_SLACK_S).verdict(drained)


class _Check:
    def __init__(
        self, journal: Iterable[Record], subscribers: Sequence[str], lease_s: float
    ) -> None:
        self.subscribers = subscribers
        self.lease_s = lease_s
        self.publishes: dict[str, Published] = {}
        # By subscriber and body, and by subscriber and id.
        self.received: defaultdict[tuple[str, str], list[Received]] = defaultdict(list)
        self.acks: defaultdict[tuple[str, str], list[Acked]] = defaultdict(list)
        self.violations: list[Violation] = []
        for record in journal:
            match record:
                case Published():
                    self.publishes[record.body] = record
                case Received():
                    self.received[record.subscriber, record.body].append(record)
                case Acked():
                    self.acks[record.subscriber, record.id].append(record)
                case Unanswered():
                    pass

    def verdict(self, drained: bool) -> Verdict:
        for (subscriber, body), deliveries in self.received.items():
            deliveries.sort(key=lambda each: each.answered)
            self._check_body(subscriber, body, deliveries)
            self._check_redeliveries(deliveries)
            self._check_acks(deliveries)
        statuses = Counter(each.status for each in self.publishes.values())
        if drained:
            self._check_lost()
        total = sum(map(len, self.received.values()))
        return Verdict(
            published=statuses[OK],
            unknown=sum(statuses[status] for status in UNKNOWN),
            recovered=sum(
                each.status in UNKNOWN and self._reached(body) > 0
                for body, each in self.publishes.items()
            ),
            received=total,
            acked=sum(any(ack.status == OK for ack in acks) for acks in self.acks.values()),
            redelivered=total - len(self.received) - self._unexcused(),
            violations=self.violations,
        )

    def _unexcused(self) -> int:
        kinds = (Kind.UNEXPLAINED, Kind.TWO_LEASES, Kind.RETURNED)
        return sum(each.kind in kinds for each in self.violations)

    def _report(self, kind: Kind, text: str) -> None:
        self.violations.append(Violation(kind, text))

    def _reached(self, body: str) -> int:
        return sum((subscriber, body) in self.received for subscriber in self.subscribers)

    def _check_lost(self) -> None:
        """All who were there get what was stored: if one has it, it was stored."""
        for body, publish in self.publishes.items():
            reached = self._reached(body)
            ended = sum(self._may_have_ended(subscriber, body) for subscriber in self.subscribers)
            if ended < len(self.subscribers) and (publish.status == OK or reached):
                answer = "200" if publish.status == OK else "nothing"
                self._report(
                    Kind.LOST,
                    f"{body[:30]!r}, answered with {answer} at {publish.answered:.3f},"
                    f" came to {reached} of {len(self.subscribers)}, and {ended} may have"
                    " acknowledged it",
                )

    def _may_have_ended(self, subscriber: str, body: str) -> bool:
        """Whether some acknowledgement of it was done, or may have been."""
        return any(
            ack.status in (OK, *UNKNOWN)
            for delivery in self.received.get((subscriber, body), ())
            for ack in self.acks.get((subscriber, delivery.id), ())
        )

    def _check_body(self, subscriber: str, body: str, deliveries: Sequence[Received]) -> None:
        publish = self.publishes.get(body)
        if publish is None or publish.status not in (OK, *UNKNOWN):
            said = "never published" if publish is None else f"refused with {publish.status}"
            self._report(Kind.UNEXPECTED, f"{subscriber}: {body[:30]!r} was {said}")
        ids = {each.id for each in deliveries}
        if len(ids) > 1:
            self._report(Kind.COPIED, f"{subscriber}: {body[:30]!r} came as {sorted(ids)}")

    def _check_redeliveries(self, deliveries: Sequence[Received]) -> None:
        for before, again in pairwise(deliveries):
            if before.id == again.id:
                self._check_redelivery(before, again)

    def _check_redelivery(self, before: Received, again: Received) -> None:
        """Judge two answers, which a stalled client may have got in the wrong order."""
        earliest = again.sent
        if before.answered - again.sent < self.lease_s:  # so they came in this order
            earliest = max(earliest, before.sent + self.lease_s)
        acks = self.acks[before.subscriber, before.id]
        place = f"{again.subscriber}: {again.body[:30]!r}, {again.id}, at {again.answered:.3f}"
        if any(ack.status == OK and ack.answered < earliest for ack in acks):
            self._report(Kind.RETURNED, place)
        elif again.answered < earliest:
            held = not any(ack.sent < again.answered for ack in acks)
            kind = Kind.TWO_LEASES if held else Kind.UNEXPLAINED
            self._report(kind, f"{place}, leased at {before.answered:.3f}")

    def _check_acks(self, deliveries: Sequence[Received]) -> None:
        """An ack while the lease is live is done, unless another one may have come first."""
        acks = sorted(self.acks[deliveries[0].subscriber, deliveries[0].id], key=_sent)
        if not acks or acks[0].status in (OK, *UNKNOWN):
            return
        first, *others = acks
        leases = [each for each in deliveries if each.answered <= first.sent]
        if (others and others[0].sent < first.answered) or not leases:
            return
        if first.answered < leases[-1].sent + self.lease_s:
            place = f"{first.subscriber}: {first.id} at {first.answered:.3f}"
            self._report(Kind.REFUSED_ACK, f"{place}: {first.status}")


def _sent(ack: Acked) -> float:
    return ack.sent
