"""The writer: one commit for many callers, and what each is told when something fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from blockqueue import BlockQueue, ManualClock
from blockqueue.actors import Pool, Promise
from blockqueue.actors._engine import Engine
from blockqueue.actors._writer import Operation, WriterActor
from blockqueue.storage import (
    BlockQueueError,
    CommitUnknown,
    Conflict,
    DiskFull,
    QueueClosed,
    Store,
    Tx,
    ValidationError,
    Withdrawn,
)

from .embedded_helpers import WAIT_S, eventually, open_queue, park


class Desk:
    """An engine with a table of notes, and a writer that can be made to wait."""

    def __init__(self, directory: Path) -> None:
        self.fatal: list[BlockQueueError] = []
        self.store = Store(directory / "queue.db", clock=ManualClock())
        self.pool = Pool("test-actors", 2)
        self.engine = Engine(self.store, self.pool, idle_s=60, on_fatal=self.fatal.append)
        self.change(lambda tx: tx.execute("CREATE TABLE note (text)")).get(timeout=WAIT_S)

    def change(self, run: Any) -> Promise[Any]:
        return self.engine.change(run)

    def note(self, text: str) -> Promise[Any]:
        return self.change(lambda tx: add(tx, text))

    def notes(self) -> list[str]:
        with self.store.reading() as snapshot:
            return [row[0] for row in snapshot.rows("SELECT text FROM note ORDER BY rowid")]

    def hold(self) -> threading.Event:
        """Keep the writer busy until the event is set: what comes meanwhile is one group."""
        entered, let_go = threading.Event(), threading.Event()

        def wait(tx: Tx) -> None:
            entered.set()
            assert let_go.wait(WAIT_S)

        self.change(wait)
        assert entered.wait(WAIT_S)
        return let_go

    def close(self) -> None:
        self.engine.alarm.stop()
        self.engine.writer.stop(timeout=WAIT_S)
        assert self.pool.stop(WAIT_S)
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Start a writer and end it."""
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture(autouse=True)
def one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no slow disk cut a group short."""
    monkeypatch.setattr("blockqueue.actors._writer._GROUP_S_MAX", 60.0)


def add(tx: Tx, text: str) -> str:
    """Write a note."""
    tx.execute("INSERT INTO note VALUES (?)", (text,))
    return text


# One group.


def test_what_gathers_while_the_writer_is_busy_is_one_commit(desk: Desk) -> None:
    """A hundred callers share a commit; each gets its own answer."""
    let_go = desk.hold()
    before = desk.store.hints.commits
    promises = [desk.note(f"{number}") for number in range(100)]
    let_go.set()

    assert [promise.get(timeout=WAIT_S) for promise in promises] == [str(n) for n in range(100)]
    assert desk.store.hints.commits == before + 1
    assert desk.notes() == [str(number) for number in range(100)]


def test_an_operation_that_fails_before_it_changes_anything_fails_alone(desk: Desk) -> None:
    """The others are in the same commit as if it had not been there."""

    def fail(tx: Tx) -> None:
        raise Conflict("no")

    let_go = desk.hold()
    before = desk.store.hints.commits
    first, failing, last = desk.note("first"), desk.change(fail), desk.note("last")
    let_go.set()

    with pytest.raises(Conflict):
        failing.get(timeout=WAIT_S)
    assert first.get(timeout=WAIT_S) == "first"
    assert last.get(timeout=WAIT_S) == "last"
    assert desk.notes() == ["first", "last"]
    assert desk.store.hints.commits == before + 1


@pytest.mark.parametrize("error", [Conflict("no"), ZeroDivisionError("a bug")])
def test_what_fails_after_a_change_is_undone_and_the_others_happen_once(
    desk: Desk, error: Exception
) -> None:
    """The group is rolled back, and each runs again by itself."""
    runs: list[str] = []

    def fail(tx: Tx) -> None:
        add(tx, "half")
        raise error

    def counted(tx: Tx) -> str:
        runs.append("again")
        return add(tx, "first")

    let_go = desk.hold()
    first, failing, last = desk.change(counted), desk.change(fail), desk.note("last")
    let_go.set()

    with pytest.raises(type(error)):
        failing.get(timeout=WAIT_S)
    assert first.get(timeout=WAIT_S) == "first"
    assert last.get(timeout=WAIT_S) == "last"
    assert desk.notes() == ["first", "last"]
    assert len(runs) == 2


def test_a_withdrawn_operation_does_not_run(desk: Desk) -> None:
    """Its caller was told that nothing was written."""
    let_go = desk.hold()
    withdrawn, other = desk.note("withdrawn"), desk.note("other")
    assert withdrawn.withdraw("the caller has gone")
    let_go.set()

    assert other.get(timeout=WAIT_S) == "other"
    with pytest.raises(Withdrawn):
        withdrawn.get(timeout=WAIT_S)
    assert desk.notes() == ["other"]


def test_an_operation_that_has_begun_cannot_be_withdrawn(desk: Desk) -> None:
    """Its caller waits for how it ends."""
    entered, let_go = threading.Event(), threading.Event()

    def slow(tx: Tx) -> str:
        entered.set()
        assert let_go.wait(WAIT_S)
        return add(tx, "slow")

    promise = desk.change(slow)
    assert entered.wait(WAIT_S)
    assert not promise.withdraw("too late")
    let_go.set()

    assert promise.get(timeout=WAIT_S) == "slow"


def test_urgent_operations_go_first(desk: Desk) -> None:
    """Those who have messages in their hands are not held back by those who bring more."""
    let_go = desk.hold()
    later = desk.note("a publish")
    promise: Promise[Any] = Promise()
    desk.engine.write(
        Operation(lambda tx: add(tx, "an ack"), promise.begin, promise.finish, urgent=True)
    )
    let_go.set()

    later.get(timeout=WAIT_S)
    assert desk.notes() == ["an ack", "a publish"]


def test_a_group_ends_when_it_has_taken_long_enough(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones are not made to wait for the last ones' commit."""
    monkeypatch.setattr("blockqueue.actors._writer._GROUP_S_MAX", -1.0)
    let_go = desk.hold()
    before = desk.store.hints.commits
    promises = [desk.note(f"{number}") for number in range(3)]
    let_go.set()

    for promise in promises:
        promise.get(timeout=WAIT_S)
    assert desk.store.hints.commits == before + 3


