"""Each button of the dashboard, pressed in a real browser and looked for in the queue itself."""

from __future__ import annotations

import itertools

import pytest

from blockqueue import BlockQueue, DeliveryView, LeaseLost, Paused, ScheduleSpec, State, Subscriber
from blockqueue.storage import Body, Envelope

from .http_server import until
from .ui_browser import Browser
from .ui_fixtures import browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]

_numbers = itertools.count()


@pytest.fixture
def topic(queue: BlockQueue) -> str:
    """A topic of the test's own, whose worker's first failure is the last."""
    name = f"topic-{next(_numbers)}"
    queue.create_topic(name, [Subscriber("worker", max_attempts=1)])
    return name


def active(queue: BlockQueue, topic: str) -> list[DeliveryView]:
    return list(queue.active_page(topic, "worker", 1000).items)


def payload(body: Body | None) -> str | bytes | None:
    return body.payload if isinstance(body, Envelope) else body


def die(queue: BlockQueue, topic: str, count: int) -> list[str]:
    """Let so many messages fail; return their ids."""
    receipts = queue.publish_many(topic, [f"m{number}" for number in range(count)])
    queue.nack(topic, "worker", queue.claim(topic, "worker", limit=count), error="no route")
    return [each.id for each in receipts]


def deaths(queue: BlockQueue, topic: str) -> int:
    return len(queue.dead_page(topic, "worker", 1000).items)


def open_worker(page: Browser, topic: str, dead: str = "") -> None:
    page.open(f"#/topics/{topic}/subscribers/worker{dead}")
    page.live()


def test_a_topic_is_created(page: Browser, queue: BlockQueue) -> None:
    page.open()
    page.click("button", "New topic")
    page.submit("Create topic", topic="made", subscribers="one, two", max_attempts="7")

    page.notice("Topic made was created.")
    page.one("h1", "made")
    made = [each.subscriber for each in queue.subscriber_summaries("made").items]
    assert [(each.name, each.max_attempts) for each in made] == [("one", 7), ("two", 7)]


def test_a_topic_is_deleted_by_who_types_its_name(
    page: Browser, queue: BlockQueue, topic: str
) -> None:
    page.open(f"#/topics/{topic}")
    page.click(".title button", "Delete")
    assert page.refuse("Delete topic", typed="another") == "That is not its name."
    assert topic in queue.topics()
    page.click(".title button", "Delete")
    page.submit("Delete topic", typed=topic)

    page.notice(f"Topic {topic} was deleted.")
    page.one("h1", "Topics")
    assert topic not in queue.topics()


@pytest.mark.slow
def test_subscribers_are_added(page: Browser, queue: BlockQueue, topic: str) -> None:
    page.open(f"#/topics/{topic}")
    page.click("button", "Add subscribers")
    page.submit("Add", names="b, c", visibility="90s")

    page.notice("2 subscribers were added.")
    page.row("c")
    added = {each.subscriber.name: each for each in queue.subscriber_summaries(topic).items}
    assert sorted(added) == ["b", "c", "worker"]
    assert added["b"].subscriber.visibility_ms == 90_000


@pytest.mark.slow
def test_a_subscriber_is_deleted(page: Browser, queue: BlockQueue, topic: str) -> None:
    open_worker(page, topic)
    page.click(".title button", "Delete")
    page.submit("Delete subscriber", typed="worker")

    page.notice("Subscriber worker was deleted.")
    page.one("h1", topic)
    assert queue.subscribers(topic) == []


def test_a_test_message_is_published(page: Browser, queue: BlockQueue, topic: str) -> None:
    """With all that a publish can have; the page then shows it."""
    page.open(f"#/topics/{topic}")
    page.click("button", "Publish")
    headers = "content-type: text/plain\ntrace: 00-ab:cd"
    page.submit(
        "Publish", message="hello", headers=headers, delay="2h", priority="5", correlation_id="c-9"
    )

    page.notice("The message was published.")
    page.one("h1", "Message")
    (found,) = active(queue, topic)
    assert found.state is State.WAITING
    status = queue.message(topic, found.message_id)
    assert status.priority == 5
    assert status.scheduled_ms - status.created_ms == 7_200_000
    given = {"content-type": "text/plain", "trace": "00-ab:cd"}
    assert status.body == Envelope("hello", given, "c-9")


@pytest.mark.slow
def test_what_is_no_header_is_not_published(page: Browser, queue: BlockQueue, topic: str) -> None:
    page.open(f"#/topics/{topic}")
    page.click("button", "Publish")

    assert "no colon" in page.refuse("Publish", message="hello", headers="nonsense")
    assert active(queue, topic) == []


def test_one_dead_letter_is_replayed(page: Browser, queue: BlockQueue, topic: str) -> None:
    first, second = die(queue, topic, 2)
    open_worker(page, topic, "/dead")
    page.press(first, "Replay")

    page.notice("1 message was replayed.")
    until(lambda: list(page.rows) == [second], "the other one is still listed")
    assert [each.message_id for each in active(queue, topic)] == [first]


@pytest.mark.slow
def test_a_page_of_dead_letters_is_replayed(page: Browser, queue: BlockQueue, topic: str) -> None:
    """Those that are seen, and no others."""
    die(queue, topic, 52)
    open_worker(page, topic, "/dead")
    page.row(next(iter(page.rows)))
    page.click("button", "Replay this page")

    page.notice("50 messages were replayed.")
    until(lambda: len(page.rows) == 2, "the rest is listed")
    assert (deaths(queue, topic), len(active(queue, topic))) == (2, 50)


