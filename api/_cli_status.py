"""The counts of subscribers, as ``status``, ``top`` and the lists show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockqueue import BlockQueue, storage
from blockqueue.storage import Snapshot, SubscriberStatus

from ._cli_rows import span

if TYPE_CHECKING:
    from blockqueue.client import Client

COLUMNS = ("topic", "subscriber", "paused", "waiting", "in_flight", "dead", "oldest")
# A server does not tell how many are dead: they are counted, up to here.
_COUNTED = 1000


def statuses(queue: BlockQueue | Client, topic: str | None = None) -> list[dict[str, Any]]:
    """Return a record for each subscriber of a topic, or of all."""
    if isinstance(queue, BlockQueue):
        with queue.system.reading() as snapshot:
            return _read(snapshot, topic)
    names = queue.topics() if topic is None else [topic]
    return [record for name in names for record in _asked(queue, name)]


def _read(snapshot: Snapshot, topic: str | None) -> list[dict[str, Any]]:
    if topic is None:
        topics = storage.topics(snapshot)
    else:
        topics = [storage.topic_named(snapshot, topic)]
    return [
        _record(snapshot, found, bool(found.paused) or status.paused, status)
        for found in topics
        for status in storage.subscriber_statuses(snapshot, found.id)
    ]


def _record(
    snapshot: Snapshot, topic: storage.Topic, paused: bool, status: SubscriberStatus
) -> dict[str, Any]:
    oldest_ms = storage.subscriber_summary(snapshot, status.id).oldest_ms
    age_ms = None if oldest_ms is None else max(0, snapshot.now_ms - oldest_ms)
    return {
        "topic": topic.name,
        "subscriber": status.name,
        "paused": paused,
        "waiting": status.waiting,
        "in_flight": status.leased,
        "dead": status.dead,
        "oldest": None if age_ms is None else span(age_ms),
        "oldest_s": None if age_ms is None else age_ms / 1000,
    }


def _asked(client: Client, topic: str) -> list[dict[str, Any]]:
    """Ask a server, which does not tell pauses of subscribers, nor ages."""
    paused = client.topic(topic).paused
    records: list[dict[str, Any]] = []
    for status in client.subscribers(topic):
        page = client.dead_page(topic, status.name, _COUNTED)
        dead = len(page.items)
        records.append(
            {
                "topic": topic,
                "subscriber": status.name,
                "paused": True if paused else None,
                "waiting": status.waiting,
                "in_flight": status.leased,
                "dead": dead if page.after is None else f"{dead}+",
                "oldest": None,
                "oldest_s": None,
            }
        )
    return records
