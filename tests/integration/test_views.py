"""The views say what the rows of flows say: of windows of several lengths, of corrections, in ranges of any length."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tests.integration.fix_disk import day, start_of
from tests.integration.fix_tables import Tables, tables_of

pytestmark = pytest.mark.clickhouse

HOUR, DAY = 3_600, 86_400
ADDRESSES = [f"2001:db8::{number:x}" for number in range(1, 30)]
SPREAD = ("2001:db8::1", "2001:db8::2", *ADDRESSES)
Row = dict[str, Any]


def flows_of(rng: random.Random, begin: int, days: int, count: int, *, lengths: tuple[int, ...] = (1, 10)) -> list[Row]:
    """Rows as they come: two nodes, passages that are not primary, corrections, who talks with itself."""
    rows = []
    for _ in range(count):
        length = rng.choice(lengths)
        start = begin + rng.choice([rng.randrange(days * DAY), rng.randrange(days * 24) * HOUR])
        one_way = rng.random() < 0.5
        rows.append(
            {
                "window_begin": start // length * length,
                "window_seconds": length,
                "node": rng.choice(["n1", "n2"]),
                "primary": rng.random() < 0.8,
                "protocol": rng.choice([6, 17]),
                "src_addr": rng.choice(SPREAD),
                "dst_addr": rng.choice(ADDRESSES),
                "src_port": rng.choice([40_000, 40_001]),
                "dst_port": rng.choice([53, 443]),
                "revision": rng.choice([0, 0, 1]),
                "packets": rng.randrange(1, 9),
                "bytes": rng.randrange(2**33),
                "packets_rev": 0 if one_way else rng.randrange(9),
                "bytes_rev": 0 if one_way else rng.randrange(2**33),
                "first_offset_us": rng.randrange(500_000),
                "last_offset_us": rng.randrange(500_000, 1_000_000),
            }
        )
    return rows


def ends(row: Row) -> Iterable[tuple[str, int, int]]:
    """Each address of a flow, with what it sent and got."""
    yield row["src_addr"], row["bytes"], row["bytes_rev"]
    if row["dst_addr"] != row["src_addr"]:
        yield row["dst_addr"], row["bytes_rev"], row["bytes"]


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def size(rows: Iterable[Row]) -> int:
    return sum(row["bytes"] + row["bytes_rev"] for row in rows)


def text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(since: int, until: int) -> str:
    return f"since = '{text(since)}', until = '{text(until)}'"


def inside(rows: Iterable[Row], since: int, until: int) -> list[Row]:
    return [row for row in rows if row["primary"] and since <= row["window_begin"] < until]


Stored = tuple[Tables, list[Row], int]


@pytest.fixture(scope="module")
def stored(clickhouse_server: str) -> Iterator[Stored]:
    """Eighteen days of rows, in a few inserts -> them, and when they begin."""
    begin = start_of(day(20))
    rows = flows_of(random.Random(5), begin, 18, 3_000)
    with tables_of(clickhouse_server) as tables:
        for first in range(0, len(rows), 1_000):
            tables.insert("flows", rows[first : first + 1_000])
        yield tables, rows, begin


def asked(stored: Tables, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(str(value) if hasattr(value, "exploded") else value for value in row) for row in stored.rows(sql)]


@pytest.mark.parametrize(("first", "hours"), [(9 * 24 + 5, 3), (8 * 24, 24), (7 * 24 + 13, 40), (0, 18 * 24)])
def test_hosts_and_peers_by_whole_hours(stored: Stored, first: int, hours: int) -> None:
    tables, rows, begin = stored
    since, until = begin + first * HOUR, begin + (first + hours) * HOUR
    chosen, ranged = inside(rows, since, until), span(since, until)
    sides = [(address, sent, got) for row in chosen for address, sent, got in ends(row)]
    hosts = {a: (sum(s for b, s, _ in sides if a == b), sum(g for b, _, g in sides if a == b)) for a, _, _ in sides}
    found = asked(tables, f"SELECT addr, bytes_sent, bytes_got FROM DB.top_talkers({ranged})")
    assert {a: (s, g) for a, s, g in found} == hosts

    one = SPREAD[0]
    found = asked(
        tables, f"SELECT peer, sum(bytes_sent), sum(records) FROM DB.conversations({ranged}, addr = '{one}') GROUP BY 1"
    )
    of_one = [row for row in chosen if one in (row["src_addr"], row["dst_addr"])]
    peers = grouped(of_one, lambda row: row["dst_addr"] if row["src_addr"] == one else row["src_addr"])
    of_peers = {
        peer: (sum(s for row in each for a, s, _ in ends(row) if a == one), len(each)) for peer, each in peers.items()
    }
    assert {peer: (s, n) for peer, s, n in found} == of_peers

    for prefix, members in ((128, {one}), (124, set(ADDRESSES[:15])), (0, set(ADDRESSES))):
        wanted = (
            f"SELECT sum(bytes_sent), sum(bytes_got) FROM DB.throughput({ranged}, addr = '{one}', prefix = {prefix})"
        )
        of_them = [(sent, got) for address, sent, got in sides if address in members]
        assert asked(tables, wanted) == [(sum(sent for sent, _ in of_them), sum(got for _, got in of_them))]


@pytest.mark.parametrize(("first", "hours"), [(9 * 24 + 5, 3), (8 * 24 + 1, 47), (7 * 24, 7 * 24), (7 * 24, 11 * 24)])
def test_a_range_is_compared_with_all_of_the_one_a_week_before(stored: Stored, first: int, hours: int) -> None:
    """Also where the two have days in common."""
    tables, rows, begin = stored
    since, until = begin + first * HOUR, begin + (first + hours) * HOUR

    def by_service(chosen: list[Row]) -> dict[Any, tuple[int, int]]:
        services = grouped(chosen, lambda row: (row["protocol"], row["dst_port"]))
        return {service: (size(each), len(each)) for service, each in services.items()}

    now, before = (by_service(inside(rows, since - ago, until - ago)) for ago in (0, 7 * DAY))
    found = asked(tables, f"SELECT * FROM DB.week_before({span(since, until)})")
    assert {row[:2]: (row[2], row[4]) for row in found if row[4]} == now
    assert {row[:2]: (row[3], row[5]) for row in found if row[5]} == before


def test_who_answered_in_any_row_has_answered(tables: Tables) -> None:
    """A window with a question alone is a row of its own, until ClickHouse merges it."""
    since = start_of(day(2))
    scan = [
        {"window_begin": since + 10 * window, "dst_addr": f"2001:db8::{peer:x}", "packets": 1, "packets_rev": answered}
        for window, answered in ((0, 0), (1, 1))
        for peer in range(25)
        if not answered or peer < 20
    ]
    for row in (scan[:25], scan[25:]):
        tables.insert("flows", row)
    for _ in range(2):
        assert asked(tables, f"SELECT peers, ports, unanswered FROM DB.scans({span(since, since + HOUR)})") == [
            (25, 1, 5)
        ]
        tables.command("OPTIMIZE TABLE DB.flows_1h FINAL")


def test_windows_that_were_made_anew_last_as_long_as_they_are(stored: Stored) -> None:
    tables, rows, begin = stored
    since, until = begin + 3 * DAY, begin + 5 * DAY
    key = ("node", "protocol", "src_addr", "src_port", "dst_addr", "dst_port")
    flows = grouped(inside(rows, since, until), lambda row: tuple(row[name] for name in key))
    lasting = {
        flow: sum(length for _, length in {(row["window_begin"], row["window_seconds"]) for row in each})
        for flow, each in flows.items()
    }
    assert any({row["window_seconds"] for row in each} == {1, 10} for each in flows.values())
    found = asked(tables, f"SELECT {', '.join(key)}, seconds FROM DB.longest_flows({span(since, until)})")
    assert {row[:-1]: row[-1] for row in found} == lasting


@pytest.mark.parametrize("lengths", [(1, 10), (60,), (300,), (90,)])
def test_bits_per_second_are_of_the_time_that_a_window_lasts(tables: Tables, lengths: tuple[int, ...]) -> None:
    begin = start_of(day(2)) // 900 * 900
    rows = flows_of(random.Random(1), begin, 1, 300, lengths=lengths)
    tables.insert("flows", rows)
    one, period = SPREAD[0], max(60, *lengths)
    own = [row for row in inside(rows, begin, begin + DAY) if one in (row["src_addr"], row["dst_addr"])]
    minutes = grouped(own, lambda row: row["window_begin"] // 60)
    sent = [sum(s for row in each for a, s, _ in ends(row) if a == one) * 8 / period for each in minutes.values()]
    ((count, rates),) = asked(
        tables, f"SELECT minutes, bits_per_second_sent FROM DB.percentiles({span(begin, begin + DAY)}, addr = '{one}')"
    )
    assert count == len(minutes) > 10
    assert rates == pytest.approx(np.quantile(sent, [0.5, 0.9, 0.95, 0.99]))
    assert asked(tables, f"SELECT * FROM DB.percentiles({span(begin, begin + DAY)}, addr = '::9')") == []


def test_the_first_seen_of_a_pair_is_of_all_its_rows(stored: Stored) -> None:
    tables, rows, begin = stored
    since = begin + 9 * DAY + 5 * HOUR
    primary = [row for row in rows if row["primary"]]
    pairs = grouped(primary, lambda row: (row["src_addr"], row["dst_addr"], row["protocol"], row["dst_port"]))

    def first(each: list[Row]) -> int:
        return min(int(row["window_begin"] + row["first_offset_us"] // 1_000_000) for row in each)

    new = {pair: size(each) for pair, each in pairs.items() if first(each) >= since}
    assert len(new) > 5
    found = asked(tables, f"SELECT * FROM DB.first_seen_since(since = '{text(since)}')")
    assert {row[:4]: row[6] for row in found} == new
    one = SPREAD[1]
    found = asked(tables, f"SELECT * FROM DB.first_seen_of(addr = '{one}')")
    assert {row[:4]: (int(row[4].timestamp()), row[6]) for row in found} == {
        pair: (first(each), size(each)) for pair, each in pairs.items() if one in pair[:2]
    }
