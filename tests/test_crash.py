"""Killing the server loses nothing; and the checker that says so notices each kind of harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .crash_campaign import Plan, run
from .crash_checker import (
    Acked,
    Kind,
    Published,
    Received,
    Record,
    Unanswered,
    Verdict,
    check,
)
from .crash_server import ROOT, child_environment

SCRIPT = ROOT / "scripts/crash.py"
VISIBILITY_S = 2.0
# What a client waits for an answer in these journals.
TOOK_S = 0.01


def published(body: str = "m", at: float = 0.0, status: int | None = 200) -> Published:
    return Published(body, at, at + TOOK_S, status)


def received(
    at: float, subscriber: str = "a", body: str = "m", *, sent: float | None = None, id: str = ""
) -> Received:
    """Note a message that was there at ``at``, asked for just before or at ``sent``."""
    return Received(subscriber, id or body, body, at - TOOK_S if sent is None else sent, at)


def acked(
    at: float,
    subscriber: str = "a",
    id: str = "m",
    *,
    status: int | None = 200,
    took: float = TOOK_S,
) -> Acked:
    return Acked(subscriber, id, at, at + took, status)


def judge(*journal: Record, subscribers: str = "a", drained: bool = True) -> Verdict:
    """Check a journal of subscribers whose names are letters."""
    return check(journal, list(subscribers), VISIBILITY_S, drained=drained)


def kinds(*journal: Record, subscribers: str = "a", drained: bool = False) -> list[Kind]:
    """Return the kinds of the violations in a journal."""
    verdict = judge(*journal, subscribers=subscribers, drained=drained)
    return [each.kind for each in verdict.violations]


def test_a_journal_without_harm_is_clean() -> None:
    verdict = judge(
        published("m"),
        published("n", status=None),
        *(received(1, "a"), received(1, "b"), acked(1.1, "a"), acked(1.1, "b")),
        Unanswered("a", 1.2, 1.3, None),
        subscribers="ab",
    )

    assert verdict == Verdict(
        published=1, unknown=1, recovered=0, received=2, acked=2, redelivered=0, violations=[]
    )


# Lost.


def lost(*journal: Record, subscribers: str = "a") -> int:
    """Return how many messages are lost, and see that nothing else is wrong."""
    found = kinds(*journal, subscribers=subscribers, drained=True)
    assert set(found) <= {Kind.LOST}
    return len(found)


def test_a_stored_message_that_never_came_is_lost() -> None:
    assert lost(published()) == 1


def test_a_stored_message_must_reach_every_subscriber() -> None:
    assert lost(published(), received(1, "a"), acked(1.1, "a"), subscribers="ab") == 1


def test_a_publish_without_an_answer_may_be_stored_or_not() -> None:
    assert lost(published(status=None)) == 0
    assert lost(published(status=503)) == 0
    assert lost(published(status=None), received(1), acked(1.1)) == 0
    assert judge(published(status=None), received(1)).recovered == 1


def test_a_publish_without_an_answer_reaches_all_or_none() -> None:
    came = received(1, "a"), acked(1.1, "a")

    assert lost(published(status=None), *came, subscribers="ab") == 1


def test_a_message_that_was_handed_out_and_never_acknowledged_must_come_again() -> None:
    assert lost(published(), received(1)) == 1
    assert lost(published(), received(1), received(3.5), acked(3.6)) == 0
    assert lost(published(), received(1), received(3.5)) == 1


def test_an_ack_that_was_refused_does_not_end_a_message() -> None:
    assert lost(published(), received(1), acked(3.0, status=404)) == 1
    assert lost(published(), received(1), acked(3.0, status=404), received(3.5), acked(3.6)) == 0


@pytest.mark.parametrize("status", [None, 503])
def test_an_ack_without_an_answer_may_have_ended_a_message(status: int | None) -> None:
    assert lost(published(), received(1), acked(1.1, status=status)) == 0


def test_each_subscriber_acknowledges_for_itself() -> None:
    journal = published(), received(1, "a"), received(1, "b"), acked(1.1, "a")

    assert lost(*journal, subscribers="ab") == 1
    assert lost(*journal, acked(1.2, "b"), subscribers="ab") == 0


def test_nothing_is_lost_before_the_queue_was_drained() -> None:
    assert kinds(published()) == []
    assert kinds(published(), received(1)) == []


# Unexpected.


def test_a_message_that_nobody_published_is_unexpected() -> None:
    assert kinds(received(1)) == [Kind.UNEXPECTED]


def test_a_message_that_was_changed_is_unexpected_and_lost() -> None:
    journal = published("mm"), received(1, body="mn")

    assert kinds(*journal, drained=True) == [Kind.UNEXPECTED, Kind.LOST]


def test_a_message_whose_publish_was_refused_is_unexpected() -> None:
    assert kinds(published(status=429), received(1)) == [Kind.UNEXPECTED]
    assert kinds(published(status=429)) == []


@pytest.mark.parametrize("status", [200, None])
def test_one_publish_must_not_become_two_messages(status: int | None) -> None:
    journal = published(status=status), received(1, id="x"), received(1.1, id="y")

    assert kinds(*journal) == [Kind.COPIED]


# Twice.


def test_a_lease_that_ran_out_explains_a_second_delivery() -> None:
    verdict = judge(published(), received(1), received(3.05), acked(3.1))

    assert verdict.violations == []
    assert verdict.redelivered == 1


def test_two_consumers_must_not_hold_a_message_at_once() -> None:
    verdict = judge(published(), received(1), received(2.5), drained=False)

    assert [each.kind for each in verdict.violations] == [Kind.TWO_LEASES]
    assert verdict.redelivered == 0


def test_subscribers_do_not_share_leases() -> None:
    assert kinds(published(), received(1, "a"), received(1, "b"), subscribers="ab") == []


def test_an_ack_without_an_answer_does_not_explain_a_delivery_before_the_lease_ran_out() -> None:
    """Done, it never comes again; not done, the lease goes on."""
    unknown = acked(1.1, status=None)

    assert kinds(published(), received(1), unknown, received(2.5)) == [Kind.UNEXPLAINED]
    assert kinds(published(), received(1), unknown, received(3.1)) == []


def test_a_lease_may_have_begun_as_soon_as_the_poll_was_sent() -> None:
    assert kinds(published(), received(1.9, sent=0.9), received(3.0)) == []
    assert kinds(published(), received(1.9, sent=0.9), received(2.5)) == [Kind.TWO_LEASES]


def test_answers_that_came_in_the_wrong_order_prove_nothing() -> None:
    """The first to be sent was stalled: it was handed out long before it was there."""
    assert kinds(published(), received(3.0, sent=2.9), received(3.1, sent=0.5)) == []


def test_an_acknowledged_message_must_not_return() -> None:
    again = received(9)

    assert kinds(published(), received(1), acked(1.1), again) == [Kind.RETURNED]
    assert kinds(published(), received(1), acked(1.1), again, acked(9.1)) == [Kind.RETURNED]


def test_an_acknowledged_message_must_not_return_to_a_poll_that_was_waiting() -> None:
    poll = received(3.5, sent=1.05)

    assert kinds(published(), received(1), acked(1.1), poll) == [Kind.RETURNED]


def test_a_late_ack_ends_the_lease_of_the_next_consumer() -> None:
    """Acknowledging goes by id: the second had it before, and is told that it is gone."""
    journal = (
        *(published(), received(1), received(3.5, sent=2.6)),
        *(acked(3.6), acked(3.7, status=404)),
    )

    assert kinds(*journal) == []


def test_each_return_is_counted() -> None:
    assert kinds(published(), received(1), acked(1.1), received(9), received(19)) == [
        Kind.RETURNED,
        Kind.RETURNED,
    ]


# Acknowledgements.


def test_an_ack_within_the_lease_must_be_accepted() -> None:
    assert kinds(published(), received(1), acked(1.5, status=404)) == [Kind.REFUSED_ACK]
    assert kinds(published(), received(1), acked(1.5, status=500)) == [Kind.REFUSED_ACK]


def test_an_ack_that_may_be_late_may_be_refused() -> None:
    assert kinds(published(), received(1), acked(3.0, status=404), received(3.5)) == []


def test_a_second_ack_may_be_refused() -> None:
    first = acked(1.1, status=None)
    assert kinds(published(), received(1), first, acked(1.5, status=404)) == []

    overtaken = acked(1.1, status=404, took=0.5)
    assert kinds(published(), received(1), overtaken, acked(1.2)) == []


# The real thing.


@pytest.mark.slow
def test_killing_the_server_under_load_loses_nothing(tmp_path: Path) -> None:
    report = run(Plan(cycles=4, seed=20), tmp_path)

    assert report.shown() == []
    assert report.is_clean
    assert report.kills == 4
    assert report.verdict is not None
    assert report.verdict.published > 50
    assert report.verdict.acked > 100


@pytest.mark.slow
def test_a_server_that_answers_before_the_commit_is_caught(tmp_path: Path) -> None:
    report = run(Plan(cycles=3, seed=21, control=True), tmp_path)

    assert report.troubles == []
    assert report.count(Kind.LOST) > 0


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="no scripts here")
@pytest.mark.parametrize("arguments", [[], ["--control"]])
def test_the_script_prints_and_writes_a_report(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "report.json"
    command = [sys.executable, str(SCRIPT), "--cycles", "2", "--seed", "22", *arguments]

    done = subprocess.run(
        [*command, "--json", str(path)],
        env=child_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(path.read_text())
    assert (report["kills"], report["plan"]["seed"]) == (2, 22)
    assert report["clean"] is not bool(arguments)
    assert f"{'lost':24}{report['violations']['lost']}\n" in done.stdout
