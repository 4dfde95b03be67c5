"""Times over a change of the clock, gaps, and names that others chose: a real console over flows that are known."""

import itertools
import re
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from common import settings as settings_module
from console import app as http
from tests.e2e.browser import opened
from tests.e2e.dashboard.driving import answered, picture, table
from tests.fix_local import free_port
from tests.integration.fix_clickhouse import our_tables
from tests.integration.fix_console import served

pytestmark = [pytest.mark.e2e, pytest.mark.clickhouse]

DATABASE = "ayaflow_times_tests"
NIGHT = int(
    datetime(2025, 10, 25, 22, tzinfo=UTC).timestamp()
)  # midnight in Berlin, six hours before the clock changes
HOUR = 3600
LONG = "long-" + "x" * 291 + "-end"
TURNED = "evil\u202egpj.exe\x1b[31m<b>"
SHOWN = r"evil\u202egpj.exe\x1b[31m<b>"
RANGE = "2025-10-25T22:00:00Z", "2025-10-26T04:00:00Z"
QUIET, OFF = (HOUR, HOUR + 1800), (HOUR + 1800, HOUR * 2)  # after NIGHT: nothing passed, nobody watched
NOTHING_ELSE = "status of 503"  # Kafka, producer and streams are away, and health says so


@pytest.fixture(scope="module")
def console(clickhouse_server: str) -> Iterator[str]:
    """The address of a console: a window in ten minutes over the night, and the ledger of it."""
    port = free_port()
    loaded = settings_module.load(
        flags={
            "clickhouse.url": clickhouse_server,
            "clickhouse.database": DATABASE,
            "clickhouse.flows_retention_days": "20000",
            "clickhouse.rollup_retention_days": "20000",
            "kafka.bootstrap_servers": "127.0.0.1:1",
            "console.listen": f"127.0.0.1:{port}",
        }
    )
    with our_tables(loaded.clickhouse) as client:
        passed = [second for second in range(0, 6 * HOUR, 600) if not QUIET[0] <= second < OFF[1]]
        names = ["gateway", LONG, TURNED]
        flows = [[NIGHT + second, names[second // 600 % 3], "eth0", 6, 1_000, 600_000] for second in passed]
        client.insert(
            f"{DATABASE}.flows",
            [[*flow[:3], "ingress", *flow[3:], "::ffff:10.0.0.1", "::ffff:10.0.0.2", 10] for flow in flows],
            column_names=[
                *("window_begin", "node", "interface", "direction", "protocol", "packets", "bytes"),
                *("src_addr", "dst_addr", "window_seconds"),
            ],
        )
        client.command(
            f"INSERT INTO {DATABASE}.ledger (node, ring_id, epoch, interface, direction, start_time, end_time)"
            f" SELECT 'gateway', 1, 1 + number, '', 'ingress', {NIGHT} + 10 * number AS start, start + 10"
            f" FROM numbers({6 * HOUR // 10})"
            f" WHERE NOT (10 * number >= {OFF[0]} AND 10 * number < {OFF[1]})"
        )
        with served(http.build_app(loaded), host="127.0.0.1", port=port):
            yield f"http://127.0.0.1:{port}"


def explore(page: Page, console: str, since: str = RANGE[0], until: str = RANGE[1], by: str = "protocol") -> None:
    query = urllib.parse.urlencode({"tab": "explore", "since": since, "until": until, "by": by})
    page.goto(f"{console}/?{query}")
    answered(page)


def marks(page: Page) -> list[tuple[float, str]]:
    """Where the axis of the chart has which text."""
    found = page.locator("#series-chart .xtick text").evaluate_all(
        "all => all.map(one => [one, one.getBoundingClientRect()])"
        ".filter(([, box]) => box.width > 0).map(([one, box]) => [box.x + box.width / 2, one.textContent])"
    )
    return sorted((place, text) for place, text in found)


def bars(page: Page) -> list[float]:
    """The left edges of the bars that have a height."""
    found: list[float] = page.locator("#series-chart .barlayer .trace .point path").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).filter(box => box.height > 2).map(box => box.x)"
    )
    return sorted(found)


def test_six_hours_over_a_change_of_the_clock_are_drawn_as_six(browser: Browser, console: str, tmp_path: Path) -> None:
    with opened(browser, expected_errors=NOTHING_ELSE, timezone_id="Europe/Berlin") as page:
        explore(page, console)
        hours = [(place, text) for place, text in marks(page) if re.match(r"\d\d:00", text)]
        assert [text for _, text in hours] == ["00:00Oct 26 +02:00", "01:00", "02:00", "02:00+01:00", "03:00", "04:00"]
        widths = [second[0] - first[0] for first, second in itertools.pairwise(hours)]
        assert max(widths) - min(widths) < 12  # the first text is wider than the others
        edges = bars(page)
        assert len({round(edge) for edge in edges}) == len(edges) == 30  # none is drawn on another
        expect(page.locator("#zone")).to_have_text("Europe/Berlin")
        expect(page.locator("#series-span")).to_contain_text(
            re.compile(r"^2025-10-26 00:00:00 \+02:00 . 2025-10-26 05:00:00 \+01:00, Europe/Berlin;")
        )
        assert page.locator("#since").input_value() == "2025-10-26T00:00:00+02:00"
        assert page.locator("#until").input_value() == "2025-10-26T05:00:00+01:00"
        assert page.locator("#since").evaluate("box => box.scrollWidth <= box.clientWidth")
        picture(page, "clock-change", tmp_path)
        page.locator("#zone").click()
        expect(page.locator("#zone")).to_have_text("UTC")
        assert page.locator("#since").input_value() == RANGE[0]
        assert [text for _, text in marks(page)][:2] == ["22:00Oct 25 UTC", "23:00"]
        page.reload()
        answered(page)
        expect(page.locator("#zone")).to_have_text("UTC")


def test_an_offset_of_half_an_hour_has_whole_hours_on_its_clock(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=NOTHING_ELSE, timezone_id="America/St_Johns") as page:
        explore(page, console)
        assert [text for _, text in marks(page)][:3] == ["20:00Oct 25 -02:30", "21:00", "22:00"]
        assert page.locator("#until").input_value() == "2025-10-26T01:30:00-02:30"
        found = page.evaluate(
            """() => import('/static/times.js').then(times => times.ticks(
                Date.parse('2025-11-02T02:30Z'), Date.parse('2025-11-02T08:30Z'), 8).map(one => one.text))"""
        )
        assert found == ["00:00<br>Nov 2 -02:30", "01:00", "01:00<br>-03:30", "02:00", "03:00", "04:00", "05:00"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-10-26 00:30", "2025-10-26T00:30:00+02:00"),
        ("2025-10-26 02:30", "2025-10-26T02:30:00+02:00"),  # the first of two
        ("2025-10-26 03:30:05", "2025-10-26T03:30:05+01:00"),
        ("2025-03-30 02:30", "2025-03-30T03:30:00+02:00"),  # not on that clock
        ("2025-10-26", "2025-10-26T00:00:00+02:00"),
        ("2025-10-26T01:00:00Z", "2025-10-26T01:00:00Z"),
        ("8:05", "2025-10-27T08:05:00+01:00"),
        ("today", "2025-10-27T00:00:00+01:00"),
        ("yesterday", "2025-10-26T00:00:00+02:00"),
        ("2h", "2h"),
        ("", ""),
        ("99:99", "99:99"),
    ],
)
def test_what_is_written_is_meant_in_the_zone_that_is_shown(page_in_berlin: Page, written: str, meant: str) -> None:
    found = page_in_berlin.evaluate(
        "text => import('/static/times.js').then(times => times.asked(text, Date.parse('2025-10-27T12:00Z')))", written
    )
    assert found == meant


