"""Random looks: at every message, at whole lists, and at lists that change between two pages."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from blockqueue import storage
from blockqueue.storage import (
    After,
    DeliveryNotFound,
    MessageNotFound,
    Snapshot,
    message_id,
    subscriber,
)

from . import storage_view_checks as view_checks
from .storage_model import Place, Topic
from .storage_publish_machine import PublishMachine
from .storage_topology_machine import has_consumers, has_topics

SIZES = st.integers(1, 3)


@dataclass
class Walk:
    """A list that is being read, page by page, while the world goes on."""

    topic_id: int
    subscriber_id: int
    dead: bool
    throughout: set[str]
    after: After | None = None
    seen: list[str] = field(default_factory=list)
    places: list[tuple[int, Place]] = field(default_factory=list)


class ListMachine(PublishMachine):
    """Looks at what was published."""

    def __init__(self) -> None:
        super().__init__()
        self.walks: list[Walk] = []

    def forget_views(self) -> None:
        self.walks.clear()

    def _listed(self, walk: Walk) -> set[str]:
        topic = self.topics[walk.topic_id]
        consumer = topic.consumers[walk.subscriber_id]
        places = view_checks.listed(topic, consumer, dead=walk.dead)
        return {topic.message_id(place) for place in places}

    @precondition(has_consumers)
    @rule(data=st.data(), dead=st.booleans(), size=SIZES)
    def begin_a_list(self, data: st.DataObject, dead: bool, size: int) -> None:
        topic_id, subscriber_id = data.draw(st.sampled_from(self.consumers()))
        walk = Walk(topic_id, subscriber_id, dead, set())
        walk.throughout = self._listed(walk)
        self.walks.append(walk)
        self._turn_page(walk, size)

    @precondition(lambda machine: machine.walks)
    @rule(data=st.data(), size=st.sampled_from([1, 2, 3, 30]))
    def turn_pages(self, data: st.DataObject, size: int) -> None:
        self._turn_page(data.draw(st.sampled_from(self.walks)), size)

    def _turn_page(self, walk: Walk, size: int) -> None:
        with self.reading() as snapshot:
            found = subscriber(snapshot, walk.subscriber_id)
            page = view_checks.page_fetcher(snapshot, found, size, dead=walk.dead)(walk.after)
        for view in page.items:
            ref = storage.parse_id(view.message_id)
            assert ref is not None
            walk.places.append((view.created_ms, (ref.priority, ref.seq)))
            walk.seen.append(view.message_id)
        assert walk.places == sorted(set(walk.places), reverse=True), "it came twice, or too late"
        walk.after = page.after
        if page.after is None:
            self.walks = [each for each in self.walks if each is not walk]
            assert walk.throughout <= set(walk.seen), "a page left something out"

    @invariant()
    def notice_what_leaves_a_list(self) -> None:
        known = self.consumers()
        self.walks = [walk for walk in self.walks if (walk.topic_id, walk.subscriber_id) in known]
        for walk in self.walks:
            walk.throughout &= self._listed(walk)

    @precondition(has_topics)
    @rule(size=SIZES)
    def look_at_everything(self, size: int) -> None:
        with self.reading() as snapshot:
            view_checks.check_topology_lists(snapshot, list(self.topics.values()), size)
            for topic in self.topics.values():
                for subscriber_id in topic.consumers:
                    view_checks.check_lists(snapshot, topic, subscriber_id, size)
                for place, message in topic.messages.items():
                    if message.block_gone:
                        self._check_gone(snapshot, topic, place)
                    else:
                        view_checks.check_message(snapshot, topic, place, size)

    def _check_gone(self, snapshot: Snapshot, topic: Topic, place: Place) -> None:
        named = topic.message_id(place)
        with pytest.raises(MessageNotFound):
            storage.message_status(snapshot, topic.id, named)
        for consumer in topic.consumers.values():
            with pytest.raises(DeliveryNotFound):
                storage.failure_page(snapshot, consumer.options, named, 1)

    @precondition(has_topics)
    @rule(data=st.data(), reason=st.sampled_from(["", "enough"]))
    def cancel_a_message(self, data: st.DataObject, reason: str) -> None:
        """For everybody, whatever it is to them."""
        topic = self.topics[data.draw(st.sampled_from(sorted(self.topics)))]
        if not topic.messages:
            return
        place = data.draw(st.sampled_from(sorted(topic.messages)))
        named = topic.message_id(place)
        with self.writing() as tx:
            if topic.messages[place].block_gone:
                with pytest.raises(MessageNotFound):
                    storage.cancel_message_in(tx, topic.id, named, reason)
                return
            told = storage.cancel_message_in(tx, topic.id, named, reason)
        topic.cancel(place, reason, self.now_ms)
        expected = view_checks.expected_deliveries(topic, place)
        assert view_checks.to_the_minute(told) == view_checks.to_the_minute(expected)

    @precondition(has_topics)
    @rule(data=st.data())
    def ask_for_a_stranger(self, data: st.DataObject) -> None:
        """An id of another topic, of another publish, or of what comes next names nothing."""
        topic_id = data.draw(st.sampled_from(sorted(self.topics)))
        topic = self.topics[topic_id]
        if not topic.messages:
            return
        place = data.draw(st.sampled_from(sorted(topic.messages)))
        tag = topic.messages[place].tag
        strangers = [
            message_id(topic_id + 1, *place, tag),
            message_id(topic_id, *place, tag ^ 1),
            message_id(topic_id, place[0], topic.end_seq(place[0]), tag),
            storage.delivery_id(topic_id, *place, tag),
        ]
        with self.writing() as tx:
            for stranger in strangers:
                with pytest.raises(MessageNotFound):
                    storage.cancel_message_in(tx, topic_id, stranger)
