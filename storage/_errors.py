"""Every error that the queue raises on purpose.

    BlockQueueError
    ├── ValidationError          the caller's input is wrong
    ├── NotFound
    │   ├── TopicNotFound
    │   ├── SubscriberNotFound
    │   ├── MessageNotFound
    │   ├── DeliveryNotFound
    │   ├── ScheduleNotFound
    │   └── TokenNotFound
    ├── Conflict
    │   ├── AlreadyExists
    │   ├── NoSubscribers
    │   ├── Paused
    │   ├── IdempotencyConflict
    │   ├── StaleVersion
    │   ├── Finished
    │   └── LeaseLost
    ├── Refused                  over HTTP: who asks may not, or not so much
    │   ├── Unauthorized
    │   ├── Forbidden
    │   └── RateLimited
    ├── BackPressure             too much is waiting to be written: try later
    ├── Unavailable              nothing was written
    │   ├── QueueClosed
    │   ├── DiskFull
    │   ├── TransactionExpired   a caller's own transaction was open for too long
    │   └── Withdrawn            the caller's deadline passed before the work began
    ├── CommitUnknown            it may or may not have been written
    └── DatabaseError            the file cannot be used
        ├── DatabaseUnusable
        ├── NewerSchema
        └── CorruptBlock

``code`` is stable and part of the HTTP contract; ``status`` is the HTTP status
a server should answer with. Any other exception that leaves this package is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AlreadyExists",
    "BackPressure",
    "BlockQueueError",
    "CommitUnknown",
    "Conflict",
    "CorruptBlock",
    "DatabaseError",
    "DatabaseUnusable",
    "DeliveryNotFound",
    "DiskFull",
    "Finished",
    "Forbidden",
    "IdempotencyConflict",
    "LeaseLost",
    "MessageNotFound",
    "NewerSchema",
    "NoSubscribers",
    "NotFound",
    "Paused",
    "QueueClosed",
    "RateLimited",
    "Refused",
    "ScheduleNotFound",
    "StaleVersion",
    "SubscriberNotFound",
    "TokenNotFound",
    "TopicNotFound",
    "TransactionExpired",
    "Unauthorized",
    "Unavailable",
    "ValidationError",
    "Withdrawn",
]


class BlockQueueError(Exception):
    """Root of all errors of this package."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500


class ValidationError(BlockQueueError, ValueError):
    """The input is wrong; the text says what is allowed."""

    code = "validation_error"
    status = 400


class NotFound(BlockQueueError):
    """What was named does not exist."""

    code = "resource_not_found"
    status = 404


class TopicNotFound(NotFound):
    """There is no topic of that name."""

    code = "topic_not_found"


class SubscriberNotFound(NotFound):
    """The topic has no subscriber of that name."""


class MessageNotFound(NotFound):
    """The topic has no such message, or it is not kept any more."""


class DeliveryNotFound(NotFound):
    """The subscriber has no such delivery."""


class ScheduleNotFound(NotFound):
    """The topic has no such schedule."""


class TokenNotFound(NotFound):
    """There is no token of that name that is not revoked."""


class Conflict(BlockQueueError):
    """The state of the queue does not allow it."""

    code = "conflict"
    status = 409


class AlreadyExists(Conflict):
    """The name is taken."""


class NoSubscribers(Conflict):
    """The topic has no subscriber, so a message would reach nobody."""


class Paused(Conflict):
    """The topic or the subscriber is paused."""


class IdempotencyConflict(Conflict):
    """The key was used before for another message, or with other options."""


class StaleVersion(Conflict):
    """Somebody else has changed it since that version was read."""


class Finished(Conflict):
    """The delivery has been acknowledged or is dead, so it cannot be cancelled."""


class LeaseLost(Conflict):
    """The lease ran out, or another consumer holds the message now.

    ``lost`` are the ids this is true of; the others of the same call are settled.
    """

    def __init__(self, text: str, lost: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.lost = tuple(lost)


class Refused(BlockQueueError):
    """A server has refused a request for what its token is, or is not. Nothing was done."""


class Unauthorized(Refused):
    """The request has no token, or one that is unknown, expired or revoked."""

    code = "unauthorized"
    status = 401


class Forbidden(Refused):
    """The token has no scope for it, or none is shown for a page of another site."""

    code = "forbidden"
    status = 403


class RateLimited(Refused):
    """The token has asked for more than its limits allow. Try again after ``retry_after`` s."""

    code = "rate_limited"
    status = 429

    def __init__(self, text: str, retry_after: int = 1) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class BackPressure(BlockQueueError):
    """Too many messages or bytes are waiting to be written. Try again later."""

    code = "buffer_pressure"
    status = 429


class Unavailable(BlockQueueError):
    """The queue cannot do it now. Nothing was written."""

    code = "service_unavailable"
    status = 503


class QueueClosed(Unavailable):
    """The queue is closed, closing, or stopped by an error."""


class DiskFull(Unavailable):
    """The disk has no room. Nothing was written; it works again once there is room."""

    code = "disk_full"
    status = 507


class TransactionExpired(Unavailable):
    """A caller's transaction was open for too long while others waited. Nothing was written."""


class Withdrawn(Unavailable):
    """The work did not begin before its deadline, and never will."""


class CommitUnknown(BlockQueueError):
    """The disk failed at the commit: the work may or may not have been written.

    ``ids`` are those that a publish's messages have if they were written, in their order;
    empty for other work, and where nobody knows.
    """

    code = "commit_unknown"
    status = 503

    def __init__(self, text: str, ids: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.ids = tuple(ids)


class DatabaseError(BlockQueueError):
    """The database file cannot be used as it is."""

    code = "service_unavailable"
    status = 503


class DatabaseUnusable(DatabaseError):
    """The file cannot be opened, is not a database, or lies where it cannot work."""


class NewerSchema(DatabaseError):
    """A newer version of this program has written the file."""


class CorruptBlock(DatabaseError):
    """A block of messages is missing or does not decode; the text says which.

    ``end_seq`` is the first sequence number after the damage.
    """

    def __init__(self, text: str, end_seq: int) -> None:
        super().__init__(text)
        self.end_seq = end_seq
