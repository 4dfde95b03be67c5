"""The Explore tab: filters, clicks, links, keyboard, CSV; what is wrong is explained."""

import csv
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import opened
from tests.e2e.dashboard.driving import answered, enter, explore, picture, table
from tests.e2e.system import System

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


def test_the_filter_narrows_the_table_to_what_sql_says(page: Page, system: System, tmp_path: Path) -> None:
    explore(page, system)
    assert {"tcp", "udp", "icmp", "gre", "icmp6"} <= {row[0] for row in table(page)}
    enter(page, "dst_port = 7002")
    expect(page).to_have_url(re.compile("filter=dst_port"))
    expect(page.locator("#top tbody tr")).to_have_count(1)
    answered(page)
    (row,) = table(page)
    stored = system.rows(
        "SELECT sum(bytes) AS there, sum(bytes_rev) AS back, count() AS records FROM flows WHERE dst_port = 7002"
    )[0]
    there, back = int(stored["there"]), int(stored["back"])
    shown = page.evaluate(
        "numbers => import('/static/format.js').then(module => numbers.map(module.bytes))", [there + back, there, back]
    )
    assert [row[0], *row[2:5]] == ["tcp", *shown]
    assert row[1] == "100 %"
    picture(page, "explore-filtered", tmp_path)


def test_packets_are_shown_by_milliseconds_of_short_ranges(browser: Browser, system: System) -> None:
    with opened(browser, expected_errors=r"400 \(Bad Request\)") as page:
        packets_by_milliseconds(page, system)


def packets_by_milliseconds(page: Page, system: System) -> None:
    panel = page.locator("#packets-panel")
    explore(page, system, "/?tab=explore&since=1m&by=protocol&measure=packets&filter=protocol%20%3D%20udp")
    expect(panel).to_be_visible()
    expect(page.locator("#packets-span")).to_contain_text("100 ms a step")
    page.locator("#packets-chart .barlayer .trace").nth(2).wait_for(state="attached")
    tallest = page.locator("#packets-chart").evaluate("one => Math.max(...one.data.flatMap(trace => trace.y ?? [0]))")
    assert 100 < tallest < 2_000  # of 3,000 a second
    explore(page, system, "/?tab=explore&since=20s&by=protocol&measure=packets")
    expect(page.locator("#packets-span")).to_contain_text("10 ms a step")
    explore(page, system, "/?tab=explore&since=1m&by=protocol&filter=domain%20%3D%20example.org%20or%20port%20%3E%201")
    expect(panel).to_contain_text("a packet has no domain")
    explore(page, system)
    expect(panel).to_be_hidden()