# The end.


def test_what_came_before_the_stop_is_written_and_what_came_after_is_refused(
    tmp_path: Path,
) -> None:
    """Nobody is left without an answer."""
    desk = Desk(tmp_path)
    let_go = desk.hold()
    before = desk.note("before")
    stopped = desk.engine.writer.stop(block=False)
    after = desk.note("after")
    let_go.set()

    assert before.get(timeout=WAIT_S) == "before"
    with pytest.raises(QueueClosed, match="nothing was written"):
        after.get(timeout=WAIT_S)
    assert stopped.get(timeout=WAIT_S)
    with pytest.raises(QueueClosed, match="nothing was written"):
        desk.note("much later").get(timeout=WAIT_S)
    assert desk.notes() == ["before"]
    desk.close()


# A full disk.


def limit_pages(tx: Tx, room: int | None) -> None:
    """Let the database grow by ``room`` pages and no more; None: as large as it likes."""
    (count,) = tx.row("PRAGMA page_count") or (0,)
    tx.row(f"PRAGMA max_page_count = {2**30 if room is None else count + room}")


def test_a_full_disk_fails_what_needs_room_and_the_writer_lives(desk: Desk) -> None:
    """SQLite rolls the whole group back; what fits is written, and later all is well."""
    desk.change(lambda tx: limit_pages(tx, 2)).get(timeout=WAIT_S)
    let_go = desk.hold()
    big = "x" * 100_000
    promises = [desk.note("a"), desk.note(big), desk.note("b"), desk.note(big)]
    let_go.set()

    assert promises[0].get(timeout=WAIT_S) == "a"
    assert promises[2].get(timeout=WAIT_S) == "b"
    for promise in (promises[1], promises[3]):
        with pytest.raises(DiskFull, match="nothing was written"):
            promise.get(timeout=WAIT_S)
    assert desk.notes() == ["a", "b"]

    desk.change(lambda tx: limit_pages(tx, None)).get(timeout=WAIT_S)
    assert desk.note(big).get(timeout=WAIT_S) == big
    assert desk.fatal == []


