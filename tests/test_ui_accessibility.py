"""The dashboard for who cannot see it, or has no mouse.

axe-core looks at each view, light and dark: names, roles, landmarks, the order of headings, the
contrast of each word. What it cannot look at, where the focus goes, is pressed key by key.
"""

from __future__ import annotations

from typing import Any

import pytest
from axe_core_python.selenium import Axe  # type: ignore[import-untyped]
from selenium.webdriver.common.keys import Keys

from blockqueue import ScheduleSpec, Subscriber

from .ui_browser import Browser
from .ui_fixtures import Dashboard, browser, dashboard, page

__all__ = ["browser", "dashboard", "page"]

_TOPIC = "#/topics/orders"


@pytest.fixture(scope="module", autouse=True)
def message(dashboard: Dashboard) -> str:
    """A topic with something of everything, and the id of a message that has failed."""
    queue = dashboard.queue
    queue.create_topic("orders", [Subscriber("billing", max_attempts=1), "mail"])
    for text in ('{"order": 1}', "two", "three"):
        queue.publish("orders", text, headers={"source": "shop"})
    first, _ = queue.claim("orders", "billing", limit=2, lease=3600)
    first.nack(error="card declined")
    queue.pause("orders", "mail")
    made = queue.schedules("orders").create(ScheduleSpec("report", "30 2 * * *", "go"))
    queue.schedules("orders").run_now(made.uid)
    return first.id


def violations(page: Browser) -> list[str]:
    """Return what axe-core finds wrong with the page as it is now."""

    found: dict[str, Any] = Axe().run(page.driver)
    assert [rule for rule in found["incomplete"] if not rule["nodes"]] == []  # it gave up
    return [
        f"{rule['id']}: {rule['help']}: {node['target']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_view_is_sound(page: Browser, message: str, scheme: str) -> None:
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}  # no fading
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    page.command("Emulation.setEmulatedMedia", features=features)
    page.open()
    for where, shown in (
        ("#/", "orders"),
        (_TOPIC, "billing"),
        (f"{_TOPIC}/subscribers/mail", "two"),
        (f"{_TOPIC}/subscribers/billing/dead", "card declined"),
        (f"{_TOPIC}/schedules", "report"),
        (f"{_TOPIC}/messages/{message}", "card declined"),
    ):
        page.go(where)
        page.see(shown, "main table")
        assert violations(page) == [], where
    page.click("button", "Failures")
    page.one(".failures")
    assert violations(page) == []


@pytest.mark.parametrize("action", ["Publish", "Delete"])
def test_each_question_is_sound(page: Browser, action: str) -> None:
    page.open(_TOPIC)
    page.click("main button", action)
    page.one("dialog")

    assert violations(page) == []


def test_what_is_not_there_is_told_soundly(page: Browser) -> None:
    page.open("#/topics/none")
    page.one("h1", "It is not there")

    assert violations(page) == []


def test_a_page_that_is_not_sound_is_noticed(page: Browser) -> None:
    """The control: a button without a name, and words that can hardly be read."""
    page.open()
    page.see("orders", "main table")
    page.run(
        "const main = document.querySelector('main');"
        "main.append(document.createElement('button'));"
        "main.querySelector('h1').style.color = '#eee'"
    )

    assert {each.split(":")[0] for each in violations(page)} == {"button-name", "color-contrast"}


def focused(page: Browser) -> str:
    found: str = page.run(
        "const at = document.activeElement; return at.getAttribute('aria-label') ?? at.innerText"
    )
    return found


def press(page: Browser, *keys: str) -> None:
    """Press keys, wherever the focus is."""
    for key in keys:
        page.driver.switch_to.active_element.send_keys(key)


def test_the_navigation_can_be_skipped(page: Browser) -> None:
    """And the view stays what it is."""
    page.open(_TOPIC)
    page.see("billing", "main table")
    press(page, Keys.TAB)
    assert focused(page) == "Skip to the content"
    press(page, Keys.ENTER)

    assert page.run("return [document.activeElement.id, location.hash]") == ["main", _TOPIC]


def test_a_view_begins_at_its_heading(page: Browser) -> None:
    """So that a screen reader reads what is new, and Tab goes on from there."""
    page.open()
    page.click("tbody a", "orders")
    page.one("h1", "orders")

    assert focused(page) == "orders"
    press(page, Keys.TAB)
    assert focused(page) == "Publish"


def test_a_question_keeps_the_focus_and_gives_it_back(page: Browser) -> None:
    page.open(_TOPIC)
    page.see("billing", "main table")
    page.run(
        "[...document.querySelectorAll('main button')].find(e => e.innerText == 'Delete').focus()"
    )
    press(page, Keys.ENTER)
    page.one("dialog")

    for _ in range(6):
        press(page, Keys.TAB)
        assert page.run(
            "const at = document.activeElement;"
            "return at === document.body || document.querySelector('dialog').contains(at)"
        )
    page.run("document.querySelector('dialog input').focus()")
    press(page, Keys.ESCAPE)
    page.gone("Delete orders?")
    assert focused(page) == "Delete"
