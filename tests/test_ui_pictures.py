"""The pictures of the documentation: always the same hour in the life of a small shop.

To make those in ``docs/images`` anew, name that folder:
``BLOCKQUEUE_PICTURES=docs/images pytest tests/test_ui_pictures.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from PIL import Image

from blockqueue import BlockQueue, ManualClock, ScheduleSpec, Subscriber
from blockqueue.api.app import create_app

from .http_server import PATIENCE_S, until
from .ui_browser import Browser
from .ui_fixtures import browser

__all__ = ["browser"]

pytestmark = pytest.mark.slow

_FOLDER = os.environ.get("BLOCKQUEUE_PICTURES")
_BYTES_MAX = 200_000
_COLOURS_MIN = 100
_STEP_MS = 5_000
_STEPS = 55
_ORDER = '{"order": 10428, "customer": "c-2207", "currency": "EUR", "total": 74.80}'
_HEADERS = {
    "content-type": "application/json",
    "source": "shop-web-3",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
_PICTURES = ("topics", "topic", "dead-letters", "message", "schedules", "topics-dark")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A server in this process, whose queue has a clock that is moved by hand."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Leave the tests' output to the tests."""


@contextlib.contextmanager
def served(queue: BlockQueue) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Quiet) as server:
        server.set_app(create_app(queue))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(PATIENCE_S)