def test_a_disk_that_is_full_at_the_commit_fails_that_commit_only(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written then, and the next one may succeed."""
    break_commits(desk.store, monkeypatch, sqlite_error(apsw.FullError, 13), times=3)
    promise = desk.note("a")

    with pytest.raises(DiskFull, match="nothing was written"):
        promise.get(timeout=WAIT_S)
    assert desk.notes() == []
    assert desk.note("b").get(timeout=WAIT_S) == "b"
    assert desk.fatal == []


# A broken disk.


def sqlite_error(kind: type[apsw.Error], code: int) -> apsw.Error:
    """Make an error as apsw raises it."""
    error = kind("the disk has a bad day")
    vars(error).update(result=code, extendedresult=code)
    return error


class FailingConnection:
    """A connection whose COMMIT fails some times."""

    def __init__(self, connection: Any, error: Exception, times: int) -> None:
        self._connection = connection
        self._error = error
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT" and self._times:
            self._times -= 1
            raise self._error
        return self._connection.execute(sql, *args)


def break_commits(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int = 1
) -> None:
    """Let the next commits of a store fail."""
    failing = FailingConnection(store._connection, error, times)
    monkeypatch.setattr(store, "_connection", failing)


def test_a_disk_error_at_the_commit_leaves_it_unknown_and_ends_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the group are told so; those who come later, that nothing was written."""
    desk = Desk(tmp_path)
    error = sqlite_error(apsw.IOError, 10)
    let_go = desk.hold()
    promises = [
        desk.change(lambda tx: break_commits(desk.store, monkeypatch, error)),
        desk.note("a"),
        desk.note("b"),
    ]
    let_go.set()

    for promise in promises:
        with pytest.raises(CommitUnknown, match="may have been written or not"):
            promise.get(timeout=WAIT_S)
    with pytest.raises(QueueClosed, match="nothing was written, the queue has stopped"):
        desk.note("c").get(timeout=WAIT_S)
    desk.close()
    assert [type(error) for error in desk.fatal] == [CommitUnknown]


def test_a_queue_whose_commit_is_unknown_refuses_work_until_it_is_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody gets a clear error at once, also who has been waiting for messages."""
    fatal: list[BlockQueueError] = []
    with open_queue(tmp_path, on_fatal=fatal.append) as (queue, clock):
        queue.publish("cart", "before")
        (delivery,) = queue.claim("cart", "worker")
        waiting = park(queue)
        break_commits(queue.system.store, monkeypatch, sqlite_error(apsw.IOError, 10))

        with pytest.raises(CommitUnknown, match="may have been written or not"):
            queue.publish("cart", "unknown")

        with pytest.raises(QueueClosed, match="the queue has stopped"):
            waiting.get(timeout=WAIT_S)
        for use in (
            lambda: queue.publish("cart", "after"),
            lambda: queue.claim("cart", "worker"),
            lambda: queue.create_topic("other", ["worker"]),
            lambda: queue.topics(),
            delivery.ack,
        ):
            with pytest.raises(QueueClosed, match="has stopped"):
                use()
        assert queue.close()
        assert [type(error) for error in fatal] == [CommitUnknown]

    clock = ManualClock()
    with BlockQueue(tmp_path / "queue.db", clock=clock) as queue:
        queue.publish("cart", "after")
        found = {each.message for each in queue.claim("cart", "worker")}
        assert {"after"} <= found <= {"unknown", "after"}
        (status,) = queue.subscribers("cart")
        assert (status.waiting, status.leased, status.dead) == (0, 1 + len(found), 0)


def test_an_on_fatal_that_fails_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called by the writer's thread, which has others to answer."""
    calls: list[BlockQueueError] = []

    def fatal(error: BlockQueueError) -> None:
        calls.append(error)
        raise RuntimeError("and so am I")

    with open_queue(tmp_path, on_fatal=fatal) as (queue, _):
        break_commits(queue.system.store, monkeypatch, sqlite_error(apsw.IOError, 10))
        with pytest.raises(CommitUnknown):
            queue.publish("cart", "unknown")
        with pytest.raises(QueueClosed):
            queue.publish("cart", "after")
        eventually(lambda: len(calls) == 1)


def test_an_operation_that_cannot_take_its_answer_spares_the_others(desk: Desk) -> None:
    """They are in the same group, and it is written."""

    def fail(value: object, error: BaseException | None) -> None:
        raise ZeroDivisionError("a bug")

    let_go = desk.hold()
    desk.engine.write(Operation(lambda tx: None, lambda: True, fail))
    other = desk.note("other")
    let_go.set()

    assert other.get(timeout=WAIT_S) == "other"
    assert desk.note("later").get(timeout=WAIT_S) == "later"


def test_a_bug_in_the_writer_stops_the_queue_and_answers_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had begun may be written or not; what it had not begun is not."""
    desk = Desk(tmp_path)
    run_group = WriterActor._run_group

    def fail(actor: WriterActor, *args: Any) -> None:
        run_group(actor, *args)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(WriterActor, "_run_group", fail)
    begun = desk.note("begun")

    with pytest.raises(CommitUnknown, match="may have been written or not"):
        begun.get(timeout=WAIT_S)
    with pytest.raises(QueueClosed, match="nothing was written"):
        desk.note("later").get(timeout=WAIT_S)
    desk.close()
    assert len(desk.fatal) == 1


def test_an_operation_whose_input_is_wrong_harms_no_other(tmp_path: Path) -> None:
    """Even one that reaches the writer only there turns out to be wrong."""
    with open_queue(tmp_path) as (queue, _):

        def wrong(tx: Tx) -> None:
            raise ValidationError("wrong")

        with pytest.raises(ValidationError):
            queue.system.change(wrong, WAIT_S)
        assert queue.publish("cart", "right").id
