"""The page stays true by itself, and asks no more often than it says."""

from __future__ import annotations

import itertools

import pytest

from blockqueue import BlockQueue

from .http_server import until
from .ui_browser import Browser
from .ui_fixtures import browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]

# The page's pauses in milliseconds, and what a busy machine may add or a clock may round.
_PAUSE_MS, _SLACK_MS = 2_000, 100


def test_what_others_do_is_seen(page: Browser, queue: BlockQueue) -> None:
    """A publish by another program appears without a reload, where the reader is."""
    queue.create_topic("cart", ["worker"])
    page.open("#/topics/cart/subscribers/worker")
    page.see("Nothing waits, and nothing is in flight.")
    page.run("window.same = 1; document.querySelector('.title button').focus()")

    id = queue.publish("cart", "hello").id

    page.row(id)
    assert page.run("return [window.same, document.activeElement.textContent]") == [1, "Pause"]


@pytest.mark.slow
def test_one_request_each_two_seconds(page: Browser, queue: BlockQueue) -> None:
    """Also with many topics on the page; what has not changed is not sent again."""
    for number in range(30):
        queue.create_topic(f"busy-{number}", ["worker"])
    page.open()
    page.live()

    found: list[tuple[float, float, int]] = []

    def unchanged() -> int:
        found[:] = page.run(
            "return performance.getEntriesByType('resource').filter(each => each.name.includes("
            "'/ui/api/')).map(each => [each.startTime, each.responseEnd, each.responseStatus])"
        )
        return [status for _, _, status in found].count(304)

    until(lambda: unchanged() >= 2, "it was told twice that nothing has changed")

    assert found[0][2] == 200
    for (_, ended, _), (started, _, _) in itertools.pairwise(found):
        assert started - ended >= _PAUSE_MS - _SLACK_MS


@pytest.mark.slow
def test_nobody_asks_while_nobody_looks(page: Browser, queue: BlockQueue) -> None:
    """A page in the background is silent; it asks at once when it is looked at again."""
    queue.create_topic("seen", ["worker"])
    page.open()
    page.row("seen")
    page.live()
    page.driver.minimize_window()
    try:
        assert page.run("return document.hidden")
        asked = page.requests()
        page.run("dispatchEvent(new Event('online'))")  # the network is back: it asks once
        until(lambda: page.requests() == asked + 1, "a look that ends in the background")
        count = page.requests()
        queue.create_topic("unseen", ["worker"])
        hidden = page.run("return performance.now()")
        until(
            lambda: page.run("return performance.now() - arguments[0]", hidden) > 2.5 * _PAUSE_MS,
            "two pauses have passed",
        )
        assert page.requests() == count
        assert "unseen" not in page.rows
    finally:
        page.driver.set_window_rect(0, 0, 1280, 800)

    page.row("unseen")
    assert page.requests() > count
