"""What every page has: focus, contrast, width, and names that are shown as they are."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import opened
from tests.e2e.dashboard.driving import answered, explore, picture
from tests.e2e.system import System

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


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
    scheme: Any = "dark" if width == 390 else "light"
    with opened(browser, viewport={"width": width, "height": 844}, color_scheme=scheme) as page:
        page.goto(f"{system.console}/?tab={tab}&since=15m")
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
            const [{ drawTop }, { areas, bars }, { notice }] = await Promise.all(
                ['top_table', 'charts', 'dom'].map(name => import(`/static/${name}.js`)));
            const holder = document.createElement('div');
            holder.innerHTML = '<table><caption></caption><thead></thead><tbody></tbody></table><div></div><div></div>';
            document.body.append(holder);
            const row = { interface: evil, packets: 1, bytes: 1, packets_rev: 0, bytes_rev: 0, records: 1 };
            drawTop(holder.firstChild, { rows: [row], total: row }, { measure: 'bytes' }, new Map(), () => {});
            holder.append(notice('error', evil, evil));
            const series = [{ name: evil, whole: evil, values: [1, 2], colour: '#2f6fb4', stack: 'in' }];
            const [unit, range] = ['B/s', [0, 2000]];
            await areas(holder.children[1], { times: [0, 1000], unit, series, range, longest: 1000 });
            await bars(holder.children[2], {
                steps: [{ from: 0, to: 1000 }, { from: 1000, to: 2000 }], unit, series, range, onRange: () => {} });
            await new Promise(done => setTimeout(done, 300));
            return [holder.querySelectorAll('img, a').length, window.hit ?? 0,
                holder.querySelector('button.cell').textContent,
                ...[...holder.querySelectorAll('.legendtext')].map(text => text.textContent)];
        }"""
    )
    assert found[:2] == [0, 0]
    assert len(found) == 5
    assert all(text.startswith("<img") for text in found[2:])
