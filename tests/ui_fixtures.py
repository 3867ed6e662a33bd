"""One browser for all tests of a process, and a server with a queue for each module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from blockqueue import BlockQueue

from .http_server import Server, serving

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from .ui_browser import Browser


class Dashboard(NamedTuple):
    """A server, and its queue as a program beside it sees it."""

    server: Server
    queue: BlockQueue


@pytest.fixture(scope="session")
def needs_browser() -> None:
    from . import ui_browser  # the other tests need not load Selenium

    missing = ui_browser.missing()
    if missing and "BLOCKQUEUE_NEEDS_BROWSER" in os.environ:
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def chromium(needs_browser: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from . import ui_browser

    with ui_browser.chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    db = tmp_path_factory.mktemp("ui") / "queue.db"
    with serving(db) as server, BlockQueue(db) as queue:
        yield Dashboard(server, queue)


@pytest.fixture
def queue(dashboard: Dashboard) -> BlockQueue:
    return dashboard.queue


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[Browser]:
    """The browser with nothing open; afterwards it has found no fault in the pages."""
    from .ui_browser import Browser

    found = Browser(chromium)
    found.reset()
    yield found
    assert found.complaints() == []


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Browser:
    """The browser, told where the module's dashboard is."""
    browser.root = f"http://127.0.0.1:{dashboard.server.port}"
    return browser