def test_a_click_narrows_and_back_widens_again(page: Page, system: System) -> None:
    explore(page, system)
    page.locator("#top tbody button.cell", has_text=re.compile("^tcp$")).click()
    expect(page.locator("#filter")).to_have_value("protocol = 6")
    expect(page.locator("#top tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("#filter")).to_have_value("")
    expect(page.locator("#top tbody tr").nth(4)).to_be_visible()
    tcp = page.locator("#top tbody tr", has=page.locator("button.cell", has_text=re.compile("^tcp$")))
    tcp.hover()
    tcp.locator("button.without").click()
    expect(page.locator("#filter")).to_have_value("protocol != 6")
    answered(page)
    expect(page.locator("#top tbody button.cell", has_text=re.compile("^tcp$"))).to_have_count(0)
    page.locator("#paths .sankey-link").first.click()
    expect(page.locator("#filter")).to_have_value(re.compile(r"^protocol != 6 and (src_addr|protocol) = .* and "))
    answered(page)


def test_the_link_reproduces_the_view(page: Page, browser: Browser, system: System) -> None:
    text = "addr+%3D+198.18.0.2+and+dst_port+in+(7001,7002)"  # nothing more of it comes
    explore(page, system, f"/?tab=explore&since=1h&by=dst_port&measure=packets&filter={text}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=system.console)
    page.locator("#copy-link").click()
    expect(page.locator("#copied")).to_have_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    before = table(page)
    assert [row[0] for row in before] == ["7002", "7001"]
    with opened(browser) as another:
        another.goto(link)
        answered(another)
        assert another.locator("#filter").input_value() == "addr = 198.18.0.2 and dst_port in (7001,7002)"
        assert another.locator("#by").input_value() == "dst_port"
        assert another.locator("#measure").input_value() == "packets"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+(Z|[+-]\d\d:\d\d)", another.locator("#since").input_value())
        assert table(another) == before


def test_a_typo_in_the_filter_is_explained_where_it_is(browser: Browser, system: System, tmp_path: Path) -> None:
    with opened(browser, expected_errors=r"400 \(Bad Request\)") as page:
        explore(page, system)
        before = table(page)
        enter(page, "protocol = udp and dst_prt = 7001")
        error = page.locator("#filter-error")
        expect(error).to_contain_text("column 20")
        expect(error).to_contain_text("dst_port")
        expect(error.locator("mark")).to_have_text("dst_prt")
        expect(page.locator("#filter")).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#explore-note")).to_contain_text("from before")
        assert len(table(page)) == len(before)
        picture(page, "typo", tmp_path)
        enter(page, "protocol = udp and dst_port = 7001")
        expect(error).to_be_hidden()
        expect(page.locator("#top tbody tr")).to_have_count(1)
        enter(page, "protocol = udp and")
        expect(error).to_be_visible()


@pytest.mark.wide
def test_a_wrong_time_is_explained(browser: Browser, system: System) -> None:
    with opened(browser, expected_errors=r"400 \(Bad Request\)") as page:
        explore(page, system)
        page.locator("#since").fill("half past nine")
        page.locator("#since").press("Enter")
        expect(page.locator("#explore-note")).to_contain_text("half past nine")
        page.locator("#ranges button", has_text="15m").click()
        answered(page)
        expect(page.locator("#explore-note")).to_be_hidden()


def test_nothing_found_says_what_to_do(page: Page, system: System) -> None:
    page.goto(system.console + "/?tab=explore&filter=addr+%3D+203.0.113.77")
    expect(page.locator("#explore-note")).to_contain_text("No flows in this range")
    expect(page.locator("#explore-note")).to_contain_text("longer range")
    expect(page.locator("#explore-content")).to_be_hidden()


def test_the_filter_is_written_with_the_keyboard_alone(page: Page, system: System) -> None:
    explore(page, system)
    page.locator("#series-title").click()
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("dst_po")
    expect(page.locator("#filter-options li").first).to_contain_text("dst_port")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#filter")).to_have_attribute("aria-activedescendant", "filter-option-0")
    page.keyboard.press("Enter")
    expect(page.locator("#filter")).to_have_value("dst_port ")
    expect(page.locator("#filter-options li").first).to_be_visible()  # its operators
    page.keyboard.type("= 7001 an")
    expect(page.locator("#filter-options li").first).to_contain_text("and")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("protocol = udp")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("#top tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"filter=dst_port\+%3D\+7001\+and\+protocol\+%3D\+udp"))


def test_csv_is_what_the_filter_selects(page: Page, system: System, tmp_path: Path) -> None:
    explore(page, system, "/?tab=explore&since=1h&filter=dst_port+%3D+7001")
    with page.expect_download() as download:
        page.locator("#csv").click()
    file = tmp_path / "flows.csv"
    download.value.save_as(file)
    with file.open() as text:
        rows = list(csv.DictReader(text))
    (stored,) = system.rows("SELECT sum(packets + packets_rev) AS packets FROM flows WHERE dst_port = 7001")
    assert {row["dst_port"] for row in rows} == {"7001"}
    assert sum(int(row["packets"]) + int(row["packets_rev"]) for row in rows) == int(stored["packets"])


@pytest.mark.wide
def test_dragging_over_the_chart_chooses_the_span(page: Page, system: System) -> None:
    explore(page, system)
    box = page.locator("#series-chart .nsewdrag").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, middle, steps=6)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"since=\d{4}-.*until=\d{4}-"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+(Z|[+-]\d\d:\d\d)", page.locator("#until").input_value())
