"""What each view of the dashboard shows, in a real browser."""

from __future__ import annotations

import pytest

from blockqueue import BlockQueue, ScheduleSpec, Subscriber

from .ui_browser import Browser
from .ui_fixtures import Dashboard, browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]

_TOPIC = "orders"
_HEADERS = {"content-type": "application/json", "trace": "4bf92f35"}


@pytest.fixture(scope="module", autouse=True)
def ids(dashboard: Dashboard) -> dict[str, str]:
    """A topic with a message in each state, and the messages' ids."""
    queue = dashboard.queue
    queue.create_topic(
        _TOPIC, [Subscriber("billing", max_attempts=1), Subscriber("mail", retry_initial="1h")]
    )
    queue.create_topic("quiet", ["nobody"])
    found = {
        "dead": queue.publish(_TOPIC, '{"order": 1}', headers=_HEADERS, correlation_id="c-1").id,
        "leased": queue.publish(_TOPIC, "plain text").id,
    }
    first, _ = queue.claim(_TOPIC, "billing", limit=2, lease=3600)
    queue.nack(_TOPIC, "billing", [first], error="card declined")
    retried, done = queue.claim(_TOPIC, "mail", limit=2)
    queue.nack(_TOPIC, "mail", [retried], error="no route")
    queue.ack(_TOPIC, "mail", [done])
    found["pending"] = queue.publish(_TOPIC, "the third").id
    found["delayed"] = queue.publish(_TOPIC, "later", delay=7200).id
    queue.schedules(_TOPIC).create(ScheduleSpec("report", "30 2 * * *", "go"))
    queue.pause("quiet")
    return found


def test_the_topics(page: Browser) -> None:
    """Each topic with its counts; one that is paused says so; search leaves the others out."""
    page.open()

    page.live()
    row = page.row(_TOPIC)
    assert row[1:5] == ["2", "5", "1", "1"], row
    assert page.row("quiet")[0] == "quiet paused"
    page.one("input[type=search]").send_keys("ord")
    page.gone("quiet", "table")
    page.see("1–1 of 1 topics")


def test_topics_are_sorted_by_what_is_asked_for(page: Browser) -> None:
    page.open()

    page.click("th button", "Dead letters")

    page.one("th[aria-sort=descending]", "Dead letters")
    assert next(iter(page.rows)) == _TOPIC


def test_one_topic(page: Browser) -> None:
    """Its subscribers, each with what it has to do; the tiles are their sums."""
    page.open()
    page.click("tbody a", _TOPIC)

    page.one("h1", _TOPIC)
    billing, mail = page.row("billing"), page.row("mail")
    assert billing[1:5] == ["2", "1", "1", "1"], billing
    assert mail[1:5] == ["3", "2", "0", "0"], mail
    assert page.driver.title == f"{_TOPIC} – BlockQueue"
    tiles = page.text_of(".tiles")
    assert "Waiting\n\n5" in tiles
    assert "Dead letters\n\n1" in tiles


def test_the_active_messages_of_a_subscriber(page: Browser, ids: dict[str, str]) -> None:
    """What is in flight, what waits, and what comes later, with how they begin."""
    page.open(f"#/topics/{_TOPIC}/subscribers/billing")

    states = {name: page.row(ids[name])[2] for name in ("leased", "pending", "delayed")}
    assert states == {"leased": "in flight", "pending": "waiting", "delayed": "later"}
    assert "plain text" in page.text_of("tbody")
    assert page.text_of(".facts").startswith("Attempts\n1")


def test_the_dead_letters_of_a_subscriber(page: Browser, ids: dict[str, str]) -> None:
    page.open(f"#/topics/{_TOPIC}")
    page.click("tbody a[href$=dead]", "1")

    row = page.row(ids["dead"])
    assert row[1:4] == ['{"order": 1}', "1", "1"]
    assert "card declined" in row
    assert len(page.rows) == 1


def test_a_message(page: Browser, ids: dict[str, str]) -> None:
    """Its payload laid out, its headers, and what it is to each subscriber."""
    page.open(f"#/topics/{_TOPIC}")
    page.fill("id", ids["dead"])
    page.click("button", "Look up")

    page.see(ids["dead"], "dl.facts")
    page.see("c-1", "dl.facts")
    assert page.text_of("pre.payload") == '{\n  "order": 1\n}'
    assert "4bf92f35" in page.text_of(".headers")
    assert page.row("billing")[1] == "dead"
    assert page.row("mail")[1] == "later"
    page.press("billing", "Failures")
    page.see("card declined", ".failures")
    page.click("button", "Text")
    assert page.text_of("pre.payload") == '{"order": 1}'
    page.click("button", "Hex")
    page.see("00000000  7b 22 6f 72", "pre.payload")


def test_schedules(page: Browser, queue: BlockQueue) -> None:
    """Each with its next time, and what became of its last."""
    page.open(f"#/topics/{_TOPIC}")
    page.click("nav a", "Schedules")

    row = page.row("report")
    assert row[1] == "30 2 * * * UTC"
    assert "02:30:00 (in " in row[2]
    page.press("report", "Runs")
    page.see("It has not run yet.")


def test_an_empty_queue_says_what_to_do(page: Browser) -> None:
    """Where there is nothing, there is a sentence and no empty table."""
    page.open("#/topics/quiet/subscribers/nobody")
    page.see("Nothing waits, and nothing is in flight.")
    page.go("#/topics/quiet/subscribers/nobody/dead")
    page.see("No dead letters.")
    page.go("#/topics/quiet/schedules")
    page.see("No schedules.")


def test_charts_tell_their_numbers(page: Browser) -> None:
    """Who cannot see a chart hears what it shows."""
    page.open(f"#/topics/{_TOPIC}")

    page.live()
    labels = page.run(
        "return [...document.querySelectorAll('.tiles svg')].map(e => e.getAttribute('aria-label'))"
    )
    assert len(labels) == 5
    assert any(each.startswith("Dead letters") and "now 1" in each for each in labels), labels
