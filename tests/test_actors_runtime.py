"""The actors' inbox, promise and pool: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pykka
import pytest

from blockqueue import BlockQueue
from blockqueue.actors import Pool, PooledActor, Promise
from blockqueue.actors._gathering import GatheringActor, GatheringInbox
from blockqueue.actors._job import JobActor
from blockqueue.actors._runtime import (
    LATER,
    Envelope,
    Forwarded,
    Inbox,
    inbox_of,
)
from blockqueue.storage import CommitUnknown, ValidationError, Withdrawn

from .embedded_helpers import WAIT_S, background, eventually, together


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Run actors on two threads."""
    pool = Pool("test-actors", 2)
    yield pool
    assert pool.stop(WAIT_S)


class Doer(PooledActor):
    """Does what it is told: calls each message, and remembers the threads it ran on."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.threads: set[threading.Thread] = set()
        self.stopped = threading.Event()
        self.rest: Sequence[Envelope] = ()
        self.pumped = threading.Lock()
        self.overlapped = False

    def on_receive(self, message: Callable[[Doer], Any]) -> Any:
        if not self.pumped.acquire(blocking=False):
            self.overlapped = True
            return None
        try:
            self.threads.add(threading.current_thread())
            return message(self)
        finally:
            self.pumped.release()

    def on_stop(self) -> None:
        self.stopped.set()

    def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
        self.rest = rest
        self.stopped.set()


def start(pool: Pool) -> tuple[Doer, pykka.ActorRef[Doer]]:
    """Start a Doer; return it and its ref."""
    ref = Doer.start(pool)
    actor = inbox_of(ref).owner
    assert isinstance(actor, Doer)
    return actor, ref


class Hold:
    """Keeps an actor busy from ``entered`` until ``let_go``."""

    def __init__(self, ref: pykka.ActorRef[Doer]) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()
        ref.tell(self)
        assert self.entered.wait(WAIT_S)

    def __call__(self, actor: Doer) -> None:
        self.entered.set()
        assert self.let_go.wait(WAIT_S)


# The inbox.


def test_a_closed_inbox_refuses_messages(pool: Pool) -> None:
    """``put`` raises, so that the caller knows; pykka would swallow the message."""
    actor, ref = start(pool)
    ref.ask(Doer.close, timeout=WAIT_S)

    with pytest.raises(pykka.ActorDeadError):
        actor.actor_inbox.put(Forwarded(len, None))
    with pytest.raises(pykka.ActorDeadError):
        ref.tell(len)


def test_every_message_put_while_an_actor_closes_is_handled_or_refused(pool: Pool) -> None:
    """Many threads put, one closes: whoever asked gets an answer or ActorDeadError."""
    handled: list[int] = []

    def talk(ref: pykka.ActorRef[Doer], number: int) -> int:
        promises: list[Promise[Any]] = []
        for _ in range(50):
            promise: Promise[Any] = Promise()
            try:
                inbox_of(ref).put(Forwarded(lambda _: handled.append(number), promise))
            except pykka.ActorDeadError:
                break
            promises.append(promise)
            if number == 0 and len(promises) == 10:
                ref.tell(Doer.close)
        return sum(answered(promise) for promise in promises)

    for _ in range(20):
        handled.clear()
        _, ref = start(pool)
        answers = together(6, partial(talk, ref))
        assert sum(answers) == len(handled)


def answered(promise: Promise[Any]) -> bool:
    """Wait for a promise: True if it has a value, False if its message was refused."""
    try:
        promise.get(timeout=WAIT_S)
    except pykka.ActorDeadError:
        return False
    return True


@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_message_behind_the_one_that_closes_is_refused_in_the_same_turn(
    pool: Pool, how: str
) -> None:
    """Nothing runs on a closed actor, and nobody who asked is left without an answer."""
    actor, ref = start(pool)
    hold = Hold(ref)
    if how == "close":
        ref.tell(Doer.close)
    else:
        ref.stop(block=False)
    late = ref.ask(lambda _: "handled", block=False)
    hold.let_go.set()

    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=WAIT_S)
    assert actor.stopped.wait(WAIT_S)


def test_an_actor_does_not_stop_as_idle_before_messages_of_the_same_turn(pool: Pool) -> None:
    """The inbox is empty then, but they are still to be handled."""
    actor, ref = start(pool)
    hold = Hold(ref)
    stopped = ref.ask(lambda actor: actor.close_if_empty(), block=False)
    late = ref.ask(lambda _: "handled", block=False)
    hold.let_go.set()

    assert stopped.get(timeout=WAIT_S) is False
    assert late.get(timeout=WAIT_S) == "handled"
    assert ref.ask(lambda actor: actor.close_if_empty(), timeout=WAIT_S) is True
    assert not ref.is_alive()
    assert actor.stopped.is_set()


def test_an_actor_that_fails_hands_over_what_it_has_not_handled(pool: Pool) -> None:
    """The error goes to the caller; those behind it are for the successor."""
    actor, ref = start(pool)
    hold = Hold(ref)
    failing = ref.ask(lambda _: 1 // 0, block=False)
    left = [ref.ask(len, block=False), ref.ask(len, block=False)]
    hold.let_go.set()

    with pytest.raises(ZeroDivisionError):
        failing.get(timeout=WAIT_S)
    assert actor.stopped.wait(WAIT_S)
    assert [envelope.reply_to for envelope in actor.rest] == left


def test_an_error_of_ours_goes_to_the_caller_and_the_actor_lives(pool: Pool) -> None:
    """It is an answer; with nobody there to hear it, it is only logged."""
    _, ref = start(pool)

    def refuse(_: Doer) -> None:
        raise ValidationError("no")

    ref.tell(refuse)
    with pytest.raises(ValidationError):
        ref.ask(refuse, timeout=WAIT_S)
    assert ref.ask(lambda _: 7, timeout=WAIT_S) == 7


def test_a_failure_to_hand_over_does_not_end_the_thread(pool: Pool) -> None:
    """The pool's threads serve all actors."""

    class Hopeless(Doer):
        def on_failed(self, error: BaseException, rest: Sequence[Envelope]) -> None:
            raise RuntimeError("again")

    for _ in range(4):
        promise = Hopeless.start(pool).ask(lambda _: 1 // 0, block=False)
        with pytest.raises(ZeroDivisionError):
            promise.get(timeout=WAIT_S)

    assert start(pool)[1].ask(lambda _: 7, timeout=WAIT_S) == 7


class Gatherer(GatheringActor):
    """Gathers numbers; counts how often it is told to write."""

    class _Inbox(GatheringInbox):
        gathers = int

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.writes = 0

    @staticmethod
    def _create_actor_inbox() -> GatheringInbox:
        return Gatherer._Inbox()

    def write_gathered(self) -> None:
        self.writes += 1


def test_gathered_messages_cause_one_write_until_they_are_taken(pool: Pool) -> None:
    """However many come; and whoever gave up meanwhile is left out."""
    ref = Gatherer.start(pool)
    actor = inbox_of(ref).owner
    assert isinstance(actor, Gatherer)
    promises = [Promise[Any]() for _ in range(5)]
    for number, promise in enumerate(promises):
        inbox_of(ref).put(Forwarded(number, promise))
    promises[3].withdraw("too late")

    assert [each.message for each in actor.actor_inbox.take()] == [0, 1, 2, 4]
    assert actor.writes == 1
    inbox_of(ref).put(Forwarded(5, None))
    assert actor.writes == 2


# The promise.


def test_the_first_completion_of_a_promise_wins() -> None:
    """Later ones are told that nobody gets their value."""
    promise: Promise[int] = Promise()

    assert promise.complete(1)
    assert not promise.complete(2)
    assert not promise.fail(ValidationError("late"))
    assert promise.get(timeout=0) == 1
    assert promise.is_done


def test_exactly_one_of_many_completions_wins() -> None:
    """Also when they come at the same time."""
    for _ in range(100):
        promise: Promise[int] = Promise()
        won = together(4, promise.complete)
        assert won.count(True) == 1
        assert won.index(True) == promise.get(timeout=0)


def begin_or_withdraw(promise: Promise[int], number: int) -> bool:
    """Take one side of the race."""
    return promise.begin() if number == 0 else promise.withdraw("gone")


def test_either_the_withdrawal_or_the_beginning_wins() -> None:
    """Never both, or a caller would be told that what happens did not."""
    for _ in range(200):
        promise: Promise[int] = Promise()
        began, withdrew = together(2, partial(begin_or_withdraw, promise))
        assert began != withdrew
        assert promise.is_done == withdrew


def test_a_callback_runs_exactly_once_whenever_it_is_added() -> None:
    """While the promise is completed, and while others wait for it and look at it."""
    for _ in range(200):
        promise: Promise[int] = Promise()
        calls: list[object] = []

        def work(number: int, promise: Promise[int] = promise, calls: list[Any] = calls) -> None:
            if number == 0:
                promise.complete(1)
            elif number == 1:
                promise.on_done(calls.append)
                promise.on_done(calls.append)
            else:
                assert promise.get(timeout=WAIT_S) == 1

        together(4, work)
        promise.on_done(calls.append)
        assert calls == [promise] * 3


def test_a_callback_added_while_somebody_looks_at_the_value_runs() -> None:
    """Whoever gets the value holds the promise's lock for a moment."""
    promise: Promise[int] = Promise()
    promise.complete(1)
    calls: list[object] = []
    assert promise._completed.acquire(timeout=WAIT_S)  # as ``get`` does

    promise.on_done(calls.append)

    promise._completed.release()
    assert calls == [promise]


def test_a_callback_that_fails_spares_the_others_and_whoever_completes() -> None:
    """It runs on the writer's thread."""
    promise: Promise[int] = Promise()
    calls: list[object] = []
    promise.on_done(calls.append)
    promise.on_done(lambda _: 1 // 0)
    promise.on_done(calls.append)

    assert promise.complete(1)
    assert calls == [promise, promise]


def test_waiting_for_a_promise_ends_at_its_timeout() -> None:
    """With pykka's error for ``get``; ``result`` withdraws what has not begun."""
    promise: Promise[int] = Promise()

    with pytest.raises(pykka.Timeout):
        promise.get(timeout=0.001)
    with pytest.raises(Withdrawn, match="nothing was written"):
        promise.result(0.001)
    assert not promise.begin()
    assert not promise.complete(1)


def test_the_result_of_work_that_has_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is being written; only if that does not end is its fate unknown."""
    promise: Promise[int] = Promise()
    promise.begin()
    future = background(lambda: promise.result(0.001))
    promise.complete(1)
    assert future.result(WAIT_S) == 1

    monkeypatch.setattr("blockqueue.actors._promise._BEGUN_WAIT_S", 0.001)
    promise = Promise()
    promise.begin()
    with pytest.raises(CommitUnknown, match="may still be written"):
        promise.result(0.001)


# The pool.


def test_an_actor_is_never_pumped_by_two_threads_at_once(pool: Pool) -> None:
    """Neither by the pool's nor by those of callers; and every message is handled once."""
    actors = [start(pool) for _ in range(4)]
    counts = [0] * len(actors)

    def work(number: int) -> None:
        for turn in range(200):
            index = (number + turn) % len(actors)

            def count(_: Doer, index: int = index) -> None:
                counts[index] += 1  # safe if and only if nobody else is in there

            promise: Promise[Any] = Promise()
            inbox = actors[index][0].actor_inbox
            if turn % 2:
                inbox.put(Forwarded(count, promise))
            else:
                pool.lend(inbox, Forwarded(count, promise), promise)
            promise.get(timeout=WAIT_S)

    together(8, work)

    assert not any(actor.overlapped for actor, _ in actors)
    assert sum(counts) == 8 * 200


def test_the_main_thread_never_pumps(pool: Pool) -> None:
    """Ctrl-C strikes there, which must not be in the middle of a commit."""
    actor, _ = start(pool)
    for _ in range(50):
        promise: Promise[Any] = Promise()
        pool.lend(actor.actor_inbox, Forwarded(lambda _: None, promise), promise)
        promise.get(timeout=WAIT_S)

    assert threading.main_thread() not in actor.threads


def test_another_thread_pumps_what_it_wakes(pool: Pool) -> None:
    """A caller's own thread takes its message all the way, which saves changes of threads."""
    actor, _ = start(pool)

    def work() -> threading.Thread:
        promise: Promise[Any] = Promise()
        pool.lend(actor.actor_inbox, Forwarded(lambda _: 7, promise), promise)
        assert promise.get(timeout=0) == 7
        return threading.current_thread()

    caller = background(work).result(WAIT_S)

    assert actor.threads == {caller}


def test_what_a_lending_thread_leaves_behind_is_pumped_by_the_pool(pool: Pool) -> None:
    """It goes once its own promise is done, whatever else it has woken."""
    actor, _ = start(pool)
    other, other_ref = start(pool)
    done = threading.Event()

    def wake_other(_: Doer) -> None:
        other_ref.tell(lambda _: other_ref.tell(lambda _: done.set()))

    def work() -> None:
        promise: Promise[Any] = Promise()
        pool.lend(actor.actor_inbox, Forwarded(wake_other, promise), promise)

    background(work).result(WAIT_S)

    assert done.wait(WAIT_S)
    assert not other.overlapped


def test_an_actor_may_answer_later(pool: Pool) -> None:
    """Whoever asked waits until the actor completes the promise."""
    actor, ref = start(pool)
    kept: list[Promise[Any]] = []

    def keep(actor: Doer) -> object:
        assert actor.reply_to is not None
        kept.append(actor.reply_to)
        return LATER

    answer = ref.ask(keep, block=False)
    eventually(lambda: len(kept) == 1)
    kept[0].complete("later")

    assert answer.get(timeout=WAIT_S) == "later"
    assert isinstance(actor.actor_inbox, Inbox)


def interrupt_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Let Ctrl-C strike at the next call of a method, before it does anything."""

    def strike(*args: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, strike)


def test_an_interrupted_message_does_not_leave_its_actor_asleep(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between noting that an actor is scheduled and scheduling it."""
    _, ref = start(pool)
    handled = threading.Event()
    interrupt_once(monkeypatch, Pool, "schedule")

    with pytest.raises(KeyboardInterrupt):
        ref.tell(lambda actor: handled.set())

    assert handled.wait(WAIT_S)
    assert ref.ask(lambda actor: "awake", timeout=WAIT_S) == "awake"


def test_an_interrupted_publish_does_not_leave_the_topic_asleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between noting that a write is on its way and giving it to the writer."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["worker"])
        queue.publish("cart", "first")
        interrupt_once(monkeypatch, JobActor, "write_gathered")

        with pytest.raises(KeyboardInterrupt):
            queue.publish("cart", "interrupted")

        queue.publish("cart", "last")
        found = [each.message for each in queue.claim("cart", "worker")]
        assert found in (["first", "last"], ["first", "interrupted", "last"])


def test_an_interrupted_claim_gives_back_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C nobody holds the messages; they must not wait for a lease to run out."""
    with BlockQueue(tmp_path / "queue.db") as queue:
        queue.create_topic("cart", ["worker"])
        interrupt_once(monkeypatch, Promise, "result")

        with pytest.raises(KeyboardInterrupt):
            queue.claim("cart", "worker", wait=WAIT_S)

        queue.publish("cart", "hi")
        (delivery,) = queue.claim("cart", "worker", wait=WAIT_S)
        assert delivery.message == "hi"
