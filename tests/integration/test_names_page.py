"""Names in the dashboard: a browser, a console of its own and a real ClickHouse with names that are known here."""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from common import settings as settings_module
from common.settings import ClickHouseSettings
from console import app as http
from console.testing import flow, live_stats
from tests.e2e.browser import chromium, opened
from tests.integration.fix_clickhouse import our_tables
from tests.integration.fix_tables import Tables
from tests.waiting import until

pytestmark = pytest.mark.clickhouse
DATABASE = "ayaflow_names_page"
EVIL = "<img/src=x/onerror=window.hit=1>"  # whoever connects says what it likes
SITES = (
    ("www.example.org", "sni", 7_000_000),
    ("video.cdn.example", "quic", 52_000_000),
    ("api.shop.example", "sni", 2_400_000),
    ("updates.example.net", "http", 900_000),
    ("mail.example.org", "dns", 300_000),
    (EVIL, "sni", 200_000),
    ("a-very-long-name-of-some-content-delivery-node-17.eu-central.edge.provider.example", "dns", 120_000),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def tables(clickhouse_server: str) -> Iterator[Tables]:
    with our_tables(ClickHouseSettings(url=clickhouse_server, database=DATABASE)) as client:
        stored = Tables(clickhouse_server, DATABASE, client)
        fill(stored)
        yield stored


def fill(tables: Tables) -> None:
    """Ten minutes of flows to SITES and of one that hides its DNS, and the DNS of all others."""
    now = int(time.time()) // 10 * 10
    windows = [now - 60 - 20 * number for number in range(30)]
    named = {
        "domain_count": 1,
        "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
        "alpn": "h2",
        "packets": 40,
        "packets_rev": 60,
    }
    tables.insert(
        "flows",
        [
            {
                "window_begin": window,
                "src_addr": f"::ffff:10.0.0.{1 + (number + i) % 5}",
                "dst_addr": f"::ffff:192.0.2.{i + 1}",
                "src_port": 40_000 + i,
                "bytes": size // 60,
                "bytes_rev": size // 6,
                "domain": domain,
                "domain_source": source,
                **named,
            }
            for number, window in enumerate(windows)
            for i, (domain, source, size) in enumerate(SITES)
        ],
    )
    hidden = {"src_addr": "::ffff:10.0.0.9", "dst_addr": "::ffff:192.0.2.200", "dst_port": 853, "packets": 10}
    tables.insert(
        "flows", [{"window_begin": window, "bytes": 9_000, "bytes_rev": 900_000, **hidden} for window in windows]
    )
    tables.insert(
        "names",
        [
            {
                "window_begin": window,
                "client": f"::ffff:10.0.0.{client}",
                "name": SITES[(number + client) % len(SITES)][0],
                "answers": ["192.0.2.1"],
                "latency_us_sum": 700 + 90 * number,
                "latency_us_max": 700 + 90 * number,
            }
            for number, window in enumerate(windows)
            for client in range(1, 6)
        ],
    )
    nowhere = [
        {"window_begin": one, "name": f"host-{one // 60 % 3}.corp.internal", "rcode": 3, "qtype": 28} for one in windows
    ]
    tables.insert("names", nowhere)
    nothing = {"latency_count": 0, "latency_us_sum": 0, "latency_us_max": 0, "server": "::ffff:10.0.0.54"}
    tables.insert("names", [{"window_begin": one, "name": "slow.example", "rcode": -1, **nothing} for one in windows])


@pytest.fixture(scope="module")
def console(tables: Tables) -> Iterator[str]:
    """Its address; the live view hears what a test tells it."""
    flags = {"clickhouse.url": tables.url, "clickhouse.database": DATABASE, "kafka.bootstrap_servers": "127.0.0.1:1"}
    app = http.build_app(settings_module.load(flags=flags), health_timeout_seconds=0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="websockets-sansio", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started, lambda: "the console does not start")
        done = threading.Event()
        talker = threading.Thread(target=talk, args=(app, done), daemon=True)
        talker.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        talker.join(10)
        server.should_exit = True
        thread.join(20)


def talk(app: Any, done: threading.Event) -> None:
    """A second's LiveStats, again and again."""
    second = 0
    while not done.wait(1):
        second += 1
        moment = datetime.now(UTC)
        rows = []
        now = {"first_seen": moment - timedelta(seconds=3), "last_seen": moment}
        for i, (domain, source, size) in enumerate(SITES):
            ends = {"src_port": 40_000 + i, "dst_addr": f"192.0.2.{i + 1}", "bytes_rev": size // 6 * second}
            rows.append(flow(0, 0, size // 60 * second, domain=domain, domain_source=source, **ends, **now))
        rows.append(flow(0, 0, 900_000, dst_addr="192.0.2.200", **now))
        stats = live_stats(0, *rows, packets=900, bytes=9_000_000) | {"time": moment}
        with contextlib.suppress(AttributeError):
            app.state.services.hub._heard(stats)


def cells(page: Page) -> list[list[str]]:
    found: list[list[str]] = page.locator("#names tbody").evaluate(
        "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def names(page: Page, console: str, view: str, filter_text: str = "") -> list[list[str]]:
    """Open Explore and wait for the names of a view."""
    page.goto(f"{console}/?tab=explore&by=domain&names={view}&filter={filter_text}")
    expect(page.locator("#names tbody tr").first).to_be_visible()
    expect(page.locator("#names")).not_to_have_attribute("aria-busy", re.compile(".*"))
    return cells(page)


AWAY = "503|ERR_|Kafka"  # no Kafka, no producer: the page says so


def test_each_view_shows_what_is_stored_and_the_share_to_the_byte(
    browser: Browser, console: str, tables: Tables
) -> None:
    named, total = tables.rows(
        "SELECT sumIf(bytes + bytes_rev, domain != '') AS named, sum(bytes + bytes_rev) AS total FROM DB.flows"
    )[0]
    with opened(browser, expected_errors=AWAY) as page:
        rows = names(page, console, "domains")
        assert [row[0] for row in rows] == [domain for domain, _, _ in sorted(SITES, key=lambda site: -site[2])]
        assert [row[3] for row in rows][:2] == ["quic", "sni"]
        share = page.locator("#names-share")
        expect(share).to_contain_text("of the bytes have a name: quic ")
        expect(share).to_have_attribute("title", f"{named:,} of {total:,} bytes")
        expect(page.locator("#top caption")).to_contain_text("of the bytes have a name")
        assert page.evaluate("[window.hit ?? 0, document.querySelectorAll('main img').length]") == [0, 0]
        assert names(page, console, "queries")[0][:2] == ["slow.example", "A"]
        assert names(page, console, "failures")[0][:4] == ["slow.example", "A", "no answer", "30"]
        (known, silent) = names(page, console, "latency")
        assert (known[0], known[1], silent[0], silent[3]) == ("10.0.0.53", "180", "10.0.0.54", "30")
        assert known[5].endswith(" ms")
        assert silent[5] == "\u2013"
        assert [row[0] for row in names(page, console, "unseen")] == ["10.0.0.9"]


def test_a_click_on_a_name_narrows_the_filter(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=AWAY) as page:
        names(page, console, "failures")
        page.locator("#names tbody button", has_text="slow.example").click()
        expect(page.locator("#filter")).to_have_value("domain = slow.example")
        names(page, console, "domains")
        page.locator("#names tbody button", has_text="<img").click()
        expect(page.locator("#filter")).to_have_value(f'domain = "{EVIL}"')
        expect(page.locator("#names tbody tr")).to_have_count(1)


def test_where_nothing_has_a_name_that_is_said(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=f"{AWAY}|400") as page:
        page.goto(f"{console}/?tab=explore&filter=src_addr+%3D+10.0.0.9")
        expect(page.locator("#names-note")).to_contain_text("No flow has a name")
        expect(page.locator("#names-share")).to_have_text("0 % of the bytes have a name")
        page.goto(f"{console}/?tab=explore&names=latency&filter=src_port+%3D+1")
        expect(page.locator("#names-note")).to_contain_text("DNS transactions have no src_port")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_live_has_names_and_no_page_is_wider_than_the_screen(
    browser: Browser, console: str, width: int, scheme: Any, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    device = "phone-names" if width == 390 else "names"
    with opened(browser, viewport={"width": width, "height": 900}, color_scheme=scheme, expected_errors=AWAY) as page:
        page.goto(f"{console}/?tab=live")
        expect(page.locator("#connections tr").nth(5)).to_be_visible()
        expect(page.locator("#connections-named")).to_contain_text("of the bytes listed have a name")
        shown = "#connections .below" if width == 390 else "#connections .domain"
        expect(page.locator(shown, has_text="video.cdn.example").first).to_be_visible()
        hidden = "#connections .domain" if width == 390 else "#connections .below"
        expect(page.locator(hidden).first).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator(".panel", has=page.locator("#connections")).screenshot(path=folder / f"{device}-live.png")
        names(page, console, "domains")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        panel = page.locator(".panel", has=page.locator("#names"))
        panel.screenshot(path=folder / f"{device}.png")
        assert (folder / f"{device}.png").stat().st_size > 10_000
