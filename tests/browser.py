"""Pages in a real browser: an application on a port of its own, headless Chromium, and what someone does at it.

Not for what a server answers: that is asked of it directly. The fixture `chromium` is in `tests/conftest.py`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ENTER, ESCAPE = "\ue007", "\ue00c"


@contextmanager
def serve(application: Any) -> Iterator[str]:
    """Serve an ASGI application on loopback until the block ends; gives its address, without a slash at the end."""
    import uvicorn

    config = uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    socket = config.bind_socket()
    socket.listen()  # by now, so that a browser that is quicker than the server waits
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        socket.close()


@contextmanager
def headless_chromium(profile: Path) -> Iterator[Any]:
    """Chromium without a window, driven by selenium; skips, in one sentence, where one of them is absent.

    Args:
        profile: an empty folder for what the browser keeps.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium is absent: install it (apt-get install chromium chromium-driver) for the browser tests")
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        "--window-size=1280,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    browser.set_script_timeout(30)
    try:
        yield browser
    finally:
        browser.quit()


class Visitor:
    """Someone at the browser, in the tab that is open."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def until(self, script: str, seconds: float = 40.0) -> None:
        """Wait until an expression holds in the page."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            waiting = WebDriverWait(self.browser, seconds, poll_frequency=0.05)
            waiting.until(lambda b: b.execute_script(f"return {script}"))
        except TimeoutException:
            told = self.browser.execute_script("return document.body.innerText")
            raise AssertionError(f"{script} never held; the page says: {told}") from None

    def press(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.browser).send_keys(keys).perform()

    def click(self, selector: str) -> None:
        self.browser.find_element("css selector", selector).click()


def troubles(browser: Any) -> list[str]:
    """What the page complained of in the console since this was last asked."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def loaded(browser: Any) -> list[str]:
    """Addresses of all that the page fetched."""
    return browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
