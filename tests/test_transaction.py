"""A program's own writes and the queue's in one transaction: both happen, or neither."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import peewee
import pytest

from blockqueue import (
    BlockQueue,
    CommitUnknown,
    Conflict,
    IdempotencyConflict,
    Job,
    LeaseLost,
    ManualClock,
    Message,
    MessageNotFound,
    NoSubscribers,
    QueueClosed,
    State,
    TopicNotFound,
    TransactionExpired,
    Unavailable,
    ValidationError,
    Worker,
)
from blockqueue.storage._foreign import ForeignTx
from blockqueue.storage._guard import Guard

from .embedded_helpers import WAIT_S, background, claim, eventually, messages, park, together


@contextmanager
def raising(kind: type[Exception], match: str | None = None) -> Iterator[None]:
    """Expect an error that leaves a block of several statements."""
    with pytest.raises(kind, match=match):
        yield


@pytest.fixture
def orders(queue: BlockQueue) -> BlockQueue:
    """The queue of the other tests, with a table of the program's own."""
    with queue.transaction() as tx:
        tx.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    return queue


def names(queue: BlockQueue) -> list[str]:
    with queue.transaction() as tx:
        return [name for (name,) in tx.execute("SELECT name FROM orders ORDER BY id")]


def insert(tx: Any, name: str) -> None:
    tx.execute("INSERT INTO orders (name) VALUES (?)", (name,))


# Both or neither.


def test_what_is_written_and_published_is_committed_together(orders: BlockQueue) -> None:
    """The receipts know their ids before, and whether the message is a duplicate."""
    earlier = orders.publish("cart", "old", idempotency_key="k")
    with orders.transaction() as tx:
        insert(tx, "book")
        assert tx.changes == 1
        receipt = orders.publish("cart", "hi", tx=tx)
        again = orders.publish("cart", "old", idempotency_key="k", tx=tx)
        many = orders.publish_many("cart", ["a", Message("b", priority=3)], tx=tx)

    assert (receipt.state, again.state, many[1].state) == ("staged",) * 3
    assert (again.id, again.duplicate, receipt.duplicate) == (earlier.id, True, False)
    assert names(orders) == ["book"]
    assert [each.message for each in claim(orders)] == ["b", "old", "hi", "a"]
    assert orders.message("cart", receipt.id).id == receipt.id


def test_an_exception_undoes_both(orders: BlockQueue) -> None:
    """The message was never there, and the delivery is still in our hands."""
    orders.publish("cart", "held")
    (held,) = claim(orders)
    with raising(KeyError), orders.transaction() as tx:
        insert(tx, "book")
        receipt = orders.publish("cart", "hi", tx=tx)
        held.ack(tx=tx)
        raise KeyError
    assert names(orders) == []
    with pytest.raises(MessageNotFound):
        orders.message("cart", receipt.id)
    held.nack()


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("ack", State.PROCESSED),
        ("complete", State.PROCESSED),
        ("nack", State.WAITING),
        ("snooze", State.WAITING),
        ("cancel", State.CANCELLED),
    ],
)
def test_a_delivery_is_settled_with_the_transaction(
    orders: BlockQueue, verb: str, state: State
) -> None:
    """Not before, and not if it is rolled back."""
    receipt = orders.publish("cart", "hi")
    (held,) = claim(orders)
    options: dict[str, Any] = {"delay": 60} if verb == "snooze" else {}

    def state_now() -> State:
        return orders.message("cart", receipt.id).deliveries[0].state

    with raising(KeyError), orders.transaction() as tx:
        getattr(held, verb)(**options, tx=tx)
        raise KeyError
    assert state_now() is State.LEASED
    with orders.transaction() as tx:
        getattr(held, verb)(**options, tx=tx)
        assert state_now() is State.LEASED
    assert state_now() is state


def test_a_lost_lease_undoes_what_was_to_go_with_it(orders: BlockQueue, clock: ManualClock) -> None:
    """That is what the transaction is for."""
    orders.publish("cart", "hi")
    (held,) = claim(orders, lease=1)
    clock.advance(1000)
    with raising(LeaseLost), orders.transaction() as tx:
        insert(tx, "book")
        held.complete(tx=tx)
    assert names(orders) == []


