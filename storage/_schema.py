"""The tables, and the numbered steps that lead an older file to them.

Hot statements are written by hand elsewhere; these models define the schema and serve
everything that is not hot. A query is run on an explicit database: ``query.execute(db)``.
"""

from __future__ import annotations

from collections.abc import Callable

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    Check,
    CompositeKey,
    Database,
    FloatField,
    IntegerField,
    Model,
    SchemaManager,
    TextField,
)
from playhouse.sqlite_ext import AutoIncrementField

from ._errors import DatabaseUnusable, NewerSchema


class _Table(Model):
    class Meta:
        legacy_table_names = False
        strict_tables = True


class Meta(_Table):
    """One row a fact about the file: the receipts' secret, the clock."""

    key = TextField(primary_key=True)
    value = BlobField()

    class Meta:
        without_rowid = True


class Topic(_Table):
    """A topic. ``deleted_ms`` set: a tombstone; its name is free, its rows go bit by bit."""

    id = AutoIncrementField()  # never reused: ids of messages hold it
    name = TextField()
    paused = IntegerField(default=0)
    retention_ms = BigIntegerField()
    created_ms = BigIntegerField()
    deleted_ms = BigIntegerField(null=True)


class Subscriber(_Table):
    """A subscriber of a topic, with its delivery options."""

    id = AutoIncrementField()
    topic_id = IntegerField()
    name = TextField()
    paused = IntegerField(default=0)
    max_attempts = IntegerField()
    visibility_ms = BigIntegerField()
    claim_limit = IntegerField()
    retry_initial_ms = BigIntegerField()
    retry_max_ms = BigIntegerField()
    retry_multiplier = FloatField()
    retry_jitter = FloatField()
    created_ms = BigIntegerField()
    deleted_ms = BigIntegerField(null=True)


class Lane(_Table):
    """The log of one priority of a topic. ``end_seq`` is the next message's number.

    Blocks below ``checked_seq`` are marked for deletion already, or ``held``.
    """

    topic_id = IntegerField()
    priority = IntegerField()
    end_seq = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    checked_seq = BigIntegerField(constraints=[SQL("DEFAULT 0")])

    class Meta:
        without_rowid = True
        primary_key = CompositeKey("topic_id", "priority")


class Block(_Table):
    """A contiguous run of a lane's messages. Never changed after it was written.

    ``created_ms``: when all of them were published, so that nobody need look inside for that;
    NULL in blocks that an older version wrote.
    ``delete_ms``: set once no subscriber needs it, to one retention after that. ``held``: all
    cursors have passed it, but a retry or a dead letter still needs it.
    """

    topic_id = IntegerField()
    priority = IntegerField()
    first_seq = BigIntegerField()
    count = IntegerField(constraints=[Check("count > 0")])
    delete_ms = BigIntegerField(null=True)
    held = IntegerField(constraints=[SQL("DEFAULT 0")])
    created_ms = BigIntegerField(null=True)
    data = BlobField()  # last: a large one pushes what follows out of the page

    class Meta:
        primary_key = CompositeKey("topic_id", "priority", "first_seq")


class Cursor(_Table):
    """How far a subscriber has come in a lane, with the counts that lists and claims need.

    Below ``start_seq`` no delivery exists. Every number below ``next_seq`` has been handed
    out or has a row in ``delivery``. Counts are of messages, not of rows: ``ahead`` are those
    with a row at or above ``next_seq``. The due times are the earliest of their kind, exactly.
    """

    subscriber_id = IntegerField()
    priority = IntegerField()
    start_seq = BigIntegerField()
    next_seq = BigIntegerField()
    waiting = BigIntegerField(default=0)
    leased = BigIntegerField(default=0)
    dead = BigIntegerField(default=0)
    ahead = BigIntegerField(default=0)
    waiting_due_ms = BigIntegerField(null=True)
    lease_due_ms = BigIntegerField(null=True)

    class Meta:
        without_rowid = True
        primary_key = CompositeKey("subscriber_id", "priority")