@pytest.fixture(scope="module")
def page_in_berlin(browser: Browser, console: str) -> Iterator[Page]:
    with opened(browser, expected_errors=NOTHING_ELSE, timezone_id="Europe/Berlin") as page:
        page.goto(console)
        yield page


def test_a_range_is_written_in_local_time_and_said_with_its_offset(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=rf"{NOTHING_ELSE}|400", timezone_id="Europe/Berlin") as page:
        explore(page, console)
        page.locator("#until").fill("2025-10-26 03:00")
        page.locator("#until").press("Enter")
        expect(page.locator("#until")).to_have_value("2025-10-26T03:00:00+01:00")
        expect(page.locator("#series-span")).to_contain_text("2025-10-26 03:00:00 +01:00")
        page.locator("#until").fill("2025-10-25 20:00")
        page.locator("#until").press("Enter")
        expect(page.locator("#explore-note")).to_contain_text("2025-10-25 20:00:00 +02:00")


def test_where_nothing_passed_is_zero_and_where_nobody_watched_is_a_gap(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=NOTHING_ELSE, timezone_id="UTC") as page:
        explore(page, console)
        answer = page.request.get(f"{console}/api/series?since={RANGE[0]}&until={RANGE[1]}&points=200").json()
        (one,) = answer["series"]
        start = [int(datetime.fromisoformat(text).timestamp()) - NIGHT for text in answer["times"]]
        known = dict(zip(start, one["values"], strict=True))
        assert all(known[second] is None for second in start if OFF[0] < second < OFF[1] - answer["step_seconds"])
        assert all(known[second] == 0 for second in start if QUIET[0] < second < QUIET[1])
        assert known[0] == 600_000
        expect(page.locator("#series-chart .shapelayer path")).to_have_count(1)
        expect(page.locator("#series-span")).to_contain_text("nothing was watched")
        step = answer["step_seconds"]
        widths = page.locator("#series-chart .barlayer .trace .point path").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).filter(box => box.height > 2).map(box => box.width)"
        )
        plot = page.locator("#series-chart .nsewdrag").bounding_box()
        assert plot is not None
        assert max(widths) <= plot["width"] * step / (6 * HOUR) + 2, (
            "a window is as wide as its step, no slope to the next"
        )


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        (1280, "dark"),
        pytest.param(390, "dark", marks=pytest.mark.wide),
        pytest.param(1280, "light", marks=pytest.mark.wide),
    ],
)
def test_names_of_others_neither_turn_text_around_nor_widen_the_page(
    browser: Browser, console: str, width: int, scheme: Any, tmp_path: Path
) -> None:
    view = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "timezone_id": "Europe/Berlin"}
    with opened(browser, expected_errors=NOTHING_ELSE, **view) as page:
        explore(page, console, by="node,interface")
        names = [row[0] for row in table(page)]
        assert sorted(names) == sorted(["gateway", SHOWN, LONG[:39] + "…"])
        assert "\u202e" not in page.locator("body").inner_text()
        legends = page.locator("#series-chart .legendtext").all_text_contents()
        assert sorted(legends) == sorted(f"{name} · eth0" for name in names)
        titles = page.locator("#series-chart .legend .traces > title").all_text_contents()
        assert f"{LONG} · eth0" in titles
        button = page.locator("#top button.cell", has_text="long-")
        assert LONG in (button.get_attribute("title") or "")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, f"names-{scheme}-{width}", tmp_path)
        button.first.click()
        expect(page.locator("#filter")).to_have_value(f"node = {LONG}")
        expect(page.locator("#top tbody tr")).to_have_count(1)