def test_a_call_that_fails_leaves_no_half_of_it(orders: BlockQueue) -> None:
    """Whoever catches its error may go on: the rest is committed."""
    orders.create_topic("empty", ["worker"])
    orders.delete_subscriber("empty", "worker")
    orders.publish("cart", "old", idempotency_key="k")
    with orders.transaction() as tx:
        insert(tx, "book")
        with pytest.raises(NoSubscribers):
            orders.publish("empty", "hi", tx=tx)
        with pytest.raises(TopicNotFound):
            orders.publish("nowhere", "hi", tx=tx)
        with pytest.raises(IdempotencyConflict):
            orders.publish_many("cart", ["no", Message("new", idempotency_key="k")], tx=tx)
        orders.publish("cart", "hi", tx=tx)
    assert names(orders) == ["book"]
    assert [each.message for each in claim(orders)] == ["old", "hi"]


def test_who_waits_is_woken_by_the_commit_and_not_before(orders: BlockQueue) -> None:
    """What is staged shows nowhere."""
    waiting = park(orders)
    with orders.transaction() as tx:
        orders.publish("cart", "hi", tx=tx)
        (status,) = orders.subscribers("cart")
        assert status.waiting == 0
        assert not waiting.is_done
    assert messages(waiting.get(timeout=WAIT_S)) == ["hi"]


def test_many_threads_take_turns(orders: BlockQueue) -> None:
    """No update is lost, also with plain publishes in between."""
    with orders.transaction() as tx:
        tx.execute("CREATE TABLE stock (number INTEGER NOT NULL)")
        tx.execute("INSERT INTO stock VALUES (0)")

    def work(number: int) -> None:
        for _ in range(10):
            with orders.transaction() as tx:
                ((stock,),) = tx.execute("SELECT number FROM stock")
                orders.publish("cart", f"{number}", tx=tx)
                tx.execute("UPDATE stock SET number = ?", (stock + 1,))
            orders.publish("cart", "plain")

    together(6, work)
    with orders.transaction() as tx:
        assert tx.execute("SELECT number FROM stock") == [(60,)]
    assert len(claim(orders, limit=1000)) == 120


