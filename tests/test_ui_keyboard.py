"""The dashboard without a mouse, and on a small screen."""

from __future__ import annotations

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from blockqueue import BlockQueue, ScheduleSpec, Subscriber

from .ui_browser import Browser
from .ui_fixtures import Dashboard, browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]

pytestmark = pytest.mark.slow

_VIEWS = ("topics", "topic", "active", "dead", "message", "schedules")
_TABS_MAX = 80


@pytest.fixture(scope="module")
def views(dashboard: Dashboard) -> dict[str, str]:
    """Every view, with something of each kind in it."""
    queue = dashboard.queue
    queue.create_topic("cart", [Subscriber("worker", max_attempts=1), "audit"])
    id = queue.publish("cart", "dead", headers={"trace": "00-ab" * 50}).id
    queue.nack("cart", "worker", queue.claim("cart", "worker"), error="no route")
    queue.publish_many("cart", ["held", "next"])
    queue.claim("cart", "worker", limit=1)
    queue.schedules("cart").create(ScheduleSpec("night", "30 2 * * *", "go"))
    worker = "#/topics/cart/subscribers/worker"
    addresses = ("#/", "#/topics/cart", worker, f"{worker}/dead", f"#/topics/cart/messages/{id}")
    return dict(zip(_VIEWS, (*addresses, "#/topics/cart/schedules"), strict=True))


def tab(page: Browser) -> str:
    """Go on by a key; return what has the focus then."""
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    found: str = page.run(
        "const e = document.activeElement; if (e === document.body) return '';"
        "e.dataset.reached = '1'; return e.ariaLabel || e.innerText || e.name || e.tagName"
    )
    return found


def unreached(page: Browser) -> list[str]:
    """Go round by Tab; return the controls that were not come by."""
    first = tab(page)
    assert first.startswith("Skip to")
    for _ in range(_TABS_MAX):
        if tab(page) in ("", first):
            break
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "it can be seen where one is"
    missed: list[str] = page.run(
        "return [...document.querySelectorAll('a[href], button, input, select, textarea')]"
        ".filter(e => e.checkVisibility() && !e.disabled && !e.dataset.reached)"
        ".map(e => e.innerText || e.outerHTML)"
    )
    return missed


@pytest.mark.parametrize("view", _VIEWS)
def test_all_is_reached_by_the_keyboard(page: Browser, views: dict[str, str], view: str) -> None:
    page.open(views[view])
    page.live()

    assert unreached(page) == []


def test_the_check_notices_what_is_not_reached(page: Browser, views: dict[str, str]) -> None:
    """The control."""
    page.open(views["topics"])
    page.live()
    page.run("document.querySelector('.title button').tabIndex = -1")

    assert unreached(page) == ["New topic"]


def test_a_topic_is_made_without_a_mouse(page: Browser, queue: BlockQueue) -> None:
    """And who made it hears of it."""
    page.open()
    page.live()
    assert "New topic" in (tab(page) for _ in range(_TABS_MAX))
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.one("dialog[open]")
    ActionChains(page.driver).send_keys("keys", Keys.TAB, "worker", Keys.ENTER).perform()

    page.one("h1", "keys")
    assert "keys" in queue.topics()
    page.see("keys was created", "[aria-live=polite]")


@pytest.mark.parametrize("view", _VIEWS)
def test_a_telephone(page: Browser, views: dict[str, str], view: str) -> None:
    """The page is as wide as the screen; what is wider scrolls in itself."""
    page.resize(390, 844)
    page.open(views[view])
    page.live()

    assert page.run("return document.documentElement.scrollWidth") == 390
