"""Whatever is in a queue is shown as text: nothing of it becomes a part of the page, or runs."""

from __future__ import annotations

from typing import Any

import pytest

from blockqueue import BlockQueue, ScheduleSpec, Subscriber

from .http_server import until
from .ui_browser import Browser
from .ui_fixtures import browser, dashboard, page, queue

__all__ = ["browser", "dashboard", "page", "queue"]

# Markup that runs as soon as it is markup, without a "/": that is in no name.
_MARKUP = '<img class=evil src=x onerror="window.pwned=7">'
_QUOTES = "\"'`);window.pwned=7;" + _MARKUP + "&amp;"
_EVIL = "img.evil, [onerror], [onload], main script, main iframe"


@pytest.fixture
def evil(queue: BlockQueue) -> tuple[str, str]:
    """A topic full of markup, and the id of a message of it that has died."""
    if _MARKUP not in queue.topics():
        queue.create_topic(_MARKUP, [Subscriber(_QUOTES, max_attempts=1)])
        headers = {_MARKUP: _QUOTES, "javascript:window.pwned=7": "</dd><script>window.pwned=7"}
        queue.publish(_MARKUP, _MARKUP, headers=headers, correlation_id=_QUOTES)
        held = queue.claim(_MARKUP, _QUOTES)
        queue.nack(_MARKUP, _QUOTES, held, error=_MARKUP + "</pre><script>window.pwned=7</script>")
        queue.publish(_MARKUP, f'{{"{"a" * 20}": "{_MARKUP.replace(chr(34), "")}"}}')
        queue.schedules(_MARKUP).create(ScheduleSpec(_MARKUP, "30 2 * * *", _MARKUP))
    (dead,) = queue.dead_page(_MARKUP, _QUOTES, 10).items
    return _MARKUP, dead.message_id


def quoted(page: Browser, text: str) -> str:
    found: str = page.run("return encodeURIComponent(arguments[0])", text)
    return found


def check_nothing_ran(page: Browser) -> None:
    assert page.run("return window.pwned ?? null") is None
    assert page.driver.find_elements("css selector", _EVIL) == []


def test_names_are_text(page: Browser, evil: tuple[str, str]) -> None:
    """In the lists, the headings, the title, and in what is said of them."""
    topic, _ = evil
    page.open()
    page.row(topic)
    check_nothing_ran(page)
    page.click("tbody a", topic)
    page.one("h1", topic)
    page.row(_QUOTES)
    assert page.driver.title == f"{topic} – BlockQueue"
    page.click(".title button", "Pause")
    page.notice(f"{topic} is paused")
    page.click(".title button", "Resume")
    page.notice(f"{topic} goes on.")
    page.click(".title button", "Delete")
    page.see(topic, "dialog h2")
    page.click("dialog button", "Cancel")
    page.click("tbody a", _QUOTES)
    page.one("h1", _QUOTES)
    check_nothing_ran(page)


def test_messages_are_text(page: Browser, evil: tuple[str, str]) -> None:
    """Payloads, headers, ids and reasons of failures; in lists and alone."""
    topic, id = evil
    page.open(f"#/topics/{quoted(page, topic)}/subscribers/{quoted(page, _QUOTES)}/dead")
    assert _MARKUP in page.row(id)
    page.click("tbody a", id)
    page.see(_MARKUP, "pre.payload")
    page.see(_QUOTES, ".headers")
    page.see(_QUOTES, ".facts")
    page.press("window.pwned", "Failures")
    page.see(_MARKUP, ".failures")
    check_nothing_ran(page)


@pytest.mark.slow
def test_schedules_are_text(page: Browser, evil: tuple[str, str]) -> None:
    page.open(f"#/topics/{quoted(page, evil[0])}/schedules")
    assert _MARKUP in page.row(_MARKUP)[3]
    check_nothing_ran(page)


@pytest.mark.slow
def test_addresses_are_text(page: Browser, queue: BlockQueue) -> None:
    """A link that somebody was sent can show nothing but a sentence."""
    page.open(f"#/topics/{quoted(page, _MARKUP + 'x')}")
    page.one("h1", "It is not there")
    page.see(_MARKUP, "main")
    check_nothing_ran(page)