class Delivery(_Table):
    """A contiguous run of one lane that shares a state for one subscriber.

    Between ``start_seq`` and the cursor no row means done; at or above the cursor no row
    means pending. ``due_ms``: the lease's end or the next visibility; only leased and
    waiting runs have it. ``since_ms``: when a dead, processed or cancelled run became that;
    of a leased run, since when it could have been claimed.
    """

    subscriber_id = IntegerField()
    priority = IntegerField()
    first_seq = BigIntegerField()
    count = BigIntegerField(constraints=[Check("count > 0")])
    state = IntegerField()
    due_ms = BigIntegerField(null=True)
    since_ms = BigIntegerField(null=True)
    delivery_count = IntegerField()
    failure_count = IntegerField()
    generation = IntegerField()
    reason = TextField(null=True)

    class Meta:
        without_rowid = True
        primary_key = CompositeKey("subscriber_id", "priority", "first_seq")
        constraints = (SQL("CHECK ((state < 2) = (due_ms IS NOT NULL))"),)


class Idempotency(_Table):
    """A key that a message was published with. ``delete_ms``: set when the message goes."""

    topic_id = IntegerField()
    key = TextField()
    priority = IntegerField()
    seq = BigIntegerField()
    tag = BigIntegerField()
    fingerprint = BlobField()
    created_ms = BigIntegerField()
    visible_ms = BigIntegerField()
    delete_ms = BigIntegerField(null=True)

    class Meta:
        without_rowid = True
        primary_key = CompositeKey("topic_id", "key")


class Failure(_Table):
    """A failure of a run's messages, all at once: the history that errors are listed from.

    ``generation`` is that of the claim which failed, so no two of a message are the same.
    """

    subscriber_id = IntegerField()
    priority = IntegerField()
    first_seq = BigIntegerField()
    generation = IntegerField()
    count = BigIntegerField(constraints=[Check("count > 0")])
    failed_ms = BigIntegerField()
    failure_count = IntegerField()
    error = TextField()

    class Meta:
        without_rowid = True
        primary_key = CompositeKey("subscriber_id", "priority", "first_seq", "generation")


class Schedule(_Table):
    """A message that is published again and again. ``next_run_ms`` is the wall's time."""

    id = AutoIncrementField()
    uid = TextField(unique=True)
    topic_id = IntegerField()
    name = TextField()
    cron = TextField()
    timezone = TextField()
    priority = IntegerField()
    paused = IntegerField(default=0)
    version = IntegerField()
    next_run_ms = BigIntegerField()
    created_ms = BigIntegerField()
    updated_ms = BigIntegerField()
    deleted_ms = BigIntegerField(null=True)
    message = BlobField()  # last: a large one pushes what follows out of the page


class ScheduleRun(_Table):
    """One occurrence of a schedule, and the message that was published for it, if any."""

    id = AutoIncrementField()
    schedule_id = IntegerField()
    scheduled_ms = BigIntegerField()
    status = IntegerField()
    started_ms = BigIntegerField()
    finished_ms = BigIntegerField(null=True)
    error = TextField(null=True)
    created_ms = BigIntegerField()
    priority = IntegerField(null=True)
    seq = BigIntegerField(null=True)
    tag = BigIntegerField(null=True)


class Token(_Table):
    """Who may do what over HTTP. Never removed; only the hash of the token is here.

    ``scopes`` is a JSON list of text. The limits are a TokenLimits; NULL: none.
    """

    id = AutoIncrementField()  # never reused: audit logs name it
    name = TextField()
    digest = BlobField()
    scopes = TextField()
    requests_per_s = FloatField(null=True)
    bytes_per_s = FloatField(null=True)
    polls = IntegerField(null=True)
    in_flight = IntegerField(null=True)
    created_ms = BigIntegerField()
    expires_ms = BigIntegerField(null=True)
    revoked_ms = BigIntegerField(null=True)
    used_ms = BigIntegerField(null=True)
    from_file = IntegerField()


# "blkq": tells our files from other programs' SQLite files.
APPLICATION_ID = 0x626C6B71

MODELS = (
    *(Meta, Topic, Subscriber, Lane, Block, Cursor, Delivery),
    *(Idempotency, Failure, Schedule, ScheduleRun, Token),
)