# What it must not be used for.


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM topic",
        "UPDATE lane SET end_seq = 7",
        "INSERT INTO meta VALUES ('secret', x'00')",
        "UPDATE sqlite_sequence SET seq = 0",
        "DELETE FROM sqlite_sequence",
        "DROP TABLE block",
        "ALTER TABLE topic RENAME TO subject",
        "CREATE INDEX mine ON topic (name)",
        "CREATE TRIGGER mine AFTER INSERT ON topic BEGIN SELECT 1; END",
        "COMMIT",
        "ROLLBACK",
        "PRAGMA synchronous = OFF",
        "ATTACH ':memory:' AS other",
        "CREATE TEMP TABLE mine (id)",
        "SELECT 1; DELETE FROM topic",
    ],
)
def test_the_queues_own_tables_and_the_transaction_are_protected(
    orders: BlockQueue, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the transaction goes on. Without the guard, as a control, it would be done."""
    with orders.transaction() as tx:
        insert(tx, "book")
        with pytest.raises(ValidationError, match="own tables"):
            tx.execute(sql)
        orders.publish("cart", "hi", tx=tx)
    assert names(orders) == ["book"]
    assert len(claim(orders)) == 1

    monkeypatch.setattr(Guard, "__call__", lambda *_: apsw.SQLITE_OK)
    with raising(KeyError), orders.transaction() as tx:
        try:
            tx.execute(sql)
        except apsw.Error:  # it fails by itself, or has ended the transaction
            pass
        raise KeyError


def test_a_table_of_ones_own_can_come_and_go(orders: BlockQueue) -> None:
    """With indexes, triggers, and numbers of its own."""
    with orders.transaction() as tx:
        tx.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)")
        tx.execute("CREATE INDEX mine_name ON mine (name)")
        tx.execute("INSERT INTO mine (name) VALUES (:name)", {"name": "a"})
        assert tx.execute("PRAGMA table_info(mine)")[1][1] == "name"
        tx.execute("DROP TABLE mine")
        with pytest.raises(ValidationError):
            tx.execute("DELETE FROM sqlite_sequence")


def test_plain_calls_inside_are_refused_instead_of_waiting_for_themselves(
    orders: BlockQueue,
) -> None:
    """Each says what to do; to look is fine; afterwards all is well."""
    with orders.transaction() as tx:
        for call in (
            lambda: orders.publish("cart", "hi"),
            lambda: orders.claim("cart", "worker"),
            lambda: orders.create_topic("mail", ["worker"]),
            orders.close,
            lambda: orders.transaction().__enter__(),
        ):
            with pytest.raises(Conflict, match="give tx="):
                call()
        assert len(orders.subscribers("cart")) == 1
        orders.publish("cart", "hi", tx=tx)
    orders.publish("cart", "hi")
    assert len(claim(orders)) == 2


def test_it_is_used_on_its_thread_and_in_its_block_only(orders: BlockQueue, tmp_path: Path) -> None:
    """And with its own queue."""
    with orders.transaction() as tx:
        with pytest.raises(Conflict, match="thread that opened it"):
            background(lambda: tx.execute("SELECT 1")).result(WAIT_S)
        with BlockQueue(tmp_path / "other.db") as other:
            other.create_topic("cart", ["worker"])
            with pytest.raises(Conflict, match="another queue's"):
                other.publish("cart", "hi", tx=tx)
    for late in (lambda: tx.execute("SELECT 1"), lambda: orders.publish("cart", "hi", tx=tx)):
        with pytest.raises(Conflict, match="has ended"):
            late()


def test_one_that_is_open_too_long_is_rolled_back_by_its_next_use(
    orders: BlockQueue, clock: ManualClock
) -> None:
    """Even if that error is swallowed; others go on."""
    with raising(Unavailable, match="rolled back"), orders.transaction() as tx:
        insert(tx, "book")
        clock.advance(4_999)
        insert(tx, "pen")
        clock.advance(1)
        with pytest.raises(Unavailable, match="open for more than 5 s"):
            orders.publish("cart", "hi", tx=tx)
        with pytest.raises(Unavailable, match="has been rolled back"):
            insert(tx, "ink")
    with raising(Unavailable, match="open for more than 5 s"), orders.transaction() as tx:
        insert(tx, "book")
        clock.advance(5_000)
    assert names(orders) == []
    orders.publish("cart", "hi")


class Idler:
    """A thread with a transaction open, in the middle of which it stands still."""

    def __init__(self, queue: BlockQueue, **options: Any) -> None:
        self._queue = queue
        self._options = options
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._ended = background(self._work)
        assert self._begun.wait(WAIT_S)

    def _work(self) -> str:
        with self._queue.transaction(**self._options) as tx:
            insert(tx, "book")
            self._begun.set()
            assert self._go_on.wait(WAIT_S)
            self._queue.publish("cart", "from the idler", tx=tx)
        return "committed"

    def go_on(self) -> str:
        """Let it publish and come to its end; return how that was."""
        self._go_on.set()
        return self._ended.result(WAIT_S)


@pytest.fixture(params=["thread", "process"])
def other(request: pytest.FixtureRequest, orders: BlockQueue, clock: ManualClock) -> Iterator[Any]:
    """Who waits for its turn to write: another thread, or as good as another process."""
    if request.param == "thread":
        yield orders
    else:
        with BlockQueue(_database_path(orders), clock=clock) as opened:
            yield opened


def _database_path(queue: BlockQueue) -> str:
    return queue.system.store.path


def test_one_that_stands_still_is_rolled_back_for_those_who_wait(
    orders: BlockQueue, other: BlockQueue, clock: ManualClock
) -> None:
    """It holds nobody up for longer than it may, and learns it when it goes on."""
    idler = Idler(orders)
    waiting = background(lambda: other.publish("cart", "hi"))
    clock.advance(4_999)
    assert not waiting.done()
    clock.advance(501)
    waiting.result(WAIT_S)
    with pytest.raises(TransactionExpired, match="open for more than 5 s"):
        idler.go_on()
    assert names(orders) == []
    assert [each.message for each in claim(orders)] == ["hi"]


def test_control_one_that_is_never_put_out_holds_all_up(
    orders: BlockQueue, other: BlockQueue, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ForeignTx, "put_out", lambda self: False)
    idler = Idler(orders)
    waiting = background(lambda: other.publish("cart", "hi"))
    clock.advance(60_000)
    with pytest.raises(TimeoutError):
        waiting.result(0.5)
    assert idler.go_on() == "committed"
    waiting.result(WAIT_S)
    assert names(orders) == ["book"]


def test_one_that_was_put_out_leaves_the_next_one_alone(
    orders: BlockQueue, clock: ManualClock
) -> None:
    """They use one connection: neither its end nor its uses may touch what another has."""
    idler = Idler(orders)
    clock.advance(5_500)
    with orders.transaction() as tx:
        insert(tx, "pen")
        with pytest.raises(TransactionExpired):
            idler.go_on()
        with pytest.raises(ValidationError, match="own tables"):
            tx.execute("DELETE FROM topic")
        orders.publish("cart", "hi", tx=tx)
    assert names(orders) == ["pen"]
    assert [each.message for each in claim(orders)] == ["hi"]


def test_what_is_read_half_is_closed_with_it(orders: BlockQueue, clock: ManualClock) -> None:
    """And its reader is told, whichever way it reads on."""
    with raising(TransactionExpired), orders.transaction() as tx:
        for name in ("book", "pen"):
            insert(tx, name)
        cursor = tx.database.execute_sql("SELECT name FROM orders")
        assert cursor.fetchone() == ("book",)
        clock.advance(5_500)
        background(lambda: orders.publish("cart", "hi")).result(WAIT_S)
        for read in (cursor.fetchone, cursor.fetchall, lambda: next(cursor)):
            with pytest.raises(TransactionExpired):
                read()


@pytest.mark.parametrize("timeout", [0, -1, 60.001, "soon"])
def test_how_long_it_may_be_open_has_limits(orders: BlockQueue, timeout: Any) -> None:
    with raising(ValidationError, match="timeout"), orders.transaction(timeout):
        raise AssertionError


def test_errors_of_sql_are_the_callers_own(orders: BlockQueue) -> None:
    """Also one that comes with the commit, or that rolls all of it back: the queue lives on."""
    with raising(apsw.ConstraintError), orders.transaction() as tx:
        insert(tx, None)  # type: ignore[arg-type]
    with orders.transaction() as tx:
        tx.execute(
            "CREATE TABLE lines (id INTEGER PRIMARY KEY, order_id INTEGER"
            " REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)"
        )
    with raising(apsw.ConstraintError), orders.transaction() as tx:
        tx.execute("INSERT INTO lines (order_id) VALUES (999)")
        orders.publish("cart", "hi", tx=tx)
    with raising(Unavailable, match="has been rolled back"), orders.transaction() as tx:
        with pytest.raises(apsw.ConstraintError):
            tx.execute("INSERT OR ROLLBACK INTO orders (name) VALUES (NULL)")
        insert(tx, "book")
    assert names(orders) == []
    assert claim(orders) == []
    orders.publish("cart", "hi")


# Peewee.


class Order(peewee.Model):
    """A model that is bound to nothing else."""

    name = peewee.TextField(unique=True)


class Line(peewee.Model):
    """One that refers to another."""

    order = peewee.ForeignKeyField(Order, backref="lines")


def test_peewees_models_are_bound_while_it_lasts(queue: BlockQueue) -> None:
    """With what they refer to; atomic is a savepoint inside."""
    with queue.transaction() as tx:
        tx.bind(Line)
        tx.database.create_tables([Order, Line])
        order = Order.create(name="book")
        Line.create(order=order)
        queue.publish("cart", "hi", tx=tx)
    with queue.transaction() as tx:
        tx.bind(Line)
        assert [line.order.name for line in Line.select().join(Order)] == ["book"]
        with raising(KeyError), tx.database.atomic():
            Order.create(name="pen")
            raise KeyError
        with raising(peewee.IntegrityError), tx.database.atomic():
            Order.create(name="book")
        with pytest.raises(peewee.DatabaseError):
            tx.database.execute_sql("DELETE FROM topic").fetchall()
        assert Order.select().count() == 1
    with raising(KeyError), queue.transaction() as tx:
        tx.bind(Order)
        Order.create(name="ink")
        raise KeyError
    with queue.transaction() as tx:
        assert [each.name for each in Order.select().execute(tx.database)] == ["book"]
    with pytest.raises(AttributeError):
        Order.get()


class Note(peewee.Model):
    """A model that has a database of its own, elsewhere."""

    text = peewee.TextField()


def test_other_threads_keep_the_database_that_a_model_was_bound_to(
    queue: BlockQueue, tmp_path: Path
) -> None:
    """Also in the middle of the transaction."""
    elsewhere = type(_database(queue))(str(tmp_path / "elsewhere.db"))
    elsewhere.bind([Note])
    elsewhere.create_tables([Note])
    with queue.transaction() as tx:
        tx.bind(Note)
        tx.database.create_tables([Note])
        Note.create(text="here")
        background(lambda: Note.create(text="there")).result(WAIT_S)
        assert [each.text for each in Note.select()] == ["here"]
        assert background(lambda: Note.get().text).result(WAIT_S) == "there"
    assert [each.text for each in Note.select()] == ["there"]


def _database(queue: BlockQueue) -> peewee.Database:
    from playhouse.apsw_ext import APSWDatabase

    return APSWDatabase(":memory:")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("closing", [True, False])
def test_what_was_read_half_does_not_outlive_it(
    orders: BlockQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool, closing: bool
) -> None:
    """A query that is still referred to does not keep the queue from writing.

    Without the closing, as a control, it would for good, once another process has written.
    """
    if not closing:
        forgetful = property(lambda _: set(), lambda *_: None)
        monkeypatch.setattr(ForeignTx, "_cursors", forgetful, raising=False)
    for name in ("book", "pen"):
        with orders.transaction() as tx:
            tx.bind(Entry)
            insert(tx, name)
    query = Entry.select().order_by(peewee.SQL("id"))
    kept: list[Any] = []
    with contextlib.suppress(KeyError), orders.transaction() as tx:
        tx.bind(Entry)
        kept.append(query.iterator())
        assert next(kept[0]).name == "book"
        if fails:
            raise KeyError
    with BlockQueue(tmp_path / "queue.db") as other:
        other.publish("cart", "there")

    if closing:
        orders.publish("cart", "here")
        assert len(claim(orders)) == 2
        with pytest.raises(apsw.CursorClosedError):
            next(kept[0])
    else:
        with pytest.raises(Unavailable, match="another program holds"):
            orders.publish("cart", "here")


class Entry(peewee.Model):
    """What the table of the other tests holds."""

    name = peewee.TextField()

    class Meta:
        table_name = "orders"


def test_in_real_time_it_is_put_out_whether_or_not_anybody_waits(real: BlockQueue) -> None:
    idler = Idler(real, timeout="300ms")
    eventually(lambda: real.system.store.turns.guest is None)
    real.publish("cart", "hi")
    with pytest.raises(TransactionExpired, match=r"more than 0\.3 s"):
        idler.go_on()
    assert names(real) == []


# With a worker.


@pytest.fixture
def real(tmp_path: Path) -> Iterator[BlockQueue]:
    """A queue in real time."""
    with BlockQueue(tmp_path / "real.db") as queue:
        queue.create_topic("cart", ["counter"])
        with queue.transaction() as tx:
            tx.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        yield queue


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_commits_its_writes_with_its_ack(real: BlockQueue, fails: bool) -> None:
    """Nothing follows it; if its transaction fails the job is nacked, and nothing is written."""
    receipt = real.publish("cart", "book")
    ended = threading.Event()

    def handle(name: str, job: Job) -> None:
        try:
            with real.transaction() as tx:
                insert(tx, name)
                job.complete(tx=tx)
                with pytest.raises(Conflict):
                    job.ack(tx=tx)
                if fails:
                    raise KeyError(name)
        finally:
            ended.set()

    with Worker(real, "cart", "counter", handle) as worker:
        assert ended.wait(WAIT_S)
        eventually(lambda: worker.stats.active == 0 and worker.stats.nacked == fails)

    (delivery,) = real.message("cart", receipt.id).deliveries
    assert delivery.state is (State.WAITING if fails else State.PROCESSED)
    assert worker.stats.processed == 0
    assert names(real) == ([] if fails else ["book"])


# When the disk fails.


def test_a_commit_that_may_have_happened_is_said_to_be_unknown(
    orders: BlockQueue,
) -> None:
    """The queue refuses all further work until it is opened anew."""
    with raising(CommitUnknown, "may have been written or not"), orders.transaction() as tx:
        insert(tx, "book")
        fail_commits(orders)
    with pytest.raises(QueueClosed):
        orders.publish("cart", "hi")
    with pytest.raises(QueueClosed), orders.transaction():
        pass


def fail_commits(queue: BlockQueue) -> None:
    """Let the disk fail at the next commit, and not before."""
    store = queue.system.store
    connection = store._connection

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

        def execute(self, sql: str, *params: Any) -> Any:
            if sql == "COMMIT":
                raise apsw.IOError("disk I/O error")
            return connection.execute(sql, *params)

    store._connection = Failing()  # type: ignore[assignment]