LIVE = """([name, gap]) => Promise.all([import('/static/live.js'), import('/static/charts.js')]).then(([{ Live }]) => {
    const now = Date.now(), rates = { [`${name}\\ningress`]: [1000, 10], [`${name}\\negress`]: [500, 5] };
    const points = Array.from({ length: 60 }, (_, i) => ({ time: now - (60 - i) * 1000, rates }))
        .filter((_, i) => i < gap[0] || i >= gap[1]);
    const one = direction => ({ interface: name, direction, bytes_per_second: 1000, packets_per_second: 10 });
    const node = { node: name, delay_seconds: 1, interfaces: [one('ingress'), one('egress')] };
    const latest = { time: new Date(now).toISOString(), nodes: [node], connections: [{ node: name, interface: name,
        direction: 'ingress', protocol: 6, src_addr: '10.0.0.1', dst_addr: '10.0.0.2', src_port: 1, dst_port: 2,
        bytes: 1, bytes_rev: 1, packets: 1, packets_rev: 1, bytes_per_second: 1, packets_per_second: 1,
        first_seen: new Date(now).toISOString(), tunnel_type: 'none', domain: name, domain_source: 'sni' }] };
    new Live({ points, latest, lostAt: 0, reason: '', state: 'open', listeners: new Set() }).draw();
})"""


@pytest.mark.parametrize("name", [LONG, TURNED])
def test_the_live_view_shows_names_as_they_can_be_and_gaps_as_gaps(
    browser: Browser, console: str, name: str, tmp_path: Path
) -> None:
    with opened(browser, expected_errors=NOTHING_ELSE, viewport={"width": 390, "height": 844}) as page:
        page.goto(console)
        page.locator("#pause").click()  # the page's own stream, of no node
        page.evaluate(LIVE, [name, [20, 40]])
        shown = SHOWN if name == TURNED else LONG[:39] + "…"
        expect(page.locator("#live-chart .legendtext")).to_have_text([f"{shown} ↓ in", f"{shown} ↑ out"])
        (row, _) = table(page, "#nodes")
        assert row[:2] == [shown, shown]
        assert table(page, "#connections")[0][4] == f"{shown}sni"
        assert "\u202e" not in page.locator("body").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        lines = page.locator("#live-chart .scatterlayer .js-line").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).filter(box => box.width > 0).map(box => box.width)"
        )
        plot = page.locator("#live-chart .nsewdrag").bounding_box()
        assert plot is not None
        assert max(width for width in lines if width < plot["width"] * 0.9) < plot["width"] / 2, lines
        page.locator("#nodes").scroll_into_view_if_needed()
        picture(page, f"live-names-{len(name)}", tmp_path)


def test_a_stream_that_closes_is_said_in_red_only_when_it_stays_away(browser: Browser, console: str) -> None:
    with opened(browser, expected_errors=NOTHING_ELSE) as page:
        page.goto(console)
        kinds = page.evaluate(
            """() => import('/static/live.js').then(({ Live }) => [1000, 6000].map(ago => new Live({
                points: [], latest: null, lostAt: Date.now() - ago, retryAt: Date.now(), reason: '', state: 'waiting',
                listeners: new Set() }).problem().className))"""
        )
        assert kinds == ["notice busy", "notice error"]