_INDEXES = (
    "CREATE UNIQUE INDEX topic_name ON topic (name) WHERE deleted_ms IS NULL",
    "CREATE UNIQUE INDEX subscriber_name ON subscriber (topic_id, name) WHERE deleted_ms IS NULL",
    "CREATE INDEX delivery_due ON delivery (subscriber_id, priority, state, due_ms)"
    " WHERE due_ms IS NOT NULL",
    "CREATE INDEX delivery_dead ON delivery (subscriber_id, priority, first_seq) WHERE state = 2",
    "CREATE INDEX cursor_lease_due ON cursor (lease_due_ms) WHERE lease_due_ms IS NOT NULL",
    "CREATE INDEX block_held ON block (topic_id, priority, first_seq) WHERE held = 1",
    "CREATE INDEX block_deletable ON block (delete_ms) WHERE delete_ms IS NOT NULL",
    "CREATE INDEX failure_together ON failure (subscriber_id, priority, first_seq) WHERE count > 1",
    "CREATE INDEX idempotency_place ON idempotency (topic_id, priority, seq)",
    "CREATE INDEX idempotency_deletable ON idempotency (delete_ms) WHERE delete_ms IS NOT NULL",
    "CREATE UNIQUE INDEX schedule_name ON schedule (topic_id, name) WHERE deleted_ms IS NULL",
    "CREATE INDEX schedule_due ON schedule (next_run_ms) WHERE paused = 0 AND deleted_ms IS NULL",
    "CREATE INDEX schedule_deleted ON schedule (id) WHERE deleted_ms IS NOT NULL",
    "CREATE UNIQUE INDEX schedule_run_time ON schedule_run (schedule_id, scheduled_ms)",
    "CREATE INDEX schedule_run_running ON schedule_run (schedule_id) WHERE status = 0",
    "CREATE INDEX schedule_run_finished ON schedule_run (finished_ms)"
    " WHERE finished_ms IS NOT NULL",
    "CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked_ms IS NULL",
    "CREATE UNIQUE INDEX token_digest ON token (digest)",
)


def _create_all(db: Database) -> None:
    """Make an empty file one of this version."""
    for model in MODELS:
        SchemaManager(model, database=db).create_table(safe=False)
    for statement in _INDEXES:
        db.execute_sql(statement)


def _add_block_times(db: Database) -> None:
    db.execute_sql("ALTER TABLE block ADD COLUMN created_ms INTEGER")


VERSION = 2

#: What leads on from each older version, and to which. All steps run in the one transaction of
#: ``migrate``. Never edit one that was released, other than the first: add one.
MIGRATIONS: dict[int, tuple[Callable[[Database], None], int]] = {
    0: (_create_all, VERSION),
    1: (_add_block_times, 2),
}


RECEIPT_SECRET = "receipt_secret"


def read_meta(db: Database, key: str, default: Callable[[], bytes]) -> bytes:
    """Return a fact about the file, made by ``default`` and stored if it is new."""
    query = Meta.select(Meta.value).where(Meta.key == key).tuples()
    for (value,) in query.execute(db):
        return bytes(value)
    made = default()
    Meta.insert(key=key, value=made).execute(db)
    return made


def _check_application(db: Database) -> None:
    """Refuse a database that belongs to another program; mark a new one as ours."""
    found = db.execute_sql("PRAGMA application_id").fetchone()[0]
    if found == APPLICATION_ID:
        return
    if found != 0 or db.execute_sql("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise DatabaseUnusable("the database belongs to another program")
    db.execute_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def migrate(db: Database) -> None:
    """Lead the file to this version, all or nothing. Call it under the write lock."""
    with db.atomic("immediate"):
        _check_application(db)
        found = db.execute_sql("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NewerSchema(
                f"the database has schema version {found}, this program knows up to {VERSION}: "
                "install a newer blockqueue"
            )
        while found < VERSION:
            step, found = MIGRATIONS[found]
            step(db)
            db.execute_sql(f"PRAGMA user_version = {found}")
