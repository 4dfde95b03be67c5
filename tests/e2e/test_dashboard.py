"""The dashboard in Debian's Chromium, over `ayaflow up` with real traffic between two namespaces.

With SCREENSHOTS=DIR it also writes the pictures of docs/dashboard.md there.
"""

import contextlib
import csv
import hashlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import net
from tests.e2e.system import System, ayaflow_up, processes_of
from tests.fix_local import free_port

pytest.importorskip("playwright", reason="the dashboard's tests need playwright: make setup-test")

from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import CHROMIUM, chromium, opened

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]

AMOUNTS = "[...document.querySelectorAll('#connections tr')].map(row => row.cells[7].textContent)"
EXPLORE = "/?tab=explore&since=15m&by=protocol"
PACKETS_A_SECOND, FLOWS, SECONDS = 3_000, 12, 400


@pytest.fixture(scope="module")
def network() -> Iterator[net.Network]:
    with net.two_hosts(offloads=False) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def system(network: net.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """With all kinds of traffic stored, and small datagrams still passing."""
    if not CHROMIUM.exists():
        message = "the dashboard's tests need Debian's package chromium: make setup-test"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    a, b = network.a, network.b
    started: list[subprocess.Popen[str]] = []
    with ayaflow_up(tmp_path_factory.mktemp("up") / "data", network.watched) as running:
        try:
            server = b.python("traffic", "serve", b.ipv4, b.ipv6)
            started.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            client = a.python("traffic", "send", a.ipv4, b.ipv4, a.ipv6, b.ipv6)
            started.append(client)
            assert client.wait(60) == 0
            running.wait_until_stored(time.time())
            blast = (a.interface, a.mac, b.mac, a.ipv4, b.ipv4)
            words = (str(PACKETS_A_SECOND * SECONDS), str(PACKETS_A_SECOND), str(FLOWS))
            started.append(a.python("blast", *blast, *words))
            yield running
        finally:
            for process in started:
                process.terminate()
                process.communicate(timeout=10)


@pytest.fixture(scope="module")
def browser(system: System) -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with opened(browser) as one:
        yield one


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
    page.locator("#series-chart .scatterlayer .trace").first.wait_for(state="attached")
    page.locator("#paths .sankey-node").first.wait_for(state="attached")


def enter(page: Page, text: str) -> None:
    """Type a filter and run it."""
    page.locator("#filter").fill(text)
    page.locator("#filter").press("Escape")
    page.locator("#filter").press("Enter")


def test_live_values_move_while_packets_pass(page: Page, system: System, tmp_path: Path) -> None:
    page.goto(system.console)
    expect(page.locator("#tile-in dd")).to_have_text(re.compile(r"^[1-9][\d.]* [kM]?B/s$"))
    rows = page.locator("#connections tr")
    expect(rows.filter(has_text="198.18.0.2:9").first).to_be_visible()
    before = [row[7] for row in table(page, "#connections")]
    page.wait_for_function(
        f"before => {{ const now = {AMOUNTS}; return now.filter((text, i) => text !== before[i]).length > 3 }}",
        arg=before,
    )
    expect(page.locator("#live-chart .scatterlayer .trace")).to_have_count(2)
    line = page.locator("#live-chart .scatterlayer .js-line").first
    shape = line.get_attribute("d")
    page.wait_for_function("([line, shape]) => line.getAttribute('d') !== shape", arg=[line.element_handle(), shape])
    expect(page.locator("#tile-dropped dd")).to_have_text("0")
    expect(page.locator("#live-note")).to_be_hidden()
    expect(page.locator("#health-text")).to_have_text("all well")
    page.wait_for_timeout(15_000 if os.environ.get("SCREENSHOTS") else 0)
    picture(page, "live", tmp_path)


@pytest.mark.wide
def test_the_rate_of_the_live_tab_is_that_of_the_traffic(page: Page, system: System) -> None:
    page.goto(system.console)
    expect(page.locator("#nodes tr").first).to_be_visible()
    found = []
    for _ in range(9):  # a second is not always a second where tests share two cores
        page.wait_for_timeout(1_000)
        (text,) = (row[4] for row in table(page, "#nodes") if "in" in row[2])
        number, _, unit = text.partition(" ")
        found.append(float(number) * {"": 1, "k": 1_000, "M": 1_000_000}[unit])
    assert PACKETS_A_SECOND * 0.7 < statistics.median(found) < PACKETS_A_SECOND * 1.3, found


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
    explore(page, system, f"/?tab=explore&since=15m&by=dst_port&measure=packets&filter={text}")
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
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", another.locator("#since").input_value())
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


@pytest.mark.wide
def test_the_focus_is_seen_wherever_the_keyboard_goes(page: Page, system: System) -> None:
    explore(page, system)
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(22):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "() => { const one = document.activeElement, style = getComputedStyle(one);"
                " return [one.id || one.className || one.textContent, style.outlineStyle,"
                " parseFloat(style.outlineWidth)] }"
            )
        )
    assert [one for one in seen if one[1] == "none" or one[2] < 1] == []
    assert {"tab-live", "tab-explore", "tab-audit", "filter", "by", "csv"} <= {one[0] for one in seen}


