"""The embedded face: publishing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from blockqueue.actors import Promise, Publish
from blockqueue.storage import Batch, Published, publish_in

from ._durations import Duration
from ._face import Face
from ._message import Message
from ._messages import batch_of, batches_of
from ._receipts import Receipt, Receipts
from ._trace_context import Trace
from ._transaction import Transaction


class Publishing(Face):
    """Publishing to topics."""

    def publish(
        self,
        topic: str,
        message: str | bytes,
        *,
        headers: dict[str, str] | None = None,
        priority: int = 0,
        delay: Duration | None = None,
        schedule_at: datetime | None = None,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        tx: Transaction | None = None,
    ) -> Receipt:
        """Publish one message; it is on the disk when this returns.

        Args:
            message: text or bytes up to 1 MiB, returned to consumers as given.
            headers: text to text, up to 16 KiB as JSON.
            priority: −1000 to 1000; higher ones are handed out first.
            delay: visible only that long after the commit.
            schedule_at: visible at that time instead, by the clock on the wall; needs a zone.
            correlation_id: up to 255 bytes, handed through.
            idempotency_key: up to 128 bytes. A publish to the topic that is repeated with its
                key writes nothing and returns the first one's id, as long as the message is
                kept, and a day at least.
            tx: a transaction to be part of: it is published if that commits.

        Raises:
            TopicNotFound, NoSubscribers, ValidationError: nothing was written.
            IdempotencyConflict: the key was used for a different publish; nothing was written.
            BackPressure, DiskFull, Withdrawn, QueueClosed: nothing was written; try again.
            CommitUnknown: the disk failed; it may have been written or not. Its ``ids`` are
                the messages' if it was; repeating it with its idempotency key finds out.
        """
        new = Message(
            message, headers, correlation_id, priority, delay, schedule_at, idempotency_key
        )
        if self.tracing is None:
            (published,) = self._publish(topic, [batch_of(new)], tx)
            return Receipt(published, 0, _state(tx))
        with self.tracing.publishing(topic, 1) as span:
            (published,) = self._publish(topic, [batch_of(new, span.trace)], tx)
            receipt = Receipt(published, 0, _state(tx))
            span.published(receipt.id)
            return receipt

    def publish_many(
        self,
        topic: str,
        messages: Iterable[str | bytes | Message],
        *,
        priority: int = 0,
        delay: Duration | None = None,
        tx: Transaction | None = None,
    ) -> Receipts:
        """Publish 1 to 1000 messages, all or none. Errors are those of ``publish``."""
        if self.tracing is None:
            batches = batches_of(messages, priority, delay)
            return Receipts(self._publish(topic, batches, tx), _state(tx))
        listed = list(messages)
        with self.tracing.publishing(topic, len(listed)) as span:
            batches = batches_of(listed, priority, delay, span.trace)
            return Receipts(self._publish(topic, batches, tx), _state(tx))

    def start_publish(
        self, topic: str, messages: Sequence[Message], trace: Trace | None = None
    ) -> Promise[list[Published]]:
        """Begin to publish messages, and return the promise that they are on the disk.

        For servers, whose threads must not wait. ``trace`` is for the headers of messages that
        name none. Errors of ``publish_many`` that come later are the promise's.
        """
        batches = batches_of(messages, trace=trace)
        admission, count = self.system.admission, len(messages)
        nbytes = sum([len(batch.messages) for batch in batches])
        admission.enter(count, nbytes)
        try:
            promise: Promise[list[Published]] = self.system.ask(topic, Publish(batches))
        except BaseException:
            admission.leave(count, nbytes)
            raise
        promise.on_done(lambda _: admission.leave(count, nbytes))
        return promise

    def _publish(self, topic: str, batches: list[Batch], tx: Transaction | None) -> list[Published]:
        if tx is not None:
            return tx.run(self, topic, partial(publish_in, batches=batches))
        system, count, nbytes = self.system, 0, 0
        for batch in batches:
            count += batch.count
            nbytes += len(batch.messages)
        system.admission.enter(count, nbytes)
        try:
            published: list[Published] = system.call(topic, Publish(batches), self.timeout)
        finally:
            system.admission.leave(count, nbytes)
        return published


def _state(tx: Transaction | None) -> str:
    return "persisted" if tx is None else "staged"
