"""BlockQueue: a durable publish/subscribe message queue in one SQLite file.

from blockqueue import BlockQueue

with BlockQueue("queue.db") as queue:
    queue.create_topic("cart", ["counter"])
    queue.publish("cart", "hi")
    for delivery in queue.claim("cart", "counter", wait=5):
        delivery.ack()
"""

from blockqueue.api._bucket import Bucket
from blockqueue.api._delivery import Delivery
from blockqueue.api._durations import Duration
from blockqueue.api._messages import Message
from blockqueue.api._options import Subscriber
from blockqueue.api._receipts import Receipt, Receipts
from blockqueue.api._schedules import Schedules, ScheduleSpec
from blockqueue.api._tokens import Tokens
from blockqueue.api.queue import BlockQueue
from blockqueue.storage import (
    AlreadyExists,
    BackPressure,
    BlockQueueError,
    CommitUnknown,
    Conflict,
    CorruptBlock,
    DatabaseError,
    DatabaseUnusable,
    DeliveryNotFound,
    DeliveryStatus,
    DeliveryView,
    DiskFull,
    Failure,
    Finished,
    Forbidden,
    IdempotencyConflict,
    LeaseLost,
    ManualClock,
    MessageNotFound,
    MessageStatus,
    NewerSchema,
    NewToken,
    NoSubscribers,
    NotFound,
    Page,
    Paused,
    QueueClosed,
    RateLimited,
    Refused,
    Schedule,
    ScheduleNotFound,
    ScheduleRun,
    StaleVersion,
    State,
    SubscriberNotFound,
    SubscriberStatus,
    Token,
    TokenLimits,
    TokenNotFound,
    TopicNotFound,
    Unauthorized,
    Unavailable,
    ValidationError,
    Withdrawn,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "BackPressure",
    "BlockQueue",
    "BlockQueueError",
    "Bucket",
    "CommitUnknown",
    "Conflict",
    "CorruptBlock",
    "DatabaseError",
    "DatabaseUnusable",
    "Delivery",
    "DeliveryNotFound",
    "DeliveryStatus",
    "DeliveryView",
    "DiskFull",
    "Duration",
    "Failure",
    "Finished",
    "Forbidden",
    "IdempotencyConflict",
    "LeaseLost",
    "ManualClock",
    "Message",
    "MessageNotFound",
    "MessageStatus",
    "NewToken",
    "NewerSchema",
    "NoSubscribers",
    "NotFound",
    "Page",
    "Paused",
    "QueueClosed",
    "RateLimited",
    "Receipt",
    "Receipts",
    "Refused",
    "Schedule",
    "ScheduleNotFound",
    "ScheduleRun",
    "ScheduleSpec",
    "Schedules",
    "StaleVersion",
    "State",
    "Subscriber",
    "SubscriberNotFound",
    "SubscriberStatus",
    "Token",
    "TokenLimits",
    "TokenNotFound",
    "Tokens",
    "TopicNotFound",
    "Unauthorized",
    "Unavailable",
    "ValidationError",
    "Withdrawn",
    "__version__",
]