def test_the_markup_would_run(browser: Browser) -> None:
    """The control: where markup is taken for markup, what is looked for is there."""
    for text in (_MARKUP, _QUOTES):
        browser.driver.get("about:blank")
        browser.run("document.body.innerHTML = arguments[0]", text)
        until(lambda: browser.run("return window.pwned ?? null") == 7, "it has run")
        assert browser.driver.find_elements("css selector", _EVIL) != []
        with pytest.raises(AssertionError):
            check_nothing_ran(browser)


_MISTAKES = {
    "markup": ("document.body.innerHTML = '<b>bold</b>'", "TrustedHTML"),
    "a handler": ("document.body.setAttribute('onclick', 'window.pwned=7')", "TrustedScript"),
    "a script": ("document.createElement('script').text = 'window.pwned=7'", "TrustedScript"),
    "a style": ("document.body.setAttribute('style', 'color: red')", "style-src"),
    "a request": ("fetch('http://127.0.0.1:9/').catch(() => 0)", "connect-src"),
    "a picture": ("new Image().src = 'http://127.0.0.1:9/'", "img-src"),
}


@pytest.mark.parametrize("mistake", _MISTAKES)
def test_the_policy_forbids(page: Browser, mistake: str) -> None:
    """Even a mistake in the page's own scripts makes no markup, no script, no foreign request.

    It is also the control of what each of these tests looks for at its end.
    """
    script, complaint = _MISTAKES[mistake]
    page.open()
    page.live()
    assert page.complaints() == []

    page.run(f"try {{ {script} }} catch (error) {{ return String(error) }}")
    found: list[str] = []

    def complained() -> bool:
        found.extend(page.complaints())
        return any(complaint in each for each in found)

    until(complained, f"the browser complains of {complaint!r}: {found}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (bytes(range(256)), "00000010  10 11 12 13"),
        (b"\xff\xfe\x00\x01 not utf-8", "00000000  ff fe 00 01"),
        ("", "empty"),
        ("{'a': no json", "{'a': no json"),
        ('{"big": 123456789012345678901234567890}', '"big": 123456789012345678901234567890'),
        ("‮txt.exe <b> \u0000", "‮txt.exe <b>"),
    ],
)
def test_a_payload_is_shown_to_the_byte(
    page: Browser, queue: BlockQueue, payload: str | bytes, shown: str
) -> None:
    """As what it is: bytes that are no text, no JSON, numbers that no float can hold."""
    if "bytes" not in queue.topics():
        queue.create_topic("bytes", ["worker"])
    id = queue.publish("bytes", payload).id

    page.open(f"#/topics/bytes/messages/{id}")

    page.see(shown, "pre.payload")


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.slow
def test_json_that_is_nested_deeply(page: Browser, queue: BlockQueue) -> None:
    """It is not laid out in a staircase: it is shown as the text it is."""
    queue.create_topic("deep", ["worker"])
    id = queue.publish("deep", nested(5_000)).id

    page.open(f"#/topics/deep/messages/{id}")

    page.see(nested(5_000)[:100], "pre.payload")


@pytest.mark.slow
def test_headers_of_16_kib(page: Browser, queue: BlockQueue) -> None:
    """They do not push the rest of the page away."""
    queue.create_topic("large", ["worker"])
    id = queue.publish("large", "hello", headers={"x": "y" * 16_000}).id

    page.open(f"#/topics/large/messages/{id}")

    page.see("yyyy", ".headers")
    width, height = page.run(
        "return [document.documentElement.scrollWidth - innerWidth,"
        " document.querySelector('.headers').offsetHeight]"
    )
    assert width <= 0
    assert height < 600


@pytest.mark.slow
def test_a_payload_of_1_mib(page: Browser, queue: BlockQueue) -> None:
    """A part of it is shown at once, and all of it on demand."""
    size = 1_048_576
    queue.create_topic("huge", ["worker"])
    id = queue.publish("huge", "z" * size).id
    page.open(f"#/topics/huge/messages/{id}")

    page.see("1.0 MiB")
    length: Any = page.run("return document.querySelector('pre.payload').textContent.length")
    assert 1_000 < length < 100_000
    page.click("button", "Show all of it")
    until(
        lambda: page.run("return document.querySelector('pre.payload').textContent.length") == size,
        "all of it is there",
    )
