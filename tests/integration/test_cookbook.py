"""Every query of docs/sql.md on flows of several days: it answers, and reads the days and granules that it must."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common import settings as settings_module
from common.settings import ClickHouseSettings
from console.reports.views import REPORTS
from schemas.clickhouse.rollups import ROLLUPS
from tests.bench.history.traffic import BEGIN, DAY, Fleet
from tests.integration.fix_api import api_client
from tests.integration.fix_clickhouse import our_tables

pytestmark = pytest.mark.clickhouse

DAYS, ROWS = 4, 40_000
DATABASE = "ayaflow_cookbook"
QUERIES = re.findall(r"```sql\n(.*?)\n```", (Path(__file__).parents[2] / "docs" / "sql.md").read_text(), re.DOTALL)
OF_ALL_DAYS = ("first_seen_of", "first_seen_since")
BY_ADDRESS = ("hosts_1h", "conversations", "first_seen_of", "percentiles", "src_addr = '", "src_addr IN", "domain = '")
ADDRESS = "2001:db8::77"  # rare: it is in one window


def text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


VALUES = {"since": text(BEGIN + 2 * DAY), "until": text(BEGIN + 3 * DAY), "addr": ADDRESS, "peer": "2001:db8::2"}


def filled(query: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], query)


@pytest.fixture(scope="module")
def client(clickhouse_server: str) -> Iterator[Any]:
    settings = ClickHouseSettings(
        url=clickhouse_server, database=DATABASE, flows_retention_days=20_000, rollup_retention_days=20_000
    )
    with our_tables(settings) as made:
        made.database = DATABASE
        fleet = Fleet()
        for number in range(DAYS):
            made.insert_arrow("flows", fleet.day(number, ROWS, names=True))
        for number in (1, 2):
            begin = BEGIN + number * DAY + 40
            made.command(
                "INSERT INTO flows (window_begin, window_seconds, node, interface, protocol, src_addr, dst_addr, "
                "src_port, dst_port, packets, bytes) VALUES "
                f"({begin}, 10, 'node-1', 'eth0', 6, '{ADDRESS}', '2001:db8::{number}', 40000, 443, 3, 300)"
            )
        for table in ("flows", *ROLLUPS):
            made.command(f"OPTIMIZE TABLE {table} FINAL")
        (VALUES["community_id"],) = made.query(
            f"SELECT community_id FROM flows WHERE src_addr = '{ADDRESS}' AND dst_addr = '{VALUES['peer']}'"
        ).result_rows[0]
        yield made


def test_there_are_queries() -> None:
    """Of each question that people have of months: an address, a network, a pair, a connection, a Community ID, …"""
    assert len(QUERIES) >= 17
    asked = ("throughput", "prefix = 120", "{peer}", "src_port =", "community_id =", "domain =", "first_seen_since")
    for each in (*asked, "scans", "longest_flows", "percentiles", "week_before"):
        assert any(each in query for query in QUERIES), each


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: re.sub(r"\W+", " ", query)[:60])
def test_a_query_of_the_cookbook_reads_only_what_it_needs(client: Any, query: str) -> None:
    sql = filled(query)
    result = client.query(sql)
    assert result.result_rows or "FROM ledger" in query
    if "FROM ledger" in query:
        return  # of which there is none here
    plan = "\n".join(row[0] for row in client.query(f"EXPLAIN indexes = 1 {sql}").result_rows)
    parts = [tuple(map(int, pair)) for pair in re.findall(r"Parts: (\d+)/(\d+)", plan)]
    granules = [tuple(map(int, pair)) for pair in re.findall(r"Granules: (\d+)/(\d+)", plan)]
    assert parts, plan
    if not any(name in query for name in OF_ALL_DAYS):
        assert min(read for read, _ in parts) <= 1, plan  # one day of four
    if any(name in query for name in BY_ADDRESS):
        assert min(read for read, _ in granules) < granules[0][1] / 2, plan


def test_the_views_say_what_the_flows_say(client: Any) -> None:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        return list(client.query(filled(sql)).result_rows)

    ranged = "since = '{since}', until = '{until}'"
    inside = "primary AND window_begin >= '{since}' AND window_begin < '{until}'"
    same = "f.src_addr = f.dst_addr"  # it is there once, as its initiator sent and got it
    assert rows(f"SELECT sum(bytes_sent), sum(bytes_got), sum(packets_sent) FROM top_talkers({ranged})") == rows(
        f"SELECT sum(f.bytes + if({same}, 0, f.bytes_rev)), sum(f.bytes_rev + if({same}, 0, f.bytes)), "
        f"sum(f.packets + if({same}, 0, f.packets_rev)) FROM flows AS f WHERE {inside}"
    )
    ((_, sent, got, *_),) = rows(f"SELECT * FROM throughput({ranged}, addr = '{{addr}}', prefix = 128)")
    assert (sent, got) == (300, 0)
    ((peer, initiated, protocol, port, sent, *_),) = rows(f"SELECT * FROM conversations({ranged}, addr = '{{addr}}')")
    assert (str(peer), initiated, protocol, port, sent) == ("2001:db8::2", 1, 6, 443, 300)
    assert len(rows("SELECT * FROM first_seen_of(addr = '{addr}')")) == 2
    new = rows("SELECT src_addr, dst_addr FROM first_seen_since(since = '{since}') WHERE src_addr = '{addr}'")
    assert [str(dst) for _, dst in new] == ["2001:db8::2"]
    known = "SELECT dst_addr, src_addr, protocol, dst_port FROM flows WHERE primary AND window_begin"
    assert rows("SELECT count() FROM first_seen_since(since = '{since}')") == rows(
        f"SELECT count() FROM (SELECT DISTINCT * FROM ({known} >= '{{since}}') EXCEPT ({known} < '{{since}}'))"
    )
    assert rows(f"SELECT minutes FROM percentiles({ranged}, addr = '{{addr}}')") == [(1,)]
    assert rows(f"SELECT seconds FROM longest_flows({ranged}) WHERE src_addr = '{{addr}}'") == [(10,)]
    assert rows(f"SELECT sum(bytes) FROM week_before({ranged})") == rows(
        f"SELECT sum(f.bytes + f.bytes_rev) FROM flows AS f WHERE {inside}"
    )
    assert rows(f"SELECT max(ports) FROM scans({ranged})") == rows(
        "SELECT max(n) FROM (SELECT uniq(dst_port) AS n, uniq(dst_addr) AS m FROM flows AS f "
        f"WHERE {inside} GROUP BY toStartOfHour(window_begin), src_addr HAVING n >= 20 OR m >= 20)"
    )


def test_reports_answer_over_the_api(client: Any, clickhouse_server: str) -> None:
    settings = settings_module.load(
        flags={
            "clickhouse.url": clickhouse_server,
            "clickhouse.database": DATABASE,
            "kafka.bootstrap_servers": "127.0.0.1:1",
        }
    )
    span = {name: f"{VALUES[name].replace(' ', 'T')}Z" for name in ("since", "until")}
    with api_client(settings) as api:
        for name, report in REPORTS.items():
            answer = api.get(f"/api/reports/{name}", params=span | ({"addr": ADDRESS} if report.addr else {}))
            assert answer.status_code == 200, answer.text
            assert answer.json()["rows"], name
        pod = api.get("/api/reports/throughput", params=span | {"addr": "10.244.0.0/24", "limit": 30}).json()
        assert len(pod["rows"]) == 24
        assert pod["rows"][0]["time"] == "2026-09-30T00:00:00Z"
        top = api.get("/api/reports/top_talkers", params=span | {"limit": 50}).json()["rows"]
        assert any(re.fullmatch(r"[\d.]+", row["addr"]) for row in top)
        for wrong, why in (("top_talker", "did you mean"), ("conversations", "name it by addr")):
            answer = api.get(f"/api/reports/{wrong}")
            assert answer.status_code == 400
            assert why in answer.json()["error"]
