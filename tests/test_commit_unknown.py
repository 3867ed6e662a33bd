"""A commit of which nobody knows: its publishers learn their ids, and a key finds out."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from blockqueue import BlockQueue, CommitUnknown, Message
from blockqueue.actors import Promise
from blockqueue.api import _envelope
from blockqueue.api.v1 import _problem
from blockqueue.storage import Published

from .embedded_helpers import WAIT_S, background, open_queue


class UnknownCommit:
    """A connection whose COMMIT raises: after it has succeeded, or before it is tried.

    The first ``good`` of them are fine.
    """

    def __init__(self, connection: Any, *, written: bool, good: int) -> None:
        self._connection = connection
        self._written = written
        self._good = good

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *args: Any) -> Any:
        if sql == "COMMIT":
            self._good -= 1
        if sql != "COMMIT" or self._good >= 0:
            return self._connection.execute(sql, *args)
        if self._written:
            self._connection.execute(sql)
        raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)


def break_commit(
    queue: BlockQueue, monkeypatch: pytest.MonkeyPatch, written: bool, good: int = 0
) -> None:
    store = queue.system.store
    broken = UnknownCommit(store._connection, written=written, good=good)
    monkeypatch.setattr(store, "_connection", broken)


@pytest.mark.parametrize("written", [True, False])
def test_a_publisher_learns_its_ids_and_a_key_tells_whether_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Whichever it was, publishing again leaves the message there once."""
    with open_queue(tmp_path) as (queue, _):
        break_commit(queue, monkeypatch, written)
        with pytest.raises(CommitUnknown) as caught:
            queue.publish("cart", "order 1", idempotency_key="order-1")
        assert len(caught.value.ids) == 1
        queue.close()

    with BlockQueue(tmp_path / "queue.db") as queue:
        again = queue.publish("cart", "order 1", idempotency_key="order-1")

        assert again.duplicate == written
        assert (again.id == caught.value.ids[0]) == written
        assert [each.message for each in queue.claim("cart", "worker", limit=10)] == ["order 1"]


def test_an_id_that_was_never_written_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next message gets the same number in its lane, and another id."""
    with open_queue(tmp_path) as (queue, _):
        break_commit(queue, monkeypatch, written=False)
        with pytest.raises(CommitUnknown) as caught:
            queue.publish("cart", "lost")
        queue.close()

    with BlockQueue(tmp_path / "queue.db") as queue:
        kept = queue.publish("cart", "kept")
        told, found = (json.dumps(each) for each in (caught.value.ids[0], kept.id))
        assert told[:-10] == found[:-10]
        assert told != found


def test_each_publisher_of_a_group_learns_its_own_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of its messages, over all of its priorities."""
    with open_queue(tmp_path) as (queue, _):
        queue.publish("cart", "early")
        break_commit(queue, monkeypatch, written=True, good=1)
        entered, let_go = threading.Event(), threading.Event()

        def hold(tx: object) -> None:
            entered.set()
            assert let_go.wait(WAIT_S)

        held = background(lambda: queue.system.change(hold, WAIT_S))
        assert entered.wait(WAIT_S)
        calls: list[Promise[list[Published]]] = []
        for name in ("a", "b"):
            messages = [Message(f"{name}{number}", priority=number % 2) for number in range(3)]
            calls.append(queue.start_publish("cart", messages))
        let_go.set()
        held.result(WAIT_S)
        told: list[str] = []
        for call in calls:
            with pytest.raises(CommitUnknown) as caught:
                call.get(timeout=WAIT_S)
            told += caught.value.ids
        queue.close()

    with BlockQueue(tmp_path / "queue.db") as queue:
        found = {each.id: each.message for each in queue.claim("cart", "worker", limit=10)}
    assert [found[each] for each in told] == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_both_contracts_tell_the_ids() -> None:
    """``/v1`` as a member of the problem, ``/topics`` in its text."""
    error = CommitUnknown("it may have been written or not", ["one", "two"])

    problem = json.loads(_problem.refusal(error, "request").body)
    envelope = json.loads(_envelope.refusal(error).body)

    assert problem["message_ids"] == ["one", "two"]
    assert problem["status"] == 503
    assert envelope["error"].endswith("the message ids are: one, two")
    assert "message_ids" not in json.loads(_problem.refusal(CommitUnknown("?"), "request").body)
