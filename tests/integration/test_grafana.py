"""Each query of the dashboard of traffic, asked of the real ClickHouse over HTTP, as Grafana's data source does."""

import json
import re
import time
from typing import Any

import pytest

from deploy.grafana.traffic import PANELS, VARIABLES
from tests.integration.fix_clickhouse import http
from tests.integration.fix_tables import Tables

pytestmark = pytest.mark.clickhouse

SECONDS = 60  # of a point
NODE = "o'hara"  # a quote: ${node:singlequote} escapes it


def expanded(sql: str, since: int, until: int) -> str:
    """What the data source's macros and Grafana's variables stand for, by their documentation."""
    moment = "toStartOfInterval(toDateTime({0}), INTERVAL " + str(SECONDS) + " second)"
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= toDateTime({since}) AND \1 <= toDateTime({until})", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", lambda match: moment.format(match[1]), sql)
    return sql.replace("$__interval_s", str(SECONDS)).replace(
        "${node:singlequote}", "'n1','" + NODE.replace("'", "\\'") + "'"
    )


class Asked:
    """A time with known traffic, in tables of its own."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._start = int(time.time()) // 3600 * 3600 - 3600

    def fill(self) -> None:
        """1,000 + 500 octets of node n1, 40 of the other; and what totals must leave out."""
        at = self._start + 600
        self._tables.flow(window_begin=at, packets=10, bytes=1000, packets_rev=5, bytes_rev=500)
        self._tables.flow(window_begin=at + 10, node=NODE, protocol=6, dst_port=22, packets=1, bytes=40)
        self._tables.flow(window_begin=at, primary=False, interface="br0", packets=10, bytes=1000)
        self._tables.flow(window_begin=at, node="n2", packets=7, bytes=7000)
        self._tables.ledger(end=at + 1, windows={at: (15, 1500)}, non_ip_packets=60, seen_packets=75)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        text = f"{expanded(sql, self._start, self._start + 3600)} FORMAT JSONEachRow"
        status, _, body = http(self._tables.url, text.encode(), database=self._tables.database)
        assert status == 200, body.decode()
        return [json.loads(line) for line in body.splitlines()]


@pytest.fixture
def asked(tables: Tables) -> Asked:
    made = Asked(tables)
    made.fill()
    return made


def test_every_query_is_answered(asked: Asked) -> None:
    for panel in PANELS:
        found = asked.rows(panel.sql)
        assert found, panel.title
        if panel.kind == "timeseries":
            assert next(iter(found[0])) == "moment", panel.title
            assert any(value for row in found for name, value in row.items() if name != "moment"), panel.title


def test_totals_are_those_of_the_chosen_nodes_each_packet_once(asked: Asked) -> None:
    totals = {panel.title: asked.rows(panel.sql)[0]["total"] for panel in PANELS if panel.kind == "stat"}
    assert {name: int(value) for name, value in totals.items()} == {
        "Bytes": 1540,
        "Packets": 16,
        "Flow records": 2,
        "Nodes": 2,
    }


def test_what_is_shown_over_time_adds_up_to_the_totals(asked: Asked) -> None:
    for panel in PANELS:
        if panel.kind == "timeseries" and panel.unit == "bps":
            assert sum(row["rate"] for row in asked.rows(panel.sql)) * SECONDS / 8 == pytest.approx(1540), panel.title


def test_tables_name_the_busiest_first(asked: Asked) -> None:
    busiest = next(asked.rows(panel.sql) for panel in PANELS if panel.title == "Busiest connections")
    assert busiest[0] == {
        "source": "10.0.0.1",
        "destination": "10.0.0.2",
        "dst_port": 443,
        "name": "TCP",
        **{name: value for name, value in busiest[0].items() if name in {"bytes", "packets", "flows"}},
    }
    assert [int(row["bytes"]) for row in busiest] == [1500, 40]


def test_the_choice_of_nodes_is_those_that_there_are(asked: Asked) -> None:
    assert [row["node"] for row in asked.rows(VARIABLES[0]["query"])] == ["n1", "n2", NODE]
