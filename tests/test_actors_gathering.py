"""Calls that are done together: how the writer waits for those that are about to come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from blockqueue.actors import Pool, _gathering
from blockqueue.actors._gathering import GatheringActor, GatheringInbox
from blockqueue.actors._runtime import Forwarded, inbox_of

_PATIENCE_S = 30.0


class Call(NamedTuple):
    """What is gathered here."""


class _Inbox(GatheringInbox):
    gathers = Call


class _Actor(GatheringActor):
    @staticmethod
    def _create_actor_inbox() -> GatheringInbox:
        return _Inbox()

    def write_gathered(self) -> None:
        """The tests take by themselves."""


@pytest.fixture
def inbox() -> Iterator[GatheringInbox]:
    pool = Pool("gathering", 1)
    ref: Any = _Actor.start(pool)
    found = inbox_of(ref)
    assert isinstance(found, GatheringInbox)
    yield found
    ref.stop(timeout=_PATIENCE_S)
    assert pool.stop(_PATIENCE_S)


def call(inbox: GatheringInbox, times: int) -> None:
    for _ in range(times):
        inbox.put(Forwarded(Call(), None))


def wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Let only the callers end the wait."""
    patch.setattr(_gathering, "_AWAITED_S", 1_000.0)
    patch.setattr(_gathering, "_AWAITED_S_MAX", 1_000.0)


def test_as_many_as_the_last_time_are_waited_for(
    inbox: GatheringInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of them ends the wait, and all are taken together."""
    wait_for_ever(monkeypatch)
    call(inbox, 3)
    assert len(inbox.take()) == 3
    call(inbox, 1)
    waiting = threading.Thread(target=inbox.await_callers)
    waiting.start()

    call(inbox, 1)
    assert waiting.is_alive()
    call(inbox, 1)
    waiting.join(_PATIENCE_S)

    assert not waiting.is_alive()
    assert len(inbox.take()) == 3


@pytest.mark.parametrize("before", [0, 1])
def test_a_lone_caller_is_not_held_up(
    inbox: GatheringInbox, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Neither the first one ever, nor one that always comes alone."""
    wait_for_ever(monkeypatch)
    call(inbox, before)
    inbox.take()
    call(inbox, 1)

    inbox.await_callers()

    assert len(inbox.take()) == 1


def test_nobody_is_waited_for_who_has_come(
    inbox: GatheringInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may come before the writer is there."""
    wait_for_ever(monkeypatch)
    call(inbox, 2)
    inbox.take()
    call(inbox, 2)

    inbox.await_callers()

    assert len(inbox.take()) == 2


def test_those_who_stay_away_are_waited_for_once(
    inbox: GatheringInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait has an end, and the next one is for the smaller group."""
    call(inbox, 5)
    inbox.take()
    call(inbox, 2)
    inbox.await_callers()
    assert len(inbox.take()) == 2

    wait_for_ever(monkeypatch)
    call(inbox, 2)
    inbox.await_callers()

    assert len(inbox.take()) == 2
