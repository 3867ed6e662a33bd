"""Opening a file: what is refused, what is kept, and what two who open it see."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from blockqueue.storage import (
    Ack,
    AlreadyExists,
    Batch,
    Body,
    DatabaseUnusable,
    ManualClock,
    NewerSchema,
    QueueClosed,
    Store,
    Subscriber,
    Tx,
    Unavailable,
    _schema,
    claim,
    claim_in,
    create_topic,
    expire_in,
    pack_messages,
    publish_in,
    settle,
    topic_named,
    topics,
)
from blockqueue.storage._clock import StoredClock, boot_id
from blockqueue.storage._database import check_sqlite_version, connect

from .storage_helpers import handles, open_queue, rolled_back


def change_file(path: Path, sql: str, *params: object) -> None:
    """Write to a file that nobody has open."""
    connection = apsw.Connection(str(path))
    connection.execute(sql, params)
    connection.close()


def open_descriptors() -> int:
    """Count this process's open files."""
    return len(os.listdir("/dev/fd"))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An old program must not write what it does not understand; the text says what to do."""
    path = tmp_path / "queue.db"
    Store(path).close()
    change_file(path, "PRAGMA user_version = 99")

    with pytest.raises(NewerSchema, match=r"schema version 99.*install a newer blockqueue"):
        Store(path)


def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Somebody's letter is not overwritten."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)

    with pytest.raises(DatabaseUnusable, match="not a database"):
        Store(path)

    assert path.read_text() == "Dear Sir or Madam, " * 100


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """The text says that it is one."""
    with pytest.raises(DatabaseUnusable, match="is a directory"):
        Store(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """It is not made: a typing error should not look like an empty queue."""
    with pytest.raises(DatabaseUnusable, match="directory is missing"):
        Store(tmp_path / "nowhere" / "queue.db")

    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_directory_that_cannot_be_written_is_refused() -> None:
    """Nobody can make a file in /proc, root neither."""
    with pytest.raises(DatabaseUnusable, match=r"cannot open /proc/queue\.db"):
        Store("/proc/queue.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    """What everybody but root runs into."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DatabaseUnusable, match="cannot open"):
            Store(tmp_path / "queue.db")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_was_refused_leaves_nothing_open(tmp_path: Path) -> None:
    """Trying again and again must not use up the descriptors."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(DatabaseUnusable):
        Store(path)
    before = open_descriptors()

    for _ in range(5):
        with pytest.raises(DatabaseUnusable):
            Store(path)

    assert open_descriptors() == before


def test_an_old_sqlite_is_refused() -> None:
    """The text names the version found, the one needed, and the package to upgrade."""
    with pytest.raises(DatabaseUnusable, match=r"SQLite 3\.40\.1 .* 3\.51\.3 .* upgrade apsw"):
        check_sqlite_version("3.40.1")


@pytest.mark.parametrize("found", ["3.51.3", "3.53.0", "4.0.0"])
def test_a_new_sqlite_is_fine(found: str) -> None:
    """Numbers are compared, not letters."""
    check_sqlite_version(found)


def test_the_pragmas_are_set_on_every_connection(tmp_path: Path) -> None:
    """A commit is on the disk when it returns; room can be given back to it."""
    expected = {
        "synchronous": 2,
        "journal_mode": "wal",
        "auto_vacuum": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "mmap_size": 0,
        "wal_autocheckpoint": 0,
    }
    store = Store(tmp_path / "queue.db")

    with store.transaction() as tx:
        assert {name: tx.rows(f"PRAGMA {name}")[0][0] for name in expected} == expected
    with store.reading() as snapshot:
        assert {name: snapshot.rows(f"PRAGMA {name}")[0][0] for name in expected} == expected
        with pytest.raises(apsw.ReadOnlyError):
            snapshot.execute("DELETE FROM topic")
    store.close()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """Messages and the secret are nobody else's business."""
    store = Store(tmp_path / "queue.db")

    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}

    assert modes == dict.fromkeys(modes, 0o600)
    assert {"queue.db", "queue.db-wal"} <= modes.keys()
    store.close()


