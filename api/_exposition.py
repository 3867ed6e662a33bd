"""A queue's metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from blockqueue.storage import SubscriberNumbers, meters

from ._metrics import Metrics
from ._samples import PREFIX, head, histogram, sample

#: What is told of each subscriber: name, meaning, number.
_OF_SUBSCRIBERS: tuple[tuple[str, str, Callable[[SubscriberNumbers], float]], ...] = (
    (
        "subscriber_pending_messages",
        "Messages to be handed out, delayed ones and retries included.",
        lambda each: each.pending,
    ),
    (
        "subscriber_retry_messages",
        "Pending messages that wait for a time: retries, snoozed and delayed ones.",
        lambda each: each.waiting,
    ),
    (
        "subscriber_in_flight_messages",
        "Messages that are handed out and not settled yet.",
        lambda each: each.leased,
    ),
    ("subscriber_dead_letters", "Dead letters.", lambda each: each.dead),
    (
        "subscriber_oldest_age_seconds",
        "For how long the message that waits the longest could have been handed out.",
        lambda each: each.lag_s,
    ),
    (
        "subscriber_paused",
        "1: nothing is handed out, as it or its topic is paused.",
        lambda each: int(each.paused),
    ),
)

#: What the others mean.
HELP = {
    "persistence_total": "Messages of publishes: taken in, on the disk, known already, failed, "
    "or refused as too many waited.",
    "flush_total": "Commits; those that failed; groups that were tried again one by one.",
    "wal_pages_written_total": "Pages of 4096 bytes that commits wrote to the log.",
    "delivery_operation_total": "Deliveries by what was done with them, and with what result.",
    "checkpoint_total": "How often the log was moved into the database; busy: not all of it.",
    "scheduler_operation_total": "Schedules that were due, and what became of their messages.",
    "maintenance_rows_total": "Rows that maintenance has dealt with.",
    "maintenance_pass_total": "Steps of maintenance; yielded: there was more to do.",
    "restarts_total": "Worker processes and actors that were started in place of failed ones.",
    "flush_size": "Messages published by a commit that published any.",
    "flush_duration_seconds": "From having the write lock to the end of the commit.",
    "write_lock_wait_seconds": "How long a transaction waited for those of other processes.",
    "publish_duration_seconds": "From a publish's coming to its being on the disk.",
    "delivery_operation_duration_seconds": "From a call's coming to its being on the disk; a "
    "claim's from when there was something to hand out.",
    "checkpoint_duration_seconds": "How long moving the log into the database took.",
    "maintenance_duration_seconds": "How long a step of maintenance took.",
    "pending_messages": "Messages that were accepted and are not on the disk yet.",
    "pending_bytes": "Bytes of messages that are not on the disk yet.",
    "parked_polls": "Long polls that wait for messages.",
    "persistence_lag_seconds": "For how long nothing was written though something waits.",
    "processes": "Processes that have the database open.",
    "scheduler_due_lag_seconds": "For how long the schedule due the longest has been due.",
    "scheduler_healthy": "1: no schedule is overdue.",
    "writer_healthy": "1: this process can write.",
    "delivery_reaper_healthy": "1: no lease that ran out is overdue.",
    "database_listener_healthy": "1: this process hears of the others' commits at once.",
    "disk_free_bytes": "Free room on the database's disk.",
    "database_bytes": "Size of the database's file.",
    "wal_bytes": "Size of its log.",
    "topic_published_messages_total": "Messages ever published to a topic.",
}


def render(metrics: Metrics) -> str:
    """Return metrics as Prometheus reads them."""
    return "".join(_lines(metrics))


def _lines(metrics: Metrics) -> Iterator[str]:
    named = [
        sample("", (("topic", each.topic), ("subscriber", each.subscriber)))
        for each in metrics.subscribers
    ]
    for name, text, number in _OF_SUBSCRIBERS:
        yield head(name, "gauge", text)
        full = PREFIX + name
        for labels, each in zip(named, metrics.subscribers, strict=True):
            yield f"{full}{labels} {number(each)}\n"
    name = "topic_published_messages_total"
    yield head(name, "counter", HELP[name])
    for topic, count in metrics.published.items():
        yield f"{PREFIX}{sample(name, (('topic', topic),))} {count}\n"
    yield from _meters(metrics)
    for name in sorted(metrics.gauges):
        yield head(name, "gauge", HELP[name])
        yield f"{PREFIX}{name} {metrics.gauges[name]}\n"


def _meters(metrics: Metrics) -> Iterator[str]:
    told = ""
    for meter in meters.METERS:
        name, key = meter.name, sample(meter.name, meter.labels)
        if key in metrics.gauges:
            continue
        if name != told:
            yield head(name, "histogram" if meter.bounds else "counter", HELP[name])
            told = name
        if not meter.bounds:
            yield f"{PREFIX}{key} {metrics.counts[key]}\n"
            continue
        for each, number in histogram(name, meter.labels, metrics.timings[key]):
            yield f"{PREFIX}{each} {number}\n"
