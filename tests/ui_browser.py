"""A real Chromium without a window, and what the tests of the dashboard do with it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from .http_server import PATIENCE_S, until

IMAGES = Path(__file__).resolve().parent.parent / "docs/images"

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (_CHROMIUM and _DRIVER), reason="no chromium and chromedriver on the PATH"
)


class Browser:
    """One page of a browser, looked at through what a reader sees."""

    def __init__(self, driver: Chrome, root: str) -> None:
        self.driver = driver
        self.root = root

    def open(self, where: str = "#/") -> None:
        """Load the page anew, so that nothing is left of what was open before."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.root}/ui{where}")

    def go(self, where: str) -> None:
        """Follow a link within the page."""
        self.run("location.hash = arguments[0]", where)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, css: str, text: str | None = None) -> list[WebElement]:
        """Return the elements that can be seen, and have exactly that text."""
        found = []
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

    def submit(self, action: str) -> None:
        """Press a dialog's button, and wait until it has done what it says."""
        self.click("dialog button", action)
        until(lambda: not self.find("dialog"), f"{action!r} is done; it says: {self.error}")

    def see(self, text: str, css: str = "body") -> None:
        """Wait until a text is there."""
        until(lambda: text in self.text_of(css), f"{text!r} is in {css}: {self.text_of(css)!r}")

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

    def row(self, name: str) -> str:
        """Return the text of a table's row by its first cell."""
        for row in self.find("tbody tr"):
            cells = row.find_elements(By.CSS_SELECTOR, "th")
            if cells and cells[0].text.split("\n")[0].strip() == name:
                return row.text
        return ""

    def in_row(self, name: str, action: str) -> WebElement:
        """Wait for a button in a row, and return it."""
        css = f"//tbody/tr[contains(., '{name}')]//button[normalize-space() = '{action}']"
        found: list[WebElement] = []

        def look() -> bool:
            found[:] = self.driver.find_elements(By.XPATH, css)
            return bool(found)

        until(look, f"{name!r} has a button {action!r}: {self.text}")
        return found[0]

    def notice(self, text: str) -> None:
        self.see(text, "#notices")

    def screenshot(self, name: str, *, dark: bool = False, height: int = 800) -> None:
        """Take a picture for the documentation, where there is one."""
        self.prefer("dark" if dark else "light")
        self.driver.set_window_size(1280, height)
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1280, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        IMAGES.mkdir(exist_ok=True)
        assert self.driver.save_screenshot(str(IMAGES / f"{name}.png"))
        assert (IMAGES / f"{name}.png").stat().st_size < 200_000
        self.prefer("light")

    def prefer(self, scheme: str) -> None:
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """Return what the browser itself has found wrong since the last time: errors, the CSP."""
        logged: Any = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [each["message"] for each in logged]


@contextlib.contextmanager
def browsing(directory: Path, root: str) -> Iterator[Browser]:
    """Run a browser for the length of a block."""
    options = ChromeOptions()
    assert _CHROMIUM is not None
    options.binary_location = _CHROMIUM
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "disable-extensions"),
        *("disable-dev-shm-usage", "window-size=1280,800", f"user-data-dir={directory}"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(_DRIVER))
    driver.set_page_load_timeout(PATIENCE_S)
    driver.set_script_timeout(PATIENCE_S)
    try:
        yield Browser(driver, root)
    finally:
        driver.quit()