def test_the_secret_and_the_receipts_survive_a_reopening(tmp_path: Path) -> None:
    """A consumer may ack after the server was restarted."""
    queue = open_queue(tmp_path)
    queue.publish(["text"])
    held = claim(queue.store, queue.subscriber_id, 1)[0]
    secret = queue.store.secret
    queue.store.close()

    store = Store(tmp_path / "queue.db", clock=queue.clock)

    assert store.secret == secret
    handle = msgspec.structs.replace(handles([held])[0], proof=held.receipt_token)
    settled = settle(store, queue.subscriber_id, Ack(), [handle])
    assert [each.outcome.value for each in settled] == ["done"]
    store.close()


def test_two_files_have_two_secrets(tmp_path: Path) -> None:
    """A receipt of one is worth nothing to the other."""
    one, other = Store(tmp_path / "one.db"), Store(tmp_path / "other.db")

    assert one.secret != other.secret
    one.close()
    other.close()


def test_two_stores_on_one_file_see_each_others_commits(tmp_path: Path) -> None:
    """At once, in reads and in writes, and both see the commits counted."""
    clock = ManualClock()
    one = Store(tmp_path / "queue.db", clock=clock)
    other = Store(tmp_path / "queue.db", clock=clock)
    commits = other.hints.commits

    create_topic(one, "topic", [Subscriber("worker")])

    with other.reading() as snapshot:
        assert topic_named(snapshot, "topic").name == "topic"
    assert other.hints.commits == one.hints.commits == commits + 1
    with pytest.raises(AlreadyExists):
        create_topic(other, "topic", [Subscriber("worker")])
    one.close()
    with other.reading() as snapshot:
        assert len(topics(snapshot)) == 1
    other.close()


def test_the_clock_never_goes_back_across_a_reopening(tmp_path: Path) -> None:
    """Nor for a second store beside the first."""
    path = tmp_path / "queue.db"
    times: list[int] = []
    for _ in range(3):
        store, beside = Store(path), Store(path)
        times += [store.clock.now_ms(), beside.clock.now_ms(), store.clock.now_ms()]
        store.close()
        beside.close()

    assert times == sorted(times)


@pytest.mark.parametrize("boot", [boot_id, lambda: "another boot"])
def test_the_clock_starts_after_the_last_time_that_was_stored(
    tmp_path: Path, boot: Callable[[], str]
) -> None:
    """Even if the machine booted since and its wall clock is a century behind."""
    path = tmp_path / "queue.db"
    store = Store(path)
    future_ms = store.clock.now_ms() + 100 * 365 * 86_400_000
    store.close()
    stored = StoredClock(boot(), 0, future_ms)
    change_file(path, "UPDATE meta SET value = ? WHERE key = 'clock'", stored.pack())

    store = Store(path)

    now_ms = store.clock.now_ms()
    again = Store(path)
    assert future_ms < now_ms <= again.clock.now_ms()
    store.close()
    again.close()


def test_a_closed_store_refuses_work_and_closes_again(tmp_path: Path) -> None:
    """A clear error, not one of the driver's."""
    store = Store(tmp_path / "queue.db")
    store.close()
    store.close()

    with pytest.raises(QueueClosed), store.reading():
        pass
    with pytest.raises(QueueClosed), store.transaction():
        pass
    with pytest.raises(QueueClosed):
        store.checkpoint()


