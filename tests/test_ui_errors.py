"""What the dashboard says when it is refused, and when its server or its topic is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blockqueue import BlockQueue, Subscriber

from .http_server import serving, until, unused_port
from .ui_browser import Browser
from .ui_fixtures import Dashboard, browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A server that wants a token, with the topics "cart" and "other"."""
    db = tmp_path_factory.mktemp("guarded") / "queue.db"
    with serving(db, "--auth", "required") as server, BlockQueue(db) as queue:
        for topic in ("cart", "other"):
            queue.create_topic(topic, [Subscriber("worker", max_attempts=1)])
        yield Dashboard(server, queue)


@pytest.fixture
def wary(browser: Browser, guarded: Dashboard) -> Browser:
    browser.root = f"http://127.0.0.1:{guarded.server.port}"
    return browser


def secret(guarded: Dashboard, name: str, *scopes: str) -> str:
    return guarded.queue.tokens.create(name, scopes).secret


def test_a_token_is_asked_for(wary: Browser, guarded: Dashboard) -> None:
    """One that is wrong is refused; the right one is kept by the tab, and forgotten on demand."""
    wary.open()

    wary.one("h1", "A token, please")
    assert wary.one("[name=token]").get_attribute("type") == "password"
    wary.fill("token", "bq_nonsense")
    wary.click("button", "Use it")
    wary.see("token", ".error")
    wary.fill("token", secret(guarded, "all", "observe:*"))
    wary.click("button", "Use it")
    wary.row("cart")
    wary.driver.refresh()
    wary.row("cart")
    assert wary.run("return [localStorage.length, document.cookie]") == [0, ""]
    wary.click("button", "Forget token")
    wary.one("h1", "A token, please")
    assert "cart" not in wary.text


@pytest.mark.slow
def test_a_revoked_token_is_asked_for_again(wary: Browser, guarded: Dashboard) -> None:
    """While a view is open: what it showed is gone with the right to see it."""
    wary.open("#/topics/cart", token=secret(guarded, "short", "observe:*"))
    wary.row("worker")

    guarded.queue.tokens.revoke("short")

    wary.one("h1", "A token, please")
    assert not wary.rows


@pytest.mark.slow
def test_a_token_for_one_topic_opens_that_one(wary: Browser, guarded: Dashboard) -> None:
    wary.open(token=secret(guarded, "one", "observe:cart"))

    wary.one("h1", "Open a topic")
    wary.fill("topic", "cart")
    wary.click("button", "Open")
    wary.row("worker")
    wary.go("#/topics/other")
    wary.one("h1", "It is not there")  # nor is it told whether it is


def test_an_action_without_its_scope_says_which(wary: Browser, guarded: Dashboard) -> None:
    """Who may only look is told so by each action, and nothing is done."""
    wary.open("#/topics/cart", token=secret(guarded, "looks", "observe:*"))

    wary.click("button", "Publish")
    assert "publish" in wary.refuse("Publish", message="hello")
    wary.click(".title button", "Pause")
    wary.notice("manage")
    assert not guarded.queue.topic("cart").paused
    assert not guarded.queue.active_page("cart", "worker", 10).items


@pytest.mark.slow
def test_a_topic_deleted_under_an_open_view(page: Browser, queue: BlockQueue) -> None:
    """The view says so by itself; when the topic comes back, so does the view."""
    queue.create_topic("cart", ["worker"])
    page.open("#/topics/cart")
    page.row("worker")

    queue.delete_topic("cart")
    page.one("h1", "It is not there")
    page.see("cart", "main")
    queue.create_topic("cart", ["another"])

    page.row("another")
    page.one("h1", "cart")


@pytest.mark.slow
def test_what_was_never_there(page: Browser, queue: BlockQueue) -> None:
    """Each address that names nothing says so; one that is no view shows the topics."""
    queue.create_topic("here", ["worker"])
    for where in (
        "#/topics/nowhere",
        "#/topics/nowhere/schedules",
        "#/topics/here/subscribers/nobody",
        "#/topics/here/messages/00000000-0000-0000-0000-000000000000",
    ):
        page.open(where)
        page.one("h1", "It is not there")
    page.open("#/elsewhere/%E0%A4%A")
    page.one("h1", "Topics")


def test_a_conflict_is_told(page: Browser, queue: BlockQueue) -> None:
    """An action that comes too late, or twice, says why it was not done."""
    queue.create_topic("twice", ["worker"])
    page.open()
    page.click("button", "New topic")
    assert "twice" in page.refuse("Create topic", topic="twice", subscribers="worker")

    queue.publish("twice", "hello")
    (held,) = queue.claim("twice", "worker")
    page.open("#/topics/twice/subscribers/worker")
    page.press(held.id, "Ack")
    held.nack(delay="1h")
    assert "lease" in page.refuse("Acknowledge")


@pytest.mark.slow
def test_a_server_that_is_stopped_and_started_again(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What was shown stays, with a warning; the page finds the new server by itself."""
    db = tmp_path_factory.mktemp("restarted") / "queue.db"
    port = unused_port()
    browser.root = f"http://127.0.0.1:{port}"
    with serving(db, "--port", str(port)) as server:
        server.send("POST", "/topics", {"name": "cart", "subscribers": [{"name": "worker"}]})
        browser.open()
        browser.row("cart")
        browser.live()
        assert server.stop() == 0

        browser.see("The server cannot be reached.", "#banner")
        browser.one("#status .off", "not live")
        assert "cart" in browser.rows
        browser.click("button", "New topic")
        refused = browser.refuse("Create topic", topic="lost", subscribers="worker")
        assert "cannot be reached" in refused
    with serving(db, "--port", str(port)):
        browser.live()
        until(lambda: browser.text_of("#banner") == "", "the banner is gone")
        assert list(browser.rows) == ["cart"]