@pytest.mark.slow
def test_all_dead_letters_are_replayed(page: Browser, queue: BlockQueue, topic: str) -> None:
    """More than a page, more than a request takes, after a question."""
    for _ in range(3):
        die(queue, topic, 400)
    open_worker(page, topic, "/dead")
    page.click("button", "Replay all 1,200")
    page.submit("Replay all")

    page.notice("1,200 messages were replayed.")
    page.see("No dead letters.")
    assert deaths(queue, topic) == 0


def test_a_message_is_cancelled_for_one(page: Browser, queue: BlockQueue, topic: str) -> None:
    queue.add_subscribers(topic, ["other"])
    id = queue.publish(topic, "never mind").id
    open_worker(page, topic)
    page.press(id, "Cancel")
    page.submit("Cancel message", reason="a mistake")

    page.notice("The message was cancelled.")
    page.see("Nothing waits, and nothing is in flight.")
    states = {each.subscriber: each.state for each in queue.message(topic, id).deliveries}
    assert states == {"worker": State.CANCELLED, "other": State.PENDING}


@pytest.mark.slow
def test_a_message_is_cancelled_for_all(page: Browser, queue: BlockQueue, topic: str) -> None:
    queue.add_subscribers(topic, ["other"])
    id = queue.publish(topic, "never mind").id
    page.open(f"#/topics/{topic}/messages/{id}")
    page.click("button", "Cancel everywhere")
    page.submit("Cancel message", reason="a mistake")

    page.notice("The message was cancelled.")
    until(lambda: {each[1] for each in page.rows.values()} == {"cancelled"}, "the page says so")
    found = queue.message(topic, id).deliveries
    assert {(each.state, each.reason) for each in found} == {(State.CANCELLED, "a mistake")}


def test_what_is_in_flight_is_acknowledged(page: Browser, queue: BlockQueue, topic: str) -> None:
    id = queue.publish(topic, "stuck").id
    (held,) = queue.claim(topic, "worker")
    open_worker(page, topic)
    page.press(id, "Ack")
    page.submit("Acknowledge")

    page.notice("The message was acknowledged.")
    (found,) = queue.message(topic, id).deliveries
    assert found.state is State.PROCESSED
    with pytest.raises(LeaseLost):
        held.nack()


def test_a_topic_is_paused_and_resumed(page: Browser, queue: BlockQueue, topic: str) -> None:
    queue.publish(topic, "hello")
    page.open(f"#/topics/{topic}")
    page.click(".title button", "Pause")

    page.notice(f"{topic} is paused")
    page.one("h1 .badge", "paused")
    with pytest.raises(Paused):
        queue.claim(topic, "worker")
    page.click(".title button", "Resume")
    page.notice(f"{topic} goes on.")
    page.one(".title button", "Pause")
    assert len(queue.claim(topic, "worker")) == 1


@pytest.mark.slow
def test_a_subscriber_is_paused_and_resumed(page: Browser, queue: BlockQueue, topic: str) -> None:
    queue.publish(topic, "hello")
    open_worker(page, topic)
    page.click(".title button", "Pause")

    page.notice("worker is paused")
    page.one("h1 .badge", "paused")
    with pytest.raises(Paused):
        queue.claim(topic, "worker")
    page.click(".title button", "Resume")
    page.notice("worker goes on.")
    page.one(".title button", "Pause")
    assert len(queue.claim(topic, "worker")) == 1


@pytest.mark.slow
def test_a_schedule_is_created_and_deleted(page: Browser, queue: BlockQueue, topic: str) -> None:
    page.open(f"#/topics/{topic}/schedules")
    page.click("button", "New schedule")
    assert "cron" in page.refuse("Create schedule", name="night", cron="61 * * * *")
    page.click("button", "New schedule")
    page.submit(
        "Create schedule", name="night", cron="30 2 * * *", timezone="Europe/Vienna", message="go"
    )

    page.notice("Schedule night was created.")
    (made,) = queue.schedules(topic).page().items
    assert (made.name, made.cron, made.timezone, payload(made.body)) == (
        "night",
        "30 2 * * *",
        "Europe/Vienna",
        "go",
    )
    page.press("night", "Delete")
    page.submit("Delete schedule")
    page.notice("Schedule night was deleted.")
    assert not queue.schedules(topic).page().items


def test_a_schedule_is_run_and_paused(page: Browser, queue: BlockQueue, topic: str) -> None:
    """What it has published can be looked at from its runs."""
    schedule = queue.schedules(topic).create(ScheduleSpec("night", "30 2 * * *", "go"))
    page.open(f"#/topics/{topic}/schedules")
    page.press("night", "Run now")

    page.notice("night has published its message.")
    assert [payload(each.body) for each in active(queue, topic)] == ["go"]
    page.press("night", "Pause")
    page.notice("night is paused.")
    page.press("night", "Runs")
    page.see("running", ".runs")
    assert queue.schedules(topic).get(schedule.uid).paused
    page.press("night", "Resume")
    page.notice("night goes on.")
    assert not queue.schedules(topic).get(schedule.uid).paused
    page.click(".runs a", "its message")
    page.see("go", "pre.payload")
