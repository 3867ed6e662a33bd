"""How soon a browser that knows nothing shows the dashboard, and what it is sent for that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import bench_server
import click
from bench_figures import Bench, Figure, median

from blockqueue import BlockQueue

if TYPE_CHECKING:
    from tests.ui_browser import Browser

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_FIRST_ROW = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('tbody tr')) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.shownAt = performance.now(); }));
}).observe(document, {childList: true, subtree: true});
"""


def dashboard(bench: Bench) -> list[Figure]:
    """Open a page of a queue with many topics, again and again, with nothing in the cache."""
    from tests import ui_browser  # the other rows need no Selenium

    if missing := ui_browser.missing():
        click.echo(f"dashboard: not run: {missing}", err=True)
        return []
    path = bench.path("queue.db")
    _fill(path, bench.sizes.topics)
    with (
        bench_server.ours(path) as served,
        ui_browser.chromium(bench.folder / "profile") as driver,
    ):
        page = ui_browser.Browser(driver, f"http://127.0.0.1:{served.port}")
        page.command("Page.addScriptToEvaluateOnNewDocument", source=_FIRST_ROW)
        opened = [_open(page) for _ in range(bench.sizes.rounds + 1)][1:]
    painted, shown, sent = zip(*opened, strict=True)
    what = f"the dashboard, {bench.sizes.topics:,} topics"
    return [
        Figure(f"{what}: first paint", median(painted), "ms", at_most=1_000),
        Figure("  the first topics are there", median(shown), "ms", at_most=1_000),
        Figure("  sent for that", max(sent) / 1_000, "kB", at_most=200),
    ]


def _fill(path: str, topics: int) -> None:
    with BlockQueue(path) as queue:
        for number in range(topics):
            queue.create_topic(f"topic-{number:04}", ["worker"])
            queue.publish_many(f"topic-{number:04}", ["message"] * (1 + number % 5))


def _open(page: Browser) -> tuple[float, float, int]:
    """Return when something was painted, when the topics were, and all bytes."""
    from tests.http_server import until

    page.command("Network.clearBrowserCache")
    page.driver.get("about:blank")
    page.driver.get(f"{page.root}/")
    until(lambda: page.run("return window.shownAt ?? null") is not None, "the topics are shown")
    found: tuple[float, float, int] = page.run(
        "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        " window.shownAt,"
        " performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)]"
    )
    return found
