"""The Audit tab."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.dashboard.driving import picture, table
from tests.e2e.system import System
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.kafka,
    pytest.mark.clickhouse,
    pytest.mark.usefixtures("root_and_bcc"),
]


def settled(system: System) -> int:
    """How many stored packets the audit speaks of."""
    rows = json.loads(system.ayaflow("audit", "--format", "json").stdout)["rows"]
    return sum(row["stored_packets"] for row in rows)


def test_the_audit_is_in_plain_words_and_adds_up(page: Page, system: System, tmp_path: Path) -> None:
    until(lambda: settled(system) > 1_000, lambda: system.ayaflow("audit").stdout)
    page.goto(system.console + "/?tab=audit")
    expect(page.locator("#verdict strong")).to_have_text("Exact")
    expect(page.locator("#verdict p")).to_contain_text("seen by the kernel")
    account = {row[1]: int(row[2].replace(",", "")) for row in table(page, "#account")}
    ahead = account.pop("stored ahead", 0)
    parts = sum(count for name, count in account.items() if name not in {"Seen by the kernel", "Stored in flows"})
    assert account["Seen by the kernel"] - parts + ahead == account["Stored in flows"] > 1_000
    assert account["dropped"] == 0
    report = json.loads(system.ayaflow("audit", "--format", "json").stdout)
    assert {row[0] for row in table(page, "#audit-rows")} == {row["node"] for row in report["rows"]}
    assert {row[13] for row in table(page, "#audit-rows")} == {"0"}
    picture(page, "audit", tmp_path)