def test_csv_is_what_the_filter_selects(page: Page, system: System, tmp_path: Path) -> None:
    explore(page, system, "/?tab=explore&since=15m&filter=dst_port+%3D+7001")
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
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", page.locator("#until").input_value())


def test_the_audit_is_in_plain_words_and_adds_up(page: Page, system: System, tmp_path: Path) -> None:
    page.goto(system.console + "/?tab=audit")
    expect(page.locator("#verdict strong")).to_have_text("Exact")
    expect(page.locator("#verdict p")).to_contain_text("seen by the kernel")
    account = {row[1]: int(row[2].replace(",", "")) for row in table(page, "#account")}
    parts = sum(count for name, count in account.items() if name not in {"Seen by the kernel", "Stored in flows"})
    assert account["Seen by the kernel"] - parts == account["Stored in flows"] > 1_000
    assert account["dropped"] == 0
    report = json.loads(system.ayaflow("audit", "--format", "json").stdout)
    assert {row[0] for row in table(page, "#audit-rows")} == {row["node"] for row in report["rows"]}
    assert {row[12] for row in table(page, "#audit-rows")} == {"0"}
    picture(page, "audit", tmp_path)


CONTRAST = """names => {
    const style = getComputedStyle(document.documentElement);
    const light = name => {
        const [r, g, b] = style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map(part => {
            const value = parseInt(part, 16) / 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return names.map(([front, back]) => {
        const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(browser: Browser, system: System, scheme: Any, tmp_path: Path) -> None:
    with opened(browser, color_scheme=scheme) as page:
        explore(page, system, "/?tab=explore&since=5m&by=src_addr")
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        pairs = [
            ["--ink", "--panel"],
            ["--muted", "--panel"],
            ["--muted", "--page"],
            ["--accent", "--panel"],
            ["--accent-ink", "--accent"],
            ["--good", "--panel"],
            ["--bad", "--bad-soft"],
            ["--warn", "--warn-soft"],
        ]
        assert [pair for pair, ratio in zip(pairs, page.evaluate(CONTRAST, pairs), strict=True) if ratio < 4.5] == []
        picture(page, f"explore-{scheme}", tmp_path)
        page.locator("#theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.locator("#theme").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.wide
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("tab", ["live", "explore", "audit"])
def test_no_page_is_wider_than_the_screen(
    browser: Browser, system: System, width: int, tab: str, tmp_path: Path
) -> None:
    with opened(browser, viewport={"width": width, "height": 844}) as page:
        page.goto(f"{system.console}/?tab={tab}")
        shown = {"live": "#connections tr", "explore": "#top tbody tr", "audit": "#audit-rows tr"}[tab]
        expect(page.locator(shown).first).to_be_visible()
        if tab == "explore":
            answered(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 390:
            picture(page, f"phone-{tab}", tmp_path)


def test_data_cannot_become_markup(page: Page, system: System) -> None:
    """Names come from hosts that are not trusted: a table, a chart and a notice show them as they are."""
    page.goto(system.console)
    found = page.evaluate(
        """async () => {
            const evil = '<img src=x onerror="window.hit=1"><a href="javascript:1">x</a>';
            const [{ drawTop }, { areas, plain }, { notice }] = await Promise.all(
                ['top_table', 'charts', 'dom'].map(name => import(`/static/${name}.js`)));
            const holder = document.createElement('div');
            holder.innerHTML = '<table><caption></caption><thead></thead><tbody></tbody></table><div id="evil"></div>';
            document.body.append(holder);
            const row = { interface: evil, packets: 1, bytes: 1, packets_rev: 0, bytes_rev: 0, records: 1 };
            drawTop(holder.firstChild, { rows: [row], total: row }, { measure: 'bytes' }, new Map(), () => {});
            holder.append(notice('error', evil, evil));
            await areas(holder.children[1], { times: [0, 1000], unit: 'B/s', series: [
                { name: evil, values: [1, 2], colour: '#2f6fb4' }] });
            await new Promise(done => setTimeout(done, 300));
            return [holder.querySelectorAll('img, a').length, window.hit ?? 0,
                holder.querySelector('.legendtext').textContent, holder.querySelector('button.cell').textContent];
        }"""
    )
    assert found[:2] == [0, 0]
    assert "<img" in found[2]
    assert found[3].startswith("<img")


@pytest.mark.wide
def test_a_console_that_dies_is_said_and_the_page_goes_on_when_it_is_back(browser: Browser, system: System) -> None:
    pids = [pid for pid in processes_of(system.data_dir) if is_console(pid)]
    assert len(pids) == 1
    # 503: for the console that has just begun, Kafka may be slow to answer on a busy machine; its health says so
    with opened(browser, expected_errors="WebSocket connection|ERR_CONNECTION|status of 503") as page:
        page.goto(system.console)
        expect(page.locator("#connections tr").first).to_be_visible()
        os.kill(pids[0], signal.SIGKILL)  # `ayaflow up` starts it again
        expect(page.locator("#live-note")).to_contain_text("No live data", timeout=15_000)
        expect(page.locator("#live-note")).to_contain_text("ayaflow up")
        expect(page.locator("#live-note")).to_be_hidden(timeout=60_000)
        expect(page.locator("#health-text")).to_have_text("all well", timeout=30_000)
        before = table(page, "#connections")
        page.wait_for_timeout(2_500)
        assert table(page, "#connections") != before


@contextmanager
def another_console(system: System, **environment: str) -> Iterator[str]:
    """One more console of the same system, with settings of its own -> its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "console", "--config", str(system.config)],
        env={**os.environ, "AYAFLOW_CONSOLE_LISTEN": f"127.0.0.1:{port}", **environment},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, "the console ended"
            assert time.monotonic() < deadline, "the console did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.wide
