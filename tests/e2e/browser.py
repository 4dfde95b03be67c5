"""Debian's Chromium, driven by Playwright: pages that remember what went wrong in them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.lacking import cannot_run

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000  # a machine may be busy; what is wrong stays wrong
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a profile. Where there is none the test is skipped, or fails under CI."""
    if not CHROMIUM.exists():
        cannot_run("the dashboard's tests need Debian's package chromium: make setup-test")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, *, expected_errors: str = "", **options: Any) -> Iterator[Page]:
    """A page of a context of its own. At the end nothing may have gone wrong in it but what is expected.

    No request may have left this machine, and no message of the console may be an error, but for those that
    match the pattern `expected_errors`.
    """
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
    try:
        page = context.new_page()
        page.on("websocket", lambda socket: requests.append(socket.url))
        yield page
    finally:
        context.close()
    away = [url for url in requests if urlsplit(url).scheme != "blob" and urlsplit(url).hostname != "127.0.0.1"]
    assert away == []
    assert requests
    wrong = [text for text in errors if not expected_errors or not re.search(expected_errors, text)]
    assert wrong == []
