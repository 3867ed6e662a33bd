"""Topics and subscribers: making, deleting, pausing, finding them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from . import limits
from ._errors import AlreadyExists, SubscriberNotFound, TopicNotFound, ValidationError
from ._pages import After
from ._snapshot import Snapshot, Tx
from ._subscriber import Subscriber
from ._verb import verb

DEFAULT_RETENTION_MS = 7 * 86400 * 1000

_T = TypeVar("_T")


class Topic(msgspec.Struct, frozen=True):
    """A topic as stored. Its number is never used again, its name may be."""

    id: int
    name: str
    paused: int
    retention_ms: int
    created_ms: int


# No name is empty: all come after this.
_FIRST: After = ("", 0)
TOPIC = "id, name, paused, retention_ms, created_ms"
SUBSCRIBER = (
    "name, max_attempts, visibility_ms, claim_limit, retry_initial_ms, retry_max_ms,"
    " retry_multiplier, retry_jitter, paused, id, topic_id"
)


def topic(snapshot: Snapshot, topic_id: int) -> Topic:
    """Return a topic by its number. Raises TopicNotFound, also once it was deleted."""
    row = snapshot.row(
        f"SELECT {TOPIC} FROM topic WHERE id = ? AND deleted_ms IS NULL", (topic_id,)
    )
    if row is None:
        raise TopicNotFound("the topic does not exist any more")
    return Topic(*row)


def topic_named(snapshot: Snapshot, name: str) -> Topic:
    """Return a topic by its name. Raises TopicNotFound."""
    row = snapshot.row(
        f"SELECT {TOPIC} FROM topic WHERE name = ? AND deleted_ms IS NULL", (_key(name),)
    )
    if row is None:
        raise TopicNotFound(f"there is no topic {name!r}")
    return Topic(*row)


def topics(snapshot: Snapshot, limit: int = -1, after: After | None = None) -> list[Topic]:
    """Return topics, by name: all, or at most ``limit`` after that (name, number)."""
    sql = (
        f"SELECT {TOPIC} FROM topic WHERE deleted_ms IS NULL AND (name, id) > (?, ?)"
        " ORDER BY name, id LIMIT ?"
    )
    return [Topic(*row) for row in snapshot.rows(sql, (*(after or _FIRST), limit))]


def subscriber(snapshot: Snapshot, subscriber_id: int) -> Subscriber:
    """Return a subscriber by its number. Raises SubscriberNotFound, also once deleted."""
    row = snapshot.row(
        f"SELECT {SUBSCRIBER} FROM subscriber WHERE id = ? AND deleted_ms IS NULL",
        (subscriber_id,),
    )
    if row is None:
        raise SubscriberNotFound("the subscriber does not exist any more")
    return Subscriber(*row)


def subscriber_named(snapshot: Snapshot, topic_id: int, name: str) -> Subscriber:
    """Return a subscriber by its name. Raises SubscriberNotFound."""
    row = snapshot.row(
        f"SELECT {SUBSCRIBER} FROM subscriber"
        " WHERE topic_id = ? AND name = ? AND deleted_ms IS NULL",
        (topic_id, _key(name)),
    )
    if row is None:
        raise SubscriberNotFound(f"the topic has no subscriber {name!r}")
    return Subscriber(*row)


def subscribers(
    snapshot: Snapshot, topic_id: int, limit: int = -1, after: After | None = None
) -> list[Subscriber]:
    """Return a topic's subscribers, by name; see ``topics``."""
    sql = (
        f"SELECT {SUBSCRIBER} FROM subscriber"
        " WHERE topic_id = ? AND deleted_ms IS NULL AND (name, id) > (?, ?)"
        " ORDER BY name, id LIMIT ?"
    )
    rows = snapshot.rows(sql, (topic_id, *(after or _FIRST), limit))
    return [Subscriber(*row) for row in rows]