def test_a_token_is_asked_for_once_and_opens_everything(browser: Browser, system: System) -> None:
    digest = hashlib.sha256(b"the-token").hexdigest()
    with (
        another_console(system, AYAFLOW_CONSOLE_TOKENS=digest) as address,
        opened(browser, expected_errors=r"401|WebSocket connection|403") as page,
    ):
        page.goto(address)
        expect(page.locator("#token-dialog")).to_be_visible()
        page.locator("#token").fill("the-token")
        page.locator("#token").press("Enter")
        expect(page.locator("#connections tr").first).to_be_visible()
        expect(page.locator("#token-dialog")).to_be_hidden()
        page.goto(address + "/?tab=explore&since=15m&filter=dst_port+%3D+7001")
        answered(page)
        with page.expect_download() as download:
            page.locator("#csv").click()
            expect(page.locator("#explore-note")).to_be_hidden()
        assert download.value.suggested_filename == "flows.csv"
        assert "dst_port" in Path(download.value.path()).read_text()


@pytest.mark.wide
def test_without_clickhouse_the_page_says_so_and_live_goes_on(browser: Browser, system: System) -> None:
    with (
        another_console(system, AYAFLOW_CLICKHOUSE_URL="http://127.0.0.1:1") as address,
        opened(browser, expected_errors="503") as page,
    ):
        page.goto(address + "/?tab=explore")
        expect(page.locator("#explore-note")).to_contain_text("ClickHouse at http://127.0.0.1:1 does not answer")
        expect(page.locator("#banner")).to_contain_text("ayaflow clickhouse")
        expect(page.locator("#health-text")).to_have_text("clickhouse not well")
        page.locator("#tab-audit").click()
        expect(page.locator("#audit-note")).to_contain_text("does not answer")
        page.locator("#tab-live").click()
        expect(page.locator("#connections tr").first).to_be_visible()


@pytest.mark.wide
def test_without_kafka_the_page_says_so_and_history_stays(browser: Browser, system: System) -> None:
    with (
        another_console(system, AYAFLOW_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as address,
        opened(browser, expected_errors="503") as page,
    ):
        page.goto(address)
        expect(page.locator("#live-note")).to_contain_text("Live data stands still", timeout=15_000)
        expect(page.locator("#banner")).to_contain_text("Kafka at 127.0.0.1:1 does not answer")
        page.locator("#tab-explore").click()
        answered(page)


def is_console(pid: int) -> bool:
    """Whether it is the process of `ayaflow console`."""
    return b"console" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