def test_a_reader_that_waits_for_a_connection_learns_of_the_close(tmp_path: Path) -> None:
    """It must not wait for ever for a connection that nobody will give back."""
    store = Store(tmp_path / "queue.db")
    waits = threading.Event()
    goes_on = threading.Event()
    check_usable = store.check_usable
    caught: list[BaseException] = []

    def check_once_then_wait() -> None:
        check_usable()
        waits.set()
        assert goes_on.wait(10)

    def read() -> None:
        try:
            with store.reading():
                pass
        except QueueClosed as error:
            caught.append(error)

    store.check_usable = check_once_then_wait  # type: ignore[method-assign]
    reader = threading.Thread(target=read)
    reader.start()
    assert waits.wait(10)
    store.check_usable = check_usable  # type: ignore[method-assign]
    store.close()
    goes_on.set()
    reader.join(10)

    assert not reader.is_alive()
    assert len(caught) == 1


def test_what_was_rolled_back_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    """The next publish gets the same numbers, and its own messages."""
    queue = open_queue(tmp_path)

    def publish_and_claim(tx: Tx, body: str) -> list[Body]:
        publish_in(tx, queue.topic.id, [Batch(1, pack_messages([body]))])
        return [each.body for each in claim_in(tx, queue.subscriber_id, 10)]

    with rolled_back(queue.store) as tx:
        assert publish_and_claim(tx, "never happened") == ["never happened"]

    with queue.store.transaction() as tx:
        assert publish_and_claim(tx, "happened") == ["happened"]
    queue.store.close()


def test_a_sweep_that_was_rolled_back_leaves_the_hint_early(tmp_path: Path) -> None:
    """Or nobody would sweep those leases until another one is made."""
    queue = open_queue(tmp_path)
    queue.publish(["text"])
    claim(queue.store, queue.subscriber_id, 1, 100)
    queue.clock.advance(200)

    with rolled_back(queue.store) as tx:
        assert expire_in(tx) == [queue.subscriber_id]

    due_ms = queue.store.hints.lease_due_ms
    assert due_ms is not None
    assert due_ms <= queue.clock.now_ms()
    queue.store.close()


def test_a_lost_hints_file_is_made_up_for(tmp_path: Path) -> None:
    """A restored backup brings leases and no hints."""
    queue = open_queue(tmp_path)
    queue.publish(["text"])
    held = claim(queue.store, queue.subscriber_id, 1, 100)[0]
    queue.store.close()
    (tmp_path / "queue.db-hints").unlink()

    store = Store(tmp_path / "queue.db", clock=queue.clock)

    assert store.hints.lease_due_ms == held.lease_expires_ms
    store.close()


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    """One that was touched beforehand, or whose making was broken off, is led to this version."""
    path = tmp_path / "queue.db"
    path.touch()

    store = Store(path)

    with store.reading() as snapshot:
        tables = {row[0] for row in snapshot.rows("SELECT name FROM sqlite_schema")}
        assert snapshot.rows("PRAGMA user_version") == [(_schema.VERSION,)]
    assert {model._meta.table_name for model in _schema.MODELS} <= tables
    store.close()


def test_a_migration_that_breaks_off_leaves_an_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it or nothing: the next try begins anew."""
    path = tmp_path / "queue.db"
    monkeypatch.setattr(_schema, "_INDEXES", (*_schema._INDEXES, "CREATE nonsense"))
    with pytest.raises(Exception, match="nonsense"):
        Store(path)
    monkeypatch.undo()

    store = Store(path)

    create_topic(store, "topic", [Subscriber("worker")])
    store.close()


def test_opening_a_reader_writes_nothing(tmp_path: Path) -> None:
    """It does not hold the lock of those who write."""
    queue = open_queue(tmp_path)
    log = tmp_path / "queue.db-wal"
    before = log.read_bytes()

    reader = connect(queue.store.path, read_only=True)

    assert log.read_bytes() == before
    reader.close()
    queue.store.close()


def test_a_disk_error_that_ends_a_readers_transaction_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "queue.db")
    error = apsw.IOError("disk I/O error")
    vars(error).update(result=10, extendedresult=10)

    def read() -> None:
        with store.reading() as snapshot:
            snapshot.execute("COMMIT")  # as SQLite does by itself
            raise error

    with pytest.raises(Unavailable, match="the disk failed"):
        read()
    assert isinstance(store.failed, Unavailable)
    store.close()
