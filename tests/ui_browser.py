"""A real Chromium without a window, and what the tests of the dashboard do with it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from .http_server import PATIENCE_S, until

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")


def missing() -> str:
    """Say what a browser would need that is not here."""
    if _CHROMIUM and _DRIVER:
        return ""
    return "chromium and chromedriver must both be on the PATH"


@contextlib.contextmanager
def chromium(directory: Path) -> Iterator[Chrome]:
    """Run a browser for the length of a block."""
    options = ChromeOptions()
    assert _CHROMIUM is not None
    options.binary_location = _CHROMIUM
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "disable-extensions"),
        *("disable-dev-shm-usage", "hide-scrollbars", "force-color-profile=srgb"),
        *("window-size=1280,800", f"user-data-dir={directory}"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Pages show times as the browser's clock has them.
    driver = Chrome(options, ChromeService(_DRIVER, env=os.environ | {"TZ": "UTC"}))
    driver.set_page_load_timeout(PATIENCE_S)
    driver.set_script_timeout(PATIENCE_S)
    try:
        yield driver
    finally:
        driver.quit()


class Browser:
    """One page of a browser, looked at through what a reader sees."""

    def __init__(self, driver: Chrome, root: str = "") -> None:
        self.driver = driver
        self.root = root

    def reset(self) -> None:
        """Leave nothing of what was before."""
        self.driver.get("about:blank")
        self.command("Emulation.setEmulatedMedia", features=[])
        self.command("Emulation.clearDeviceMetricsOverride")
        self.complaints()

    def open(self, where: str = "#/", token: str | None = None) -> None:
        """Load the page anew, as a tab that knows a token or none."""
        self.driver.get(f"{self.root}/ui/icon.svg")  # of the same origin, without scripts
        self.run("sessionStorage.clear()")
        if token is not None:
            self.run("sessionStorage.setItem('blockqueue.token', arguments[0])", token)
        self.driver.get(f"{self.root}/ui{where}")

    def go(self, where: str) -> None:
        """Follow a link within the page."""
        self.run("location.hash = arguments[0]", where)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **arguments: Any) -> Any:
        """Tell the browser itself something, or ask it."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def find(self, css: str, text: str | None = None) -> list[WebElement]:
        """Return the elements that can be seen, and have exactly that text."""
        found: list[WebElement] = []
        for each in self.driver.find_elements(By.CSS_SELECTOR, css):
            with contextlib.suppress(StaleElementReferenceException):  # a row that has gone
                if each.is_displayed() and (text is None or each.text.strip() == text):
                    found.append(each)
        return found

    def one(self, css: str, text: str | None = None) -> WebElement:
        """Wait for an element, and return it."""
        found: list[WebElement] = []

        def look() -> bool:
            found[:] = self.find(css, text)
            return bool(found)

        until(look, f"{css} {text or ''} is there; the page says: {self.text}")
        return found[0]

    def click(self, css: str, text: str | None = None) -> None:
        self.one(css, text).click()

    def fill(self, name: str, text: str) -> None:
        """Type into a field of the form that is open."""
        field = self.one(f"[name={name}]")
        field.clear()
        field.send_keys(text)

    def submit(self, action: str, **fields: str) -> None:
        """Fill a dialog's fields, press its button, and wait until it has done what it says."""
        for name, text in fields.items():
            self.fill(name, text)
        self.click("dialog button", action)
        until(lambda: not self.find("dialog"), f"{action!r} is done; it says: {self.error}")

    def refuse(self, action: str, **fields: str) -> str:
        """Do the same where it is refused; leave the dialog, and return why."""
        for name, text in fields.items():
            self.fill(name, text)
        self.click("dialog button", action)
        until(lambda: self.error != "", f"{action!r} is refused")
        error = self.error
        self.click("dialog button", "Cancel")
        until(lambda: not self.find("dialog"), "the dialog is closed")
        return error

    def see(self, text: str, css: str = "body") -> None:
        """Wait until a text is there."""
        until(lambda: text in self.text_of(css), f"{text!r} is in {css}: {self.text!r}")

    def gone(self, text: str, css: str = "body") -> None:
        until(lambda: text not in self.text_of(css), f"{text!r} is gone from {css}")

    def text_of(self, css: str) -> str:
        texts: str = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')",
            css,
        )
        return texts

    @property
    def text(self) -> str:
        return self.text_of("body")

    @property
    def error(self) -> str:
        return self.text_of("dialog [role=alert]")

    @property
    def rows(self) -> dict[str, list[str]]:
        """The first table: its rows' cells by what the first of them names."""
        found: list[list[str]] = self.run(
            "return [...document.querySelector('table')?.tBodies[0].rows ?? []].map(row =>"
            " [row.cells[0].querySelector('a, .name') ?? row.cells[0], ...row.cells]"
            ".map(each => each.innerText.trim()))"
        )
        return {name: cells for name, *cells in found}

    def row(self, name: str) -> list[str]:
        """Wait for a row, and return its cells."""
        found: list[str] = []

        def look() -> bool:
            found[:] = self.rows.get(name, [])
            return bool(found)

        until(look, f"{name!r} has a row; the page says: {self.text}")
        return found

    def press(self, row: str, action: str) -> None:
        """Press a button in the row that has that text."""
        path = f"//tbody/tr[contains(., '{row}')]//button[normalize-space() = '{action}']"
        found: list[WebElement] = []

        def look() -> bool:
            found[:] = self.driver.find_elements(By.XPATH, path)
            return bool(found)

        until(look, f"{row!r} has a button {action!r}; the page says: {self.text}")
        found[0].click()

    def notice(self, text: str) -> None:
        """Wait for what is said of something that was done."""
        self.see(text, "#notices")

    def live(self) -> None:
        """Wait until the page shows what the server says."""
        self.one("#status .on", "live")

    def requests(self, prefix: str = "/ui/api/") -> int:
        """Count the page's requests of what is shown, since it was loaded."""
        count: int = self.run(
            "return performance.getEntriesByType('resource')"
            ".filter(each => new URL(each.name).pathname.startsWith(arguments[0])).length",
            prefix,
        )
        return count

    def prefer(self, **media: str) -> None:
        """Be a browser of somebody who prefers that: ``prefers_color_scheme="dark"``."""
        features = [{"name": name.replace("_", "-"), "value": each} for name, each in media.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def complaints(self) -> list[str]:
        """Return what the browser has found wrong with the page since the last time.

        Errors in scripts and what the policy forbids; not that a server refused a request or
        could not be reached, which is what some tests are about.
        """
        logged: Any = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [each["message"] for each in logged if each["source"] != "network"]
