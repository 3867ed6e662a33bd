"""The naive queue: one record per subscriber and message, and no cleverness at all.

It says what the storage must do. Where the storage keeps runs, cursors and counts, this
keeps a plain dict, and every verb is a loop over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from blockqueue.storage import (
    Ack,
    Body,
    Cancel,
    Drop,
    Extend,
    Handle,
    Look,
    Nack,
    Outcome,
    Release,
    Replay,
    Settled,
    Settlement,
    Snooze,
    State,
    Subscriber,
    SubscriberStatus,
    limits,
    message_id,
)
from blockqueue.storage._retries import retry_delay_ms

LEASE_MS_MAX = 12 * 3600 * 1000
DAY_MS = 86_400_000
FINAL = {State.PROCESSED, State.CANCELLED}

Place = tuple[int, int]  # priority, seq


@dataclass
class Message:
    """What was published, the same for every subscriber."""

    body: Body
    created_ms: int
    visible_ms: int
    tag: int
    block_gone: bool = False


@dataclass
class Key:
    """An idempotency key: what it stands for, and from when on it may be forgotten."""

    fingerprint: bytes
    place: Place
    created_ms: int
    visible_ms: int
    tag: int
    delete_ms: int | None = None


class Failed(NamedTuple):
    """One nack or expired lease."""

    generation: int
    failure_count: int
    error: str
    failed_ms: int


@dataclass
class Record:
    """One message to one subscriber."""

    state: State = State.PENDING
    due_ms: int | None = None
    since_ms: int | None = None
    delivery_count: int = 0
    failure_count: int = 0
    generation: int = 0
    reason: str | None = None
    tokens: list[str] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)

    def become(
        self, state: State, at_ms: int, reason: str | None, since_ms: int | None = None
    ) -> None:
        active = state in {State.LEASED, State.WAITING}
        self.state, self.reason = state, reason
        self.due_ms = at_ms if active else None
        self.since_ms = since_ms if active else at_ms

    def leased_at(self, now_ms: int) -> bool:
        return self.state == State.LEASED and self.due_ms is not None and self.due_ms > now_ms

    def expired_at(self, now_ms: int) -> bool:
        return self.state == State.LEASED and self.due_ms is not None and self.due_ms <= now_ms


class Consumer:
    """A subscriber with its records."""

    def __init__(self, options: Subscriber) -> None:
        self.options = options
        self.paused = False
        self.records: dict[Place, Record] = {}

    def fail(self, record: Record, now_ms: int, reason: str, delay_ms: int | None = None) -> State:
        """Count a failure: another try later, or the dead letters."""
        record.failure_count += 1
        failed = Failed(record.generation, record.failure_count, reason, now_ms)
        record.failures = [*record.failures, failed][-limits.FAILURES_KEPT :]
        if record.failure_count >= self.options.max_attempts:
            record.become(State.DEAD, now_ms, reason)
        else:
            # The first number only feeds the jitter, and these subscribers have none.
            delay_ms = delay_ms or retry_delay_ms(self.options, 0, record.failure_count)
            record.become(State.WAITING, now_ms + delay_ms, reason)
        return record.state

    def expire(self, now_ms: int, priority: int | None = None) -> bool:
        """End the leases that ran out, in one lane or in all."""
        expired = [
            record
            for place, record in self.records.items()
            if priority in (None, place[0]) and record.expired_at(now_ms)
        ]
        for record in expired:
            self.fail(record, now_ms, "lease expired")
        return bool(expired)

    def count(self, *states: State) -> int:
        return sum(record.state in states for record in self.records.values())

    def due(self, *states: State) -> list[int]:
        return [
            record.due_ms
            for record in self.records.values()
            if record.state in states and record.due_ms is not None
        ]


class Topic:
    """A topic: its messages by priority and number, its consumers by number."""

    def __init__(self, topic_id: int, name: str, retention_ms: int) -> None:
        self.id = topic_id
        self.name = name
        self.retention_ms = retention_ms
        self.paused = False
        self.messages: dict[Place, Message] = {}
        self.consumers: dict[int, Consumer] = {}
        self.keys: dict[str, Key] = {}

    def end_seq(self, priority: int) -> int:
        return sum(place[0] == priority for place in self.messages)

    def priorities(self) -> list[int]:
        return sorted({priority for priority, _ in self.messages}, reverse=True)

    def message_id(self, place: Place) -> str:
        return message_id(self.id, *place, self.messages[place].tag)

    def add(self, place: Place, message: Message) -> None:
        """Take in what was published; what is not visible at once goes into the bucket."""
        self.messages[place] = message
        for consumer in self.consumers.values():
            consumer.records[place] = record = Record()
            if message.visible_ms != message.created_ms:
                record.become(State.WAITING, message.visible_ms, None)

    def claim(
        self, subscriber_id: int, limit: int, lease_ms: int, now_ms: int
    ) -> list[tuple[Place, Message, Record]]:
        """Lease what is visible: priority first, then visible time, due before fresh."""
        consumer = self.consumers[subscriber_id]
        taken: list[tuple[Place, Message, Record]] = []
        for priority in self.priorities():
            if len(taken) == limit:
                break  # a lane that the claim does not reach is not swept by it
            consumer.expire(now_ms, priority)
            for place in self._visible(consumer, priority, now_ms)[: limit - len(taken)]:
                record = consumer.records[place]
                record.become(State.LEASED, now_ms + lease_ms, record.reason, record.due_ms)
                record.delivery_count += 1
                record.generation += 1
                taken.append((place, self.messages[place], record))
        return taken

    def _visible(self, consumer: Consumer, priority: int, now_ms: int) -> list[Place]:
        found: list[tuple[int, bool, Place]] = []
        for place, record in consumer.records.items():
            if place[0] != priority:
                continue
            if record.state == State.PENDING:
                found.append((self.messages[place].created_ms, True, place))
            elif record.state == State.WAITING and record.due_ms is not None:
                found.append((record.due_ms, False, place))
        return [place for due_ms, _, place in sorted(found) if due_ms <= now_ms]

    def settle(
        self,
        subscriber_id: int,
        settlement: Settlement | Sequence[Settlement],
        handles: Sequence[Handle],
        now_ms: int,
    ) -> list[Settled]:
        """Settle one after the other, each for itself."""
        consumer = self.consumers[subscriber_id]
        if isinstance(settlement, Settlement):
            settlement = [settlement] * len(handles)
        return [
            self._settle_one(consumer, each, single, now_ms)
            for each, handle in zip(settlement, handles, strict=True)
            for single in singles([handle])
        ]

    def _settle_one(
        self, consumer: Consumer, settlement: Settlement, handle: Handle, now_ms: int
    ) -> Settled:
        place = (handle.priority, handle.seq)
        record = consumer.records.get(place)
        if record is None or self.messages[place].block_gone:
            return Settled(Outcome.UNKNOWN)
        if not self._names(consumer, place, handle):
            return Settled(Outcome.UNKNOWN)
        if not self._proves(record, handle):
            return Settled(Outcome.LOST)
        if self._accepts(settlement, record, now_ms):
            self._apply(consumer, settlement, place, record, now_ms)
            return Settled(Outcome.DONE, record.state, record.due_ms)
        match settlement:
            case Ack() if record.state == State.PROCESSED and handle.proof is not None:
                return Settled(Outcome.DONE, State.PROCESSED)
            case Cancel() if record.state == State.CANCELLED:
                return Settled(Outcome.DONE, State.CANCELLED)
            case Cancel(leased=leased):
                return Settled(Outcome.LOST if leased else Outcome.FINISHED)
            case _:
                return Settled(Outcome.UNKNOWN if handle.proof is None else Outcome.LOST)

    def _names(self, consumer: Consumer, place: Place, handle: Handle) -> bool:
        """Say whether it is a message of here. A generation comes from this process: no tag."""
        return (
            handle.topic_id in (None, self.id)
            and handle.subscriber_id in (None, consumer.options.id)
            and (isinstance(handle.proof, int) or handle.tag == self.messages[place].tag)
        )

    def _proves(self, record: Record, handle: Handle) -> bool:
        if handle.proof is None:
            return True
        if record.state == State.PENDING:
            return False  # it was never handed out
        if isinstance(handle.proof, int):
            return handle.proof == record.generation
        return record.tokens[-1:] == [handle.proof]

    def _accepts(self, settlement: Settlement, record: Record, now_ms: int) -> bool:
        match settlement:
            case Cancel(leased=False):
                return record.state in {State.PENDING, State.WAITING, State.LEASED}
            case Replay(dead_only=True):
                return record.state == State.DEAD
            case Replay():  # Drop is one too
                return record.state in {State.WAITING, State.DEAD}
            case _:
                return record.leased_at(now_ms)

    def _apply(
        self, consumer: Consumer, settlement: Settlement, place: Place, record: Record, now_ms: int
    ) -> None:
        match settlement:
            case Ack():
                record.become(State.PROCESSED, now_ms, None)
            case Nack(delay_ms=delay_ms, error=error):
                consumer.fail(record, now_ms, error, delay_ms)
            case Extend(ms=ms):
                assert record.due_ms is not None
                ms = consumer.options.visibility_ms if ms is None else ms
                due_ms = min(record.due_ms + ms, now_ms + LEASE_MS_MAX)
                record.become(State.LEASED, due_ms, record.reason, record.since_ms)
            case Snooze(delay_ms=delay_ms):
                record.become(State.WAITING, now_ms + delay_ms, record.reason)
            case Release():
                record.delivery_count -= 1
                visible_ms = record.since_ms
                if visible_ms is None:
                    visible_ms = self.messages[place].created_ms
                record.become(State.WAITING, visible_ms, record.reason)
            case _:
                self._overrule(settlement, record, now_ms)

    def _overrule(self, settlement: Settlement, record: Record, now_ms: int) -> None:
        """Apply what needs no lease."""
        match settlement:
            case Cancel(reason=reason):
                record.become(State.CANCELLED, now_ms, reason)
            case Drop():
                record.become(State.CANCELLED, now_ms, "dropped by an operator")
            case Replay():
                if record.state == State.DEAD:
                    record.delivery_count = record.failure_count = 0
                record.become(State.WAITING, now_ms, record.reason)
            case _:
                raise AssertionError(settlement)

    def adopt_release(self, subscriber_id: int, handle: Handle, due_ms: int) -> None:
        """Take over the visible time of a message that was handed out fresh and released.

        Messages that are released together come back together, where the first one was.
        """
        place = (handle.priority, handle.seq)
        created = {
            message.created_ms
            for (priority, seq), message in self.messages.items()
            if priority == handle.priority and seq <= handle.seq
        }
        assert due_ms in created
        record = self.consumers[subscriber_id].records[place]
        assert record.due_ms in {due_ms, self.messages[place].created_ms}
        record.due_ms = due_ms

    def cancel(self, place: Place, reason: str, now_ms: int) -> None:
        """Give a message up for everybody who has not finished it."""
        for consumer in self.consumers.values():
            record = consumer.records.get(place)
            if record is not None and self._accepts(Cancel(), record, now_ms):
                record.become(State.CANCELLED, now_ms, reason)

    def statuses(self) -> list[SubscriberStatus]:
        return sorted(
            (
                SubscriberStatus(
                    consumer.options.name,
                    consumer.count(State.PENDING, State.WAITING),
                    consumer.count(State.LEASED),
                    consumer.count(State.DEAD),
                    consumer.paused,
                    consumer.options.id,
                    self.id,
                )
                for consumer in self.consumers.values()
            ),
            key=lambda status: status.name,
        )

    def look(self, consumer: Consumer, now_ms: int) -> Look:
        due_ms = min(consumer.due(State.WAITING, State.LEASED), default=None)
        ready = bool(consumer.count(State.PENDING)) or (due_ms is not None and due_ms <= now_ms)
        return Look(ready, due_ms, self.paused or consumer.paused)

    def forget_blocks(self, kept: Iterable[Place], now_ms: int) -> None:
        """Note which messages are gone from the file; none may be that somebody needs."""
        kept = set(kept)
        for place, message in self.messages.items():
            if place in kept:
                assert not message.block_gone, "a deleted block came back"
            elif not message.block_gone:
                message.block_gone = True
                for consumer in self.consumers.values():
                    self._check_may_go(consumer.records.get(place), now_ms)
                for key in self.keys.values():
                    if key.place == place:
                        key.delete_ms = key.created_ms + DAY_MS
        self.keys = {
            text: key
            for text, key in self.keys.items()
            if key.delete_ms is None or key.delete_ms > now_ms
        }

    def _check_may_go(self, record: Record | None, now_ms: int) -> None:
        if record is None:  # published before this subscriber came
            return
        assert record.state in FINAL, "a message was deleted that somebody needs"
        assert record.since_ms is not None
        assert now_ms >= record.since_ms + self.retention_ms, "deleted too early"


def singles(handles: Iterable[Handle]) -> Iterator[Handle]:
    """Yield a handle for each message that the handles name."""
    for handle in handles:
        for seq in range(handle.seq, handle.seq + handle.count):
            yield Handle(
                handle.priority,
                seq,
                handle.tag,
                handle.proof,
                handle.subscriber_id,
                topic_id=handle.topic_id,
            )