def _key(name: str) -> str:
    """Return a name that SQLite can look up; what is not valid Unicode exists nowhere."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return ""
    return name


def create_topic_in(
    tx: Tx,
    name: str,
    subscribers: Sequence[Subscriber],
    retention_ms: int = DEFAULT_RETENTION_MS,
) -> Topic:
    """Make a topic with its first subscribers, all or nothing.

    Raises:
        ValidationError: a name or an option is out of range, or there is no subscriber.
        AlreadyExists: the name is taken, or one subscriber is named twice.
    """
    limits.check_name("topic", name)
    limits.check_range("retention", retention_ms, 0, limits.DELAY_MS_MAX, " ms")
    if tx.row("SELECT 1 FROM topic WHERE name = ? AND deleted_ms IS NULL", (name,)):
        raise AlreadyExists(f"topic {name!r} exists already")
    _check_new(subscribers)
    tx.change(
        "INSERT INTO topic (name, paused, retention_ms, created_ms) VALUES (?, 0, ?, ?)",
        (name, retention_ms, tx.now_ms),
    )
    made = topic_named(tx, name)
    _insert_subscribers(tx, made.id, subscribers)
    return made


def add_subscribers_in(tx: Tx, topic_id: int, subscribers: Sequence[Subscriber]) -> None:
    """Add subscribers to a topic, all or nothing. They get what is published from now on.

    Raises:
        ValidationError: a name or an option is out of range, or there is none.
        AlreadyExists: a name is taken or given twice.
    """
    topic(tx, topic_id)
    _check_new(subscribers)
    for new in subscribers:
        if tx.row(
            "SELECT 1 FROM subscriber WHERE topic_id = ? AND name = ? AND deleted_ms IS NULL",
            (topic_id, new.name),
        ):
            raise AlreadyExists(f"subscriber {new.name!r} exists already")
    _insert_subscribers(tx, topic_id, subscribers)


def _check_new(subscribers: Sequence[Subscriber]) -> None:
    if not 1 <= len(subscribers) <= limits.BATCH_MAX:
        raise ValidationError(f"give 1 to {limits.BATCH_MAX} subscribers, not {len(subscribers)}")
    names: set[str] = set()
    for new in subscribers:
        new.check()
        if new.name in names:
            raise AlreadyExists(f"subscriber {new.name!r} is given twice")
        names.add(new.name)


def _insert_subscribers(tx: Tx, topic_id: int, subscribers: Sequence[Subscriber]) -> None:
    for new in subscribers:
        tx.change(
            f"INSERT INTO subscriber ({SUBSCRIBER.removesuffix(', paused, id, topic_id')},"
            " paused, topic_id, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.name,
                new.max_attempts,
                new.visibility_ms,
                new.claim_limit,
                new.retry_initial_ms,
                new.retry_max_ms,
                float(new.retry_multiplier),
                float(new.retry_jitter),
                new.paused,
                topic_id,
                tx.now_ms,
            ),
        )
        # A lane that is born later needs no row: its cursor starts at 0.
        tx.execute(
            "INSERT INTO cursor (subscriber_id, priority, start_seq, next_seq,"
            " waiting, leased, dead, ahead)"
            " SELECT ?, priority, end_seq, end_seq, 0, 0, 0, 0 FROM lane WHERE topic_id = ?",
            (subscriber_named(tx, topic_id, new.name).id, topic_id),
        )


def delete_topic_in(tx: Tx, topic_id: int) -> None:
    """Delete a topic with everything in it. At once nothing can be published or claimed.

    The rows go later, in small steps. Raises TopicNotFound.
    """
    topic(tx, topic_id)
    tx.change("UPDATE topic SET deleted_ms = ? WHERE id = ?", (tx.now_ms, topic_id))
    tx.execute(
        "UPDATE schedule SET deleted_ms = ? WHERE topic_id = ? AND deleted_ms IS NULL",
        (tx.now_ms, topic_id),
    )
    for found in subscribers(tx, topic_id):
        delete_subscriber_in(tx, found.id)


def delete_subscriber_in(tx: Tx, subscriber_id: int) -> None:
    """Delete a subscriber and its deliveries. Raises SubscriberNotFound."""
    subscriber(tx, subscriber_id)
    tx.change("UPDATE subscriber SET deleted_ms = ? WHERE id = ?", (tx.now_ms, subscriber_id))
    # Its leases must not come up for expiry again and again.
    tx.execute(
        "UPDATE cursor SET lease_due_ms = NULL"
        " WHERE subscriber_id = ? AND lease_due_ms IS NOT NULL",
        (subscriber_id,),
    )


def pause_topic_in(tx: Tx, topic_id: int, paused: bool) -> None:
    """Pause or resume a topic: while it is paused nothing of it can be claimed."""
    topic(tx, topic_id)
    tx.helped.add(topic_id)
    tx.change("UPDATE topic SET paused = ? WHERE id = ?", (int(paused), topic_id))


def pause_subscriber_in(tx: Tx, subscriber_id: int, paused: bool) -> None:
    """Pause or resume a subscriber: while it is paused it can claim nothing."""
    tx.helped.add(subscriber(tx, subscriber_id).topic_id)
    tx.change("UPDATE subscriber SET paused = ? WHERE id = ?", (int(paused), subscriber_id))


create_topic = verb(create_topic_in)
add_subscribers = verb(add_subscribers_in)
delete_topic = verb(delete_topic_in)
delete_subscriber = verb(delete_subscriber_in)
pause_topic = verb(pause_topic_in)
pause_subscriber = verb(pause_subscriber_in)
