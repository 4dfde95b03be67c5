"""Reports as SQL of the views."""

import re
from datetime import UTC, datetime

import pytest

from common.errors import QueryError
from common.settings import ClickHouseSettings
from console.reports.views import REPORTS, ask
from schemas.clickhouse.ddl import migrations

SINCE, UNTIL = datetime(2026, 5, 1, 11, 40, 30, tzinfo=UTC), datetime(2026, 5, 1, 12, 0, 0, 500_000, tzinfo=UTC)
NOW = datetime(2026, 5, 1, 13, 0, 0, 500_000, tzinfo=UTC)


def sql(name: str, addr: str | None = None) -> str:
    return ask(name, since=SINCE, until=UNTIL, now=NOW, addr=addr, limit=5).sql


def test_every_view_has_a_report_with_its_parameters() -> None:
    views = {}
    for migration in migrations(ClickHouseSettings()):
        for statement in migration.statements:
            if name := re.match(r"CREATE VIEW IF NOT EXISTS ayaflow\.(\w+)", statement):
                views[name[1]] = set(re.findall(r"\{(\w+):", statement))
    assert views == {
        name: {
            word
            for word, has in (
                ("since", report.since),
                ("until", report.until),
                ("addr", report.addr),
                ("prefix", report.network),
            )
            if has
        }
        for name, report in REPORTS.items()
    }


def test_what_a_report_is_of_is_said_to_the_period_of_its_view() -> None:
    assert sql("top_talkers") == (
        "SELECT * FROM top_talkers(since = toDateTime(1777633200, 'UTC'), until = toDateTime(1777640400, 'UTC'))"
        " ORDER BY bytes_sent + bytes_got DESC LIMIT 5"
    )
    ranges = {}
    for name, report in REPORTS.items():
        asked = ask(name, since=SINCE, until=UNTIL, now=NOW, addr="::1" if report.addr else None, limit=1)
        ranges[name] = f"{asked.since:%Y %H:%M:%S}", f"{asked.until:%H:%M:%S}"
    hours, minutes = ("2026 11:00:00", "13:00:00"), ("2026 11:40:00", "12:01:00")
    assert ranges == {
        **dict.fromkeys(("top_talkers", "throughput", "conversations", "scans"), hours),
        **dict.fromkeys(("percentiles", "week_before"), minutes),
        "longest_flows": ("2026 11:40:30", "12:00:01"),
        "first_seen_since": ("2026 11:40:30", "13:00:01"),
        "first_seen_of": ("1970 00:00:00", "13:00:01"),
    }


@pytest.mark.parametrize(
    ("addr", "given"),
    [
        ("10.0.0.7", "addr = toIPv6('::ffff:a00:7'), prefix = 128"),
        ("10.1.2.3/16", "addr = toIPv6('::ffff:a01:0'), prefix = 112"),
        (" 2001:db8::/32 ", "addr = toIPv6('2001:db8::'), prefix = 32"),
        ("::ffff:10.0.0.7", "addr = toIPv6('::ffff:a00:7'), prefix = 128"),
    ],
)
def test_an_address_or_network_is_its_first_address_and_its_prefix(addr: str, given: str) -> None:
    assert given in sql("throughput", addr)


@pytest.mark.parametrize(
    ("name", "addr", "why"),
    [
        ("top_talker", None, "did you mean top_talkers"),
        ("conversations", None, "name it by addr"),
        ("conversations", "10.0.0.0/8", "throughput takes networks"),
        ("conversations", "1' OR 1", "is not an IP address"),
        ("throughput", "web1", "or a network"),
        ("scans", "10.0.0.7", "about all addresses"),
    ],
)
def test_what_cannot_be_asked_is_said(name: str, addr: str | None, why: str) -> None:
    with pytest.raises(QueryError, match=re.escape(why)):
        sql(name, addr)
