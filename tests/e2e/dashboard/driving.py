"""What tests do with a page of the dashboard.

With SCREENSHOTS=DIR they also write the pictures of docs/dashboard.md there.
"""

import os
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.system import System

EXPLORE = "/?tab=explore&since=1h&by=protocol"
PACKETS_A_SECOND = 3_000  # while the tests run


def picture(page: Page, name: str, tmp_path: Path) -> None:
    """A screenshot; the fonts and the charts must be there."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 20_000


def table(page: Page, selector: str = "#top tbody") -> list[list[str]]:
    """The cells of a table's body."""
    found: list[list[str]] = page.locator(selector).evaluate(
        "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent.replace('≠', '')))"
    )
    return found


def explore(page: Page, system: System, path: str = EXPLORE) -> None:
    """Open the Explore tab and wait for its answer."""
    page.goto(system.console + path)
    answered(page)


def answered(page: Page) -> None:
    """Wait until the table and both charts are drawn, from the newest question."""
    expect(page.locator("#explore-content")).to_be_visible()
    expect(page.locator("#explore-content")).not_to_have_attribute("aria-busy", re.compile(".*"))
    page.locator("#series-chart .barlayer .trace").first.wait_for(state="attached")
    page.locator("#paths .sankey-node").first.wait_for(state="attached")


def enter(page: Page, text: str) -> None:
    """Type a filter and run it."""
    page.locator("#filter").fill(text)
    page.locator("#filter").press("Escape")
    page.locator("#filter").press("Enter")
