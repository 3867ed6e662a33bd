"""Counts of many topics and subscribers: which are shown, in what order, and what is counted.

That the counts are right is checked by the machine of ``test_storage_model``, step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from blockqueue import storage
from blockqueue.storage import (
    Subscriber,
    SubscriberNotFound,
    Summary,
    Tally,
    TopicSummary,
    ValidationError,
)

from .storage_helpers import Queue, open_queue

NAMES = ["alpha", "beta", "Gamma", "gamma.2", "topic"]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """Five topics; ``beta`` has the most messages, and ``gamma.2`` the only one in flight."""
    found = open_queue(tmp_path, Subscriber("a"), Subscriber("b"))
    with closing(found.store):
        for name in NAMES[:4]:
            topic = storage.create_topic(found.store, name, [Subscriber("worker")])
            other = found._replace(topic=topic)
            found.clock.advance(1_000)
            if name in ("beta", "gamma.2"):
                other.publish(["x"] * (3 if name == "beta" else 1))
            if name == "gamma.2":
                with found.store.reading() as snapshot:
                    (worker,) = storage.subscribers(snapshot, topic.id)
                assert len(storage.claim(found.store, worker.id, 1)) == 1
        yield found


def summaries(queue: Queue, search: str = "", **asked: Any) -> Summary[TopicSummary]:
    with queue.store.reading() as snapshot:
        return storage.topic_summaries(snapshot, search, **asked)


def names(found: Summary[TopicSummary]) -> list[str]:
    return [each.topic.name for each in found.items]


def test_topics_come_by_name_or_by_what_matters(queue: Queue) -> None:
    by_name = ["Gamma", "alpha", "beta", "gamma.2", "topic"]

    assert names(summaries(queue)) == by_name
    assert names(summaries(queue, order="pending"))[0] == "beta"
    assert names(summaries(queue, order="leased"))[0] == "gamma.2"
    assert names(summaries(queue, order="dead")) == by_name  # equals: by name


def test_a_page_brings_the_sums_of_all(queue: Queue) -> None:
    """Not only of those that are on it."""
    found = summaries(queue, offset=1, limit=2)

    assert names(found) == ["alpha", "beta"]
    assert (found.offset, found.found, found.published) == (1, 5, 4)
    assert found.tally == Tally(pending=3, waiting=0, leased=1, dead=0, done=0)
    assert summaries(queue).tally == found.tally


def test_a_page_that_is_gone_is_the_first(queue: Queue) -> None:
    """Somebody has deleted what was there."""
    found = summaries(queue, offset=50, limit=2)

    assert (found.offset, names(found)) == (0, ["Gamma", "alpha"])


def test_a_search_finds_parts_of_names(queue: Queue) -> None:
    """In either case, and letter by letter: there are no wildcards."""
    assert names(summaries(queue, "GAMMA")) == ["Gamma", "gamma.2"]
    assert names(summaries(queue, "a.2")) == ["gamma.2"]
    for nothing in ("%", "_", "*", "nobody", "\udcff", "\0"):
        found = summaries(queue, nothing)
        assert (found.items, found.found, found.published) == ([], 0, 0)
        assert found.tally == Tally(0, 0, 0, 0, 0)


def test_the_oldest_is_the_first_that_is_not_done(queue: Queue) -> None:
    """Whoever holds it, it counts from when it was published."""
    found = {each.topic.name: each.oldest_ms for each in summaries(queue).items}

    assert found["alpha"] is found["topic"] is None
    assert found["beta"] is not None
    assert found["gamma.2"] is not None
    assert found["gamma.2"] - found["beta"] == 2_000


def test_a_block_of_an_older_version_is_opened_for_its_time(queue: Queue) -> None:
    before = summaries(queue)
    with queue.store.transaction() as tx:
        tx.execute("UPDATE block SET created_ms = NULL")
        assert tx.changes() == 2

    assert summaries(queue) == before


def test_what_is_deleted_is_not_counted(queue: Queue) -> None:
    with queue.store.reading() as snapshot:
        beta = storage.topic_named(snapshot, "beta")
    storage.delete_topic(queue.store, beta.id)
    storage.delete_subscriber(queue.store, queue.subscriber_ids[1])

    found = summaries(queue)
    assert (found.found, found.published, found.tally.pending) == (4, 1, 0)
    assert {each.topic.name: each.subscribers for each in found.items}["topic"] == 1
    with queue.store.reading() as snapshot:
        of_topic = storage.subscriber_summaries(snapshot, queue.topic.id)
        assert [each.subscriber.name for each in of_topic.items] == ["a"]
        with pytest.raises(SubscriberNotFound):
            storage.subscriber_summary(snapshot, queue.subscriber_ids[1])


def test_subscribers_are_found_and_paged(queue: Queue) -> None:
    """What was published to the topic is told even where nobody is found."""
    queue.publish(["x", "y"])
    with queue.store.reading() as snapshot:
        number = queue.topic.id
        second = storage.subscriber_summaries(snapshot, number, offset=1, limit=1)
        nobody = storage.subscriber_summaries(snapshot, number, "nobody")

    assert [each.subscriber.name for each in second.items] == ["b"]
    assert (second.found, second.published, second.tally.pending) == (2, 2, 4)
    assert (nobody.found, nobody.published, nobody.tally.pending) == (0, 2, 0)


@pytest.mark.parametrize(
    "asked",
    [{"order": "age"}, {"order": "name; --"}, {"limit": 0}, {"limit": 1_001}, {"offset": -1}],
)
def test_what_cannot_be_is_refused(queue: Queue, asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(asked))):
        summaries(queue, **asked)
