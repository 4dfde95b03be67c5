"""The Live tab: values that move, their order, the way from a connection to its history."""

import os
import re
import statistics
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e import net
from tests.e2e.dashboard.driving import answered, picture, table
from tests.e2e.system import System

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


AMOUNTS = "[...document.querySelectorAll('#connections tr')].map(row => row.cells[8].textContent)"


def test_live_values_move_while_packets_pass(page: Page, system: System, tmp_path: Path) -> None:
    page.goto(system.console)
    expect(page.locator("#tile-in dd")).to_have_text(re.compile(r"^[1-9][\d.]* [kM]?B/s$"))
    rows = page.locator("#connections tr")
    expect(rows.filter(has_text="198.18.0.2:9").first).to_be_visible()
    before = [row[8] for row in table(page, "#connections")]
    page.wait_for_function(
        f"before => {{ const now = {AMOUNTS}; return now.filter((text, i) => text !== before[i]).length > 3 }}",
        arg=before,
    )
    expect(page.locator("#live-chart .legendtext")).to_have_count(2)
    line = page.locator("#live-chart .scatterlayer .js-line").last
    shape = line.get_attribute("d")
    page.wait_for_function("([line, shape]) => line.getAttribute('d') !== shape", arg=[line.element_handle(), shape])
    expect(page.locator("#tile-dropped dd")).to_have_text("0")
    expect(page.locator("#live-note")).to_be_hidden()
    expect(page.locator("#health-text")).to_have_text("all well")
    page.wait_for_timeout(15_000 if os.environ.get("SCREENSHOTS") else 0)
    picture(page, "live", tmp_path)


def test_what_is_to_be_set_right_is_shown_though_all_is_well(page: Page, system: System) -> None:
    warning = "the clock of node <b>\u202en1</b> is 600 s ahead of ours"
    state = {"ok": True, "node": "n", "stages": [{"stage": "streams", "ok": True, "details": {"warnings": [warning]}}]}
    page.route("**/api/health", lambda route: route.fulfill(json=state))
    page.goto(system.console)
    expect(page.locator("#health-text")).to_have_text("well, 1 warning")
    page.locator("#health").click()
    expect(page.locator("#stages li")).to_have_text("streamswell; " + warning.replace("\u202e", r"\u202e"))
    expect(page.locator("#banner")).to_be_hidden()


@pytest.mark.wide
def test_the_rate_of_the_live_tab_is_that_of_the_traffic(page: Page, system: System, network: net.Network) -> None:
    page.goto(system.console)
    expect(page.locator("#nodes tr").first).to_be_visible()
    found, begin, before = [], time.monotonic(), passed(network.watched)
    for _ in range(9):
        page.wait_for_timeout(1_000)
        (text,) = (row[4] for row in table(page, "#nodes") if "in" in row[2])
        number, _, unit = text.partition(" ")
        found.append(float(number) * {"": 1, "k": 1_000, "M": 1_000_000}[unit])
    # of what passed, whatever the sender manages on a busy machine
    rate = (passed(network.watched) - before) / (time.monotonic() - begin)
    assert rate * 0.5 < statistics.median(found) < rate * 2, (rate, found)


def passed(interface: str) -> int:
    """Packets that an interface has received."""
    return int(Path(f"/sys/class/net/{interface}/statistics/rx_packets").read_text())


@pytest.mark.wide
def test_connections_are_ordered_as_chosen_and_pause_stops_them(page: Page, system: System) -> None:
    page.goto(system.console)
    page.locator("#live-sort").select_option("rate")
    expect(page).to_have_url(re.compile("sort=rate"))
    expect(page.locator("#connections tr").first).to_be_visible()
    page.locator("#pause").click()
    before = table(page, "#connections")
    page.wait_for_timeout(2_500)
    assert table(page, "#connections") == before
    page.locator("#pause").click()
    page.wait_for_function(f"before => {AMOUNTS}.join() !== before", arg=",".join(row[7] for row in before))


def test_a_connection_leads_to_its_history(page: Page, system: System) -> None:
    page.goto(system.console)
    page.locator("#connections tr").filter(has_text="198.18.0.2:9").first.locator("button.cell").click()
    expect(page).to_have_url(re.compile("tab=explore"))
    answered(page)
    ends = r"src_addr = 198\.18\.0\.1 and dst_addr = 198\.18\.0\.2 and src_port = 10\d+ and dst_port = 9"
    expect(page.locator("#filter")).to_have_value(re.compile(f"^protocol = 17 and {ends}$"))
    assert [row[0] for row in table(page)] == ["udp"]
