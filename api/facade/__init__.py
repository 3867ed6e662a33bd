"""BlockQueue: a durable publish/subscribe message queue in one SQLite file.

from blockqueue import BlockQueue

with BlockQueue("queue.db") as queue:
    queue.create_topic("cart", ["counter"])
    queue.publish("cart", "hi")
    for delivery in queue.claim("cart", "counter", wait=5):
        delivery.ack()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blockqueue.api._bucket import Bucket
    from blockqueue.api._delivery import Delivery
    from blockqueue.api._durations import Duration
    from blockqueue.api._message import Message
    from blockqueue.api._metrics import Metrics
    from blockqueue.api._options import Subscriber
    from blockqueue.api._receipts import Receipt, Receipts
    from blockqueue.api._samples import Timing
    from blockqueue.api._schedule_spec import ScheduleSpec
    from blockqueue.api._schedules import Schedules
    from blockqueue.api._tokens import Tokens
    from blockqueue.api._transaction import Transaction
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
        SubscriberNumbers,
        SubscriberStatus,
        Token,
        TokenLimits,
        TokenNotFound,
        TopicNotFound,
        TransactionExpired,
        Unauthorized,
        Unavailable,
        ValidationError,
        Withdrawn,
    )
    from blockqueue.worker import Cancel, Job, RetryAfter, Worker, WorkerGroup, WorkerStats

__version__ = "0.1.0"

# Each name is loaded when it is first asked for, with what it needs and no more: the command
# line is quick to answer, and those who only publish load nothing that runs workers.
_WORKER = ("Cancel", "Job", "RetryAfter", "Worker", "WorkerGroup", "WorkerStats")
_API = {
    "BlockQueue": "queue",
    "Bucket": "_bucket",
    "Delivery": "_delivery",
    "Duration": "_durations",
    "Message": "_message",
    "Metrics": "_metrics",
    "Receipt": "_receipts",
    "Receipts": "_receipts",
    "ScheduleSpec": "_schedule_spec",
    "Schedules": "_schedules",
    "Subscriber": "_options",
    "Timing": "_samples",
    "Tokens": "_tokens",
    "Transaction": "_transaction",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'blockqueue' has no attribute {name!r}")
    module = "blockqueue.storage"
    if name in _WORKER:
        module = "blockqueue.worker"
    elif name in _API:
        module = f"blockqueue.api.{_API[name]}"
    found = getattr(import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


__all__ = [
    "AlreadyExists",
    "BackPressure",
    "BlockQueue",
    "BlockQueueError",
    "Bucket",
    "Cancel",
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
    "Job",
    "LeaseLost",
    "ManualClock",
    "Message",
    "MessageNotFound",
    "MessageStatus",
    "Metrics",
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
    "RetryAfter",
    "Schedule",
    "ScheduleNotFound",
    "ScheduleRun",
    "ScheduleSpec",
    "Schedules",
    "StaleVersion",
    "State",
    "Subscriber",
    "SubscriberNotFound",
    "SubscriberNumbers",
    "SubscriberStatus",
    "Timing",
    "Token",
    "TokenLimits",
    "TokenNotFound",
    "Tokens",
    "TopicNotFound",
    "Transaction",
    "TransactionExpired",
    "Unauthorized",
    "Unavailable",
    "ValidationError",
    "Withdrawn",
    "Worker",
    "WorkerGroup",
    "WorkerStats",
    "__version__",
]