class Shop:
    """What happens in the queue: every five seconds some orders, and what is done about them."""

    def __init__(self, queue: BlockQueue, clock: ManualClock) -> None:
        self.queue = queue
        self.clock = clock
        self.steps = 0
        self.numbers = itertools.count(10_301)
        queue.create_topic(
            "orders",
            [
                Subscriber("billing", max_attempts=1),
                Subscriber("mail", retry_initial="40s", retry_jitter=0),
                Subscriber("stock", visibility="30s"),
                "search-index",
            ],
        )
        queue.create_topic("thumbnails", [Subscriber("resize", claim_limit=1)])
        queue.create_topic("webhooks", ["deliver", "archive"])
        queue.create_topic("audit", ["archive"])
        queue.create_topic("newsletter", ["mail"])
        queue.pause("newsletter")
        queue.publish_many("newsletter", ["spring sale"] * 40)
        schedules = queue.schedules("audit")
        schedules.create(ScheduleSpec("nightly-report", "30 2 * * *", "report", "Europe/Vienna"))
        self.cleanup = schedules.create(
            ScheduleSpec("cleanup", "*/15 * * * *", '{"keep_days": 30}')
        ).uid
        paused = schedules.create(ScheduleSpec("year-end", "0 6 1 1 *", "close the books"))
        schedules.pause(paused.uid)

    def step(self) -> None:
        """Let five seconds pass."""
        self.steps += 1
        queue, burst = self.queue, 12 if 20 < self.steps < 32 else 4
        if self.steps == 19:
            queue.publish("orders", _ORDER, headers=_HEADERS, correlation_id="checkout-51f0")
        orders = [next(self.numbers) for _ in range(burst)]
        queue.publish_many(
            "orders", [f'{{"order": {n}, "customer": "c-{n % 89}"}}' for n in orders]
        )
        queue.publish_many("webhooks", ["paid"] * (burst // 2))
        queue.publish_many("thumbnails", ["photo.jpg"] * (1 + self.steps % 3))
        queue.publish("audit", "login")
        if self.steps % 30 == 0:
            queue.schedules("audit").run_now(self.cleanup)
        self._work("billing", 6, dies=self.steps in {9, 14, 19}, why="card declined: code 51")
        self._work("mail", 7, dies=self.steps % 9 == 0, why="421 try again later")
        self._work("stock", 5, holds=self.steps % 11 == 0)
        self._work("search-index", 20)
        for topic, subscriber in (("webhooks", "deliver"), ("thumbnails", "resize")):
            queue.ack(topic, subscriber, queue.claim(topic, subscriber, limit=2))
        queue.ack("webhooks", "archive", queue.claim("webhooks", "archive", limit=20))
        queue.ack("audit", "archive", queue.claim("audit", "archive"))
        self.clock.advance(_STEP_MS)

    def _work(
        self, subscriber: str, limit: int, *, dies: bool = False, holds: bool = False, why: str = ""
    ) -> None:
        held = self.queue.claim("orders", subscriber, limit=limit)
        if dies:
            self.queue.nack("orders", subscriber, held[:1], error=why)
        if not holds:
            self.queue.ack("orders", subscriber, held[1 if dies else 0 :])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    clock = ManualClock(1_773_133_200_000)  # a Tuesday morning
    with BlockQueue(tmp_path / "queue.db", clock=clock) as queue:
        yield Shop(queue, clock)


def watch(page: Browser, step: Callable[[], None]) -> None:
    """Let the page see each step, so that its charts have the last minutes."""
    page.live()
    page.run("performance.setResourceTimingBufferSize(100000)")
    for _ in range(_STEPS):
        step()
        seen = page.requests()
        page.run("dispatchEvent(new Event('online'))")  # it asks at once
        until(lambda seen=seen: page.requests() > seen, "the page has asked")  # type: ignore[misc]


def picture(page: Browser, folder: Path, name: str) -> Path:
    page.run("scrollTo(0, 0)")
    path = folder / f"{name}.png"
    page.live()
    assert page.driver.save_screenshot(str(path))
    return path


def dying(shop: Shop) -> str:
    """The id of the order that was too much for a card."""
    dead = shop.queue.dead_page("orders", "billing", 10).items
    return dead[0].message_id


def take(page: Browser, shop: Shop, folder: Path) -> Iterator[Path]:
    page.prefer(prefers_reduced_motion="reduce", prefers_color_scheme="light")
    page.resize(1280, 800)
    page.open()
    watch(page, shop.step)
    page.row("orders")
    yield picture(page, folder, "topics")
    page.prefer(prefers_reduced_motion="reduce", prefers_color_scheme="dark")
    yield picture(page, folder, "topics-dark")
    page.prefer(prefers_reduced_motion="reduce", prefers_color_scheme="light")
    page.go("#/topics/orders")
    page.row("billing")
    watch(page, shop.step)
    yield picture(page, folder, "topic")
    page.go("#/topics/orders/subscribers/billing/dead")
    page.row(dying(shop))
    page.gone("–", ".tile:last-child")  # what the topic's view has seen is known here
    yield picture(page, folder, "dead-letters")
    page.go(f"#/topics/orders/messages/{dying(shop)}")
    page.press("billing", "Failures")
    page.see("card declined", ".failures")
    page.resize(1280, 900)
    yield picture(page, folder, "message")
    page.resize(1280, 800)
    page.go("#/topics/audit/schedules")
    page.press("cleanup", "Runs")
    page.one(".runs")
    yield picture(page, folder, "schedules")


def test_the_pictures(browser: Browser, shop: Shop, tmp_path: Path) -> None:
    """Each shows something, and is small enough for a page."""
    folder = Path(_FOLDER) if _FOLDER else tmp_path
    with served(shop.queue) as browser.root:
        taken = list(take(browser, shop, folder))

    assert sorted(each.stem for each in taken) == sorted(_PICTURES)
    for each in taken:
        assert each.stat().st_size < _BYTES_MAX
        with Image.open(each) as image:
            assert image.width == 1280
            assert len(image.convert("RGB").getcolors(1_000_000) or ()) > _COLOURS_MIN


def test_the_documentation_has_these_pictures() -> None:
    """All of them, and no others that nobody would make anew."""
    images = Path(__file__).resolve().parent.parent / "docs/images"

    assert sorted(each.name for each in images.iterdir()) == sorted(f"{n}.png" for n in _PICTURES)
