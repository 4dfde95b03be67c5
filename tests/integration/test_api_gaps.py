"""Steps without flows: 0 where the ledger says that nothing passed, null where nothing is known."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.times import iso
from tests.integration.fix_api import api_client
from tests.integration.fix_clickhouse import our_tables
from tests.integration.fix_disk import day, ledger_of, start_of
from tests.integration.fix_tables import Tables

pytestmark = pytest.mark.clickhouse

DATABASE = "ayaflow_gaps_tests"
DAY = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
EARLIER = DAY - 10 * 86_400
STEP = 60
MINUTES = 10
FIRST, STILL, OFF, FLYING, OTHERS = 0, 2, 4, 6, 8
"""Minutes of DAY: flows of a; nothing, but a and b watch; only b watches; consumed and not stored; flows of b."""


@pytest.fixture(scope="module")
def gaps(clickhouse_server: str) -> Iterator[TestClient]:
    loaded = settings_module.load(
        flags={
            "clickhouse.url": clickhouse_server,
            "clickhouse.database": DATABASE,
            "clickhouse.flows_retention_days": "20000",
            "clickhouse.rollup_retention_days": "20000",
            "kafka.bootstrap_servers": "127.0.0.1:1",
        }
    )
    with our_tables(loaded.clickhouse) as client:
        client.insert(
            f"{DATABASE}.flows",
            [[DAY + STEP * minute, 10, node, 6, 7, 700] for minute, node in ((FIRST, "a"), (OTHERS, "b"))],
            column_names=["window_begin", "window_seconds", "node", "protocol", "packets", "bytes"],
        )
        consumed = f"start >= {DAY + FLYING * STEP} AND start < {DAY + (FLYING + 1) * STEP} AND node = 'a'"
        client.command(
            f"INSERT INTO {DATABASE}.ledger"
            " (node, ring_id, epoch, start_time, end_time, consumed_windows, consumed_packets, consumed_bytes)"
            f" SELECT arrayJoin(['a', 'b']) AS node, 1, 1 + number, {DAY} + number AS start, start + 1,"
            f" if({consumed}, [toDateTime(intDiv(start, 10) * 10)], []), if({consumed}, [3], []),"
            f" if({consumed}, [9], [])"
            f" FROM numbers({MINUTES * STEP}) WHERE NOT (node = 'a' AND intDiv(number, {STEP}) = {OFF})"
        )
        client.command(
            f"INSERT INTO {DATABASE}.ledger (node, ring_id, epoch, interface, start_time, end_time, seen_packets,"
            " emitted_packets, coalesced_packets, ring_full_packets, non_ip_packets, consumed_windows,"
            " consumed_packets, consumed_bytes)"
            f" VALUES ('d', 1, 1, 'eth0', {EARLIER}, {EARLIER + 1}, 100, 80, 10, 4, 6, [{EARLIER}], [88], [8800])"
        )
        client.command(
            f"INSERT INTO {DATABASE}.losses (time, kind, node, gap_start, gap_end, lost)"
            f" VALUES ({EARLIER + 1}, 'events', 'd', 5, 9, 4)"
        )
        with api_client(loaded) as opened:
            yield opened


def values(gaps: TestClient, **parameters: str) -> dict[Any, list[int | None]]:
    span: dict[str, str | int] = {"since": f"{datetime.fromtimestamp(DAY, UTC):%FT%TZ}", "points": MINUTES}
    until = f"{datetime.fromtimestamp(DAY + (MINUTES + 2) * STEP, UTC):%FT%TZ}"
    answer = gaps.get("/api/series", params={**span, "until": until, **parameters})
    assert answer.status_code == 200, answer.text
    assert answer.json()["step_seconds"] == 120
    return {str(one["name"]): one["values"] for one in answer.json()["series"]}


def test_nothing_stored_is_zero_where_a_node_watched_and_all_is_stored(gaps: TestClient) -> None:
    # in two minutes a step: flows, still, only b watches for a minute, in flight, flows of b, after the last epoch
    assert values(gaps) == {"{}": [700, 0, 0, None, 700, None]}
    # what was consumed may be others' flows, when it is so long ago
    assert values(gaps, filter="protocol = tcp") == {"{}": [700, 0, 0, 0, 700, None]}


def test_nodes_are_told_apart(gaps: TestClient) -> None:
    found = values(gaps, by="node")
    assert found == {"{'node': 'a'}": [700, 0, 0, None, 0, None], "{'node': 'b'}": [0, 0, 0, 0, 700, None]}


@pytest.mark.parametrize(
    ("text", "quiet"),
    [("node = c", None), ("node = c and dst_port = 1", None), ("node = c or dst_port = 1", 0), ("not node = c", 0)],
)
def test_a_filter_that_means_no_node_that_watched_says_nothing(gaps: TestClient, text: str, quiet: int | None) -> None:
    ((_, found),) = values(gaps, filter=f"{text} and not protocol = 6").items()
    assert found[1] == quiet


def test_how_complete_a_range_is_is_what_its_ledger_says(gaps: TestClient) -> None:
    def asked(**parameters: str) -> dict[str, Any]:
        answer = gaps.get("/api/completeness", params=parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    earlier = {
        name: f"{datetime.fromtimestamp(EARLIER + at, UTC):%FT%TZ}" for name, at in (("since", 0), ("until", 60))
    }
    found = asked(**earlier)
    assert {name: value for name, value in found.items() if name not in earlier} == {
        "seen_packets": 100,
        "recorded_packets": 90,
        "coalesced_packets": 10,
        "dropped_packets": 4,
        "unread_packets": 6,
        "unstored_packets": 2,
        "unclosed_epochs": 0,
        "losses": 1,
        "lost_packets": 4,
        **dict.fromkeys(("inspected_packets", "copied_packets", "named_packets", "unnamed_packets"), 0),
        "table": "services_1m",
        "rollup_missing_records": 0,
        "unkept_packets": 0,
        "settled_until": f"{datetime.fromtimestamp(EARLIER, UTC):%FT%T.%fZ}",  # then a window that is not stored begins
    }
    assert asked(**earlier, node="d") == found
    nothing = asked(**earlier, node="a")
    assert (nothing["seen_packets"], nothing["losses"]) == (0, 0)
    assert gaps.get("/api/completeness", params={"since": "1h", "until": "2h"}).status_code == 400


def test_a_step_is_no_shorter_than_a_window_of_then(tables: Tables) -> None:
    """streams.window_seconds was another, or windows were made anew: what passed is not in one step of several."""
    begin = start_of(day(2)) + 3_600
    tables.insert("flows", [{"window_begin": begin + 60 * i, "window_seconds": 60, "bytes": 6} for i in range(10)])
    tables.insert("flows", [{"window_begin": begin + 3_600 + 10 * i, "bytes": 6} for i in range(60)])
    ledger_of(tables, day(0))
    flags = {"clickhouse.url": tables.url, "clickhouse.database": tables.database, "streams.window_seconds": "10"}
    with api_client(settings_module.load(flags={**flags, "kafka.bootstrap_servers": "127.0.0.1:1"})) as client:

        def series(first: int, by: str) -> tuple[int, set[int | None]]:
            span = {"since": iso(begin + first), "until": iso(begin + first + 600), "points": "100", "by": by}
            answer = client.get("/api/series", params=span).json()
            return answer["step_seconds"], {*answer["series"][0]["values"]}

        for by in ("", "dst_port", "src_port"):
            assert series(0, by) == (60, {6})
            assert series(3_600, by) == (10, {6})
