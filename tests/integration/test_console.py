"""The reading commands on a real ClickHouse, and the schema registry routes with clients that are not ours.

Needs the embedded ClickHouse (chdb); no root, no Kafka.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from cli.main import main
from common import settings as settings_module
from console.audit import settle
from console.audit import sql as audit_sql
from schemas.avro.codec import Codec
from schemas.clickhouse.ddl import migrations
from schemas.topics import TopicNames
from tests.fix_local import environment, free_port

pytestmark = pytest.mark.clickhouse

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]
_databases = iter(range(1_000_000))


class Tables:
    """Our tables in a database of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = f"console_{os.getpid()}_{next(_databases)}"
        place = urlsplit(url)
        self._client = clickhouse_connect.get_client(
            host=place.hostname, port=place.port, autogenerate_session_id=False
        )
        self._client.command(f"CREATE DATABASE {self.database}")
        settings = settings_module.load(flags={"clickhouse.url": url, "clickhouse.database": self.database})
        for migration in migrations(settings.clickhouse):
            for statement in migration.statements:
                self._client.command(statement)

    def close(self) -> None:
        self._client.command(f"DROP DATABASE {self.database}")
        self._client.close()

    def flow(self, **values: Any) -> None:
        """One row of flows."""
        row = {
            "window_seconds": 10,
            "node": "n1",
            "interface": "eth0",
            "direction": "ingress",
            "protocol": 6,
            "src_addr": "::ffff:10.0.0.1",
            "dst_addr": "::ffff:10.0.0.2",
            "src_port": 40_000,
            "dst_port": 443,
            **values,
        }
        self._client.insert(f"{self.database}.flows", [list(row.values())], column_names=list(row))

    def ledger(self, *, end: float, windows: dict[int, tuple[int, int]], epoch: int = 1, **values: Any) -> None:
        """A ledger row that adds up, unless `values` say otherwise."""
        packets, size = (sum(pair[side] for pair in windows.values()) for side in (0, 1))
        row = {
            "node": "n1",
            "ring_id": 1,
            "epoch": epoch,
            "interface": "eth0",
            "direction": "ingress",
            "seen_packets": packets,
            "seen_bytes": size,
            "emitted_packets": packets,
            "emitted_bytes": size,
            "window_seconds": 10,
            "consumed_packets": [pair[0] for pair in windows.values()],
            "consumed_bytes": [pair[1] for pair in windows.values()],
            **values,
        }
        names = ", ".join((*row, "start_time", "end_time", "consumed_windows"))
        texts = ", ".join(repr(value) for value in row.values())
        self._client.command(
            f"INSERT INTO {self.database}.ledger ({names}) VALUES"
            f" ({texts}, {end - 0.5:.6f}, {end:.6f}, {list(windows)})"
        )

    def insert_raw(self, table: str, data: bytes, form: str, **settings: Any) -> None:
        """The bytes of a format."""
        self._client.raw_insert(f"{self.database}.{table}", ["node", "active_flows"], data, settings, form)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query; `DB` stands for the database."""
        return [tuple(row) for row in self._client.query(sql.replace("DB", self.database)).result_rows]

    def command(self, sql: str) -> None:
        """Any statement; `DB` stands for the database."""
        self._client.command(sql.replace("DB", self.database))


@pytest.fixture
def tables(clickhouse_server: str) -> Iterator[Tables]:
    opened = Tables(clickhouse_server)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def run(tables: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in [name for name in os.environ if name.startswith("AYAFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settle, "PATIENCE_SECONDS", 0.6)  # one more look is enough here
    monkeypatch.setenv("AYAFLOW_CLICKHOUSE_URL", tables.url)
    monkeypatch.setenv("AYAFLOW_CLICKHOUSE_DATABASE", tables.database)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def window() -> int:
    """The start of a window that ended some minutes ago, not the first of its minute."""
    return int(time.time()) // 60 * 60 - 590


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- flows -----------------------------------------------------------------------------------------------------


def test_revisions_of_a_flow_are_one_line_with_their_sum(run: Run, tables: Tables, window: int) -> None:
    tables.flow(
        window_start=window,
        packets=10,
        bytes=1000,
        packets_rev=5,
        bytes_rev=500,
        tcp_flags=2,
        first_offset_us=100,
        last_offset_us=200,
        min_ttl=60,
        max_ttl=61,
        dscp=46,
        min_packet_bytes=60,
        max_packet_bytes=200,
        min_ttl_rev=255,
        max_ttl_rev=255,
        dscp_rev=8,
    )
    tables.flow(
        window_start=window,
        packets=1,
        bytes=60,
        packets_rev=2,
        bytes_rev=120,
        tcp_flags=16,
        revision=1,
        first_offset_us=50,
        last_offset_us=9_000_000,
        min_ttl=59,
        max_ttl=59,
        dscp=1,
        min_packet_bytes=60,
        max_packet_bytes=60,
    )
    code, out, err = run("flows", "--since", "1h", "--format", "json")
    assert (code, err) == (0, "")
    (flow,) = lines(out)
    start = time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(window))
    assert flow == {
        "window_start": f"{start}10Z",
        "window_seconds": 10,
        "node": "n1",
        "interface": "eth0",
        "direction": "ingress",
        "primary": True,
        "protocol": 6,
        "src_addr": "10.0.0.1",
        "dst_addr": "10.0.0.2",
        "src_port": 40_000,
        "dst_port": 443,
        "vlan_id": 0,
        "icmp_type": 0,
        "icmp_code": 0,
        "tunnel_type": "none",
        "tunnel_id": 0,
        "outer_src_addr": "",
        "outer_dst_addr": "",
        "packets": 11,
        "bytes": 1060,
        "packets_rev": 7,
        "bytes_rev": 620,
        "tcp_flags": 18,
        "tcp_flags_rev": 0,
        "min_ttl": 59,
        "max_ttl": 61,
        "dscp": 1,
        "min_packet_bytes": 60,
        "max_packet_bytes": 200,
        "min_ttl_rev": 0,
        "max_ttl_rev": 255,
        "dscp_rev": 0,
        "min_packet_bytes_rev": 0,
        "max_packet_bytes_rev": 0,
        "first_seen": f"{start}10.000050Z",
        "last_seen": f"{start}19.000000Z",
        "community_id": flow["community_id"],
    }
    code, out, _ = run("query", "SELECT DISTINCT community_id FROM flows", "--format", "csv")
    assert out.splitlines() == ['"community_id"', f'"{flow["community_id"]}"']


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        ("dst_port = 443", [443]),
        ("port in (53, 40000)", [53, 443]),
        ("port != 443", [53, 80]),
        ("addr in 10.0.0.0/8", [53, 443]),
        ("addr = 2001:db8::/32", [80]),
        ("src_addr = 10.0.0.1 and protocol = tcp", [443]),
        ("protocol in (udp, icmp)", [53]),
        ("direction = egress", [53]),
        ("direction != egress and interface in (eth0, eth1)", [80, 443]),
        ("bytes >= 1k", [53, 80]),
        ("bytes < 1k and node = n1", [443]),
        ("packets = 8", [80]),
        ("tcp_flags = 3", [80]),
        ('node = "it\'s \\ a {n} node"', []),
        ("community_id = nothing", []),
    ],
)
def test_filters_choose_flows(run: Run, tables: Tables, window: int, words: str, ports: list[int]) -> None:
    tables.flow(window_start=window, dst_port=443, packets=1, bytes=999)
    tables.flow(window_start=window, dst_port=53, src_port=5353, protocol=17, direction="egress", packets=2, bytes=1000)
    for flags in (1, 2):  # each revision alone has less than the filter asks for
        tables.flow(
            window_start=window,
            dst_port=80,
            src_port=1,
            src_addr="2001:db8::1",
            dst_addr="2001:db8::2",
            packets=4,
            bytes=600,
            tcp_flags=flags,
            revision=flags - 1,
        )
    code, out, _ = run("flows", words, "--since", "1h", "--format", "json")
    assert code == 0
    assert sorted(flow["dst_port"] for flow in lines(out)) == ports


def test_order_limit_and_time_range(run: Run, tables: Tables, window: int) -> None:
    for number, (packets, size) in enumerate([(5, 100), (1, 900), (9, 300)]):
        tables.flow(window_start=window + 10 * number, dst_port=number, packets=packets, bytes=size)

    def ports(*words: str) -> list[int]:
        _, out, _ = run("flows", "--format", "json", *words)
        return [flow["dst_port"] for flow in lines(out)]

    assert ports("--since", "1h") == [2, 1, 0]
    assert ports("--since", "1h", "--sort", "bytes") == [1, 2, 0]
    assert ports("--since", "1h", "--sort", "packets", "--limit", "2") == [2, 0]

    def moment(second: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(window + second))

    assert ports("--since", moment(10), "--until", moment(20)) == [1]
    assert ports("--since", moment(9), "--until", moment(11)) == [1, 0]  # windows that overlap the range
    code, out, err = run("flows", "--since", moment(-20), "--until", moment(-10))
    assert code == 0
    assert len(out.splitlines()) == 1  # the header
    assert err.startswith("no flows from ")


def test_csv_and_table_show_the_same_flow(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_start=window, packets=10, bytes=123_456, packets_rev=5, bytes_rev=500, tcp_flags=18)
    _, out, _ = run("flows", "--since", "1h", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["src_addr"], row["bytes"], row["community_id"][:2]) == ("10.0.0.1", "123456", "1:")
    _, out, _ = run("flows", "--since", "1h")
    assert out.splitlines()[1].split()[1:] == [
        "eth0",
        "in",
        "tcp",
        "10.0.0.1:40000",
        "10.0.0.2:443",
        "10",
        "123",
        "kB",
        "5",
        "500",
        "B",
        "SYN",
        "ACK",
    ]


# --- query -----------------------------------------------------------------------------------------------------


def test_query_answers_in_each_format(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_start=window, packets=3, bytes=2**63)
    sql = "SELECT src_addr, sum(bytes) AS b, [dst_addr] AS d, NULL AS n, 'a,\"b' AS s FROM flows GROUP BY ALL;"
    assert lines(run("query", sql, "--format", "json")[1]) == [
        {"src_addr": "10.0.0.1", "b": 2**63, "d": ["10.0.0.2"], "n": None, "s": 'a,"b'}
    ]
    assert list(csv.reader(io.StringIO(run("query", sql, "--format", "csv")[1]))) == [
        ["src_addr", "b", "d", "n", "s"],
        ["10.0.0.1", str(2**63), '["10.0.0.2"]', "", 'a,"b'],
    ]
    assert run("query", sql)[1].splitlines()[1].split() == ["10.0.0.1", str(2**63), '["10.0.0.2"]', 'a,"b']


def test_queries_without_addresses_come_out_the_same(run: Run, tables: Tables) -> None:
    sql = (
        "SELECT toDateTime(0, 'UTC') AS t, toDateTime64(1.5, 3, 'UTC') AS u, toUInt64(18446744073709551615) AS m,"
        " 0.5 AS f, 'x\"\\r\\n,y' AS s, CAST('ingress' AS Enum8('ingress' = 0)) AS e,"
        " CAST(NULL AS Nullable(Int8)) AS n FROM numbers(2)"
    )
    expected = {
        "t": "1970-01-01T00:00:00Z",
        "u": "1970-01-01T00:00:01.500Z",
        "m": 2**64 - 1,
        "f": 0.5,
        "s": 'x"\r\n,y',
        "e": "ingress",
        "n": None,
    }
    assert lines(run("query", sql, "--format", "json")[1]) == [expected, expected]
    out = run("query", sql, "--format", "csv")[1]
    header, *rows = csv.reader(io.StringIO(out, newline=""))
    assert header == list(expected)
    assert rows == [["" if value is None else str(value) for value in expected.values()]] * 2


def test_a_format_of_the_querys_own_wins(run: Run, tables: Tables) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "query", "SELECT 1 AS a, 'x' AS b FORMAT TabSeparatedWithNames"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\tb\n1\tx\n", "")


@pytest.mark.parametrize(
    ("sql", "code", "hint"),
    [
        ("DROP TABLE flows", 2, "only reads"),
        ("INSERT INTO flows (node) VALUES ('x')", 2, "only reads"),
        ("ALTER TABLE flows DELETE WHERE 1", 2, "only reads"),
        ("SELEC 1", 2, "Code: 62"),
        ("SELECT 1; SELECT 2", 2, "Code: 62"),
        ("SELECT * FROM flowz", 2, "Maybe you meant"),
        ("SELECT nope FROM flows", 2, "Code: 47"),
        ("SELECT throwIf(number = 3) FROM numbers(10)", 2, "Code: 395"),
    ],
)
def test_a_query_that_cannot_be_answered_is_one_line(
    run: Run, tables: Tables, window: int, sql: str, code: int, hint: str
) -> None:
    tables.flow(window_start=window, packets=1)
    for form in ("table", "json", "csv"):
        found, _, err = run("query", sql, "--format", form)
        assert found == code
        assert err.startswith("ayaflow: error: ")
        assert err.count("\n") == 1
        assert hint in err
        assert "version" not in err
    assert run("query", "SELECT count() FROM flows", "--format", "json")[1] == '{"count()":1}\n'


@pytest.mark.parametrize("column", ["toIPv6('::1')", "'x'"])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_error_in_the_middle_of_a_result_is_told_after_the_rows_before_it(
    run: Run, tables: Tables, column: str, form: str
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "cli.main",
            "query",
            f"SELECT number, {column} AS a, throwIf(number = 300000) AS t FROM numbers(600000)",
            "--format",
            form,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ayaflow: error: ClickHouse: Code: 395.")
    assert done.stderr.count("\n") == 1
    rows = done.stdout.splitlines()
    assert 60_000 < len(rows) <= 300_001
    assert "exception" not in done.stdout
    assert "Code" not in done.stdout


def test_without_our_tables_it_says_who_makes_them(run: Run, tables: Tables) -> None:
    for words in (("flows",), ("audit",), ("query", "SELECT 1 FROM ledger")):
        for database in ("default", "nobody_made_this"):
            code, _, err = run(*words, "--set", f"clickhouse.database={database}")
            assert code == 4
            assert "ayaflow streams" in err


@pytest.mark.parametrize(("column", "first"), [("toIPv6('::ffff:10.0.0.1')", "10.0.0.1"), ("'x'", "x")])
def test_a_large_result_is_streamed(run: Run, tables: Tables, column: str, first: str) -> None:
    """Rows arrive before the query is over (it would be 300 M rows), and a reader that has enough ends it."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "query",
            f"SELECT number, {column} AS a FROM numbers(300000000)",
            "--format",
            "json",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert json.loads(process.stdout.readline()) == {"number": 0, "a": first}
            process.stdout.close()
            assert process.wait(30) == 141
            assert process.stderr.read() == b""
        finally:
            process.kill()


# --- audit -----------------------------------------------------------------------------------------------------


def audit(run: Run, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run("audit", "--format", "json", *words)
    assert err == ""
    report = json.loads(out)
    assert (code == 0) is report["exact"]
    return code, report


def test_an_empty_store_has_nothing_to_audit(run: Run, tables: Tables) -> None:
    code, out, _ = run("audit")
    assert code == 1
    assert "nothing to audit yet" in out


def stored_traffic(tables: Tables, window: int) -> None:
    """Both directions of an interface over two windows, with an epoch that lies across, a late packet, and drops."""
    tables.flow(window_start=window, packets=10, bytes=1000, packets_rev=5, bytes_rev=500)
    tables.flow(window_start=window, packets=1, bytes=60, revision=1)
    tables.flow(window_start=window + 10, direction="egress", packets=4, bytes=400, packets_rev=7, bytes_rev=700)
    tables.ledger(end=window + 9.9, windows={window: (8, 860)}, epoch=1)
    tables.ledger(
        end=window + 10.4,
        windows={window: (3, 200), window + 10: (7, 700)},
        epoch=2,
        seen_packets=16,
        seen_bytes=1500,
        non_ip_packets=3,
        non_ip_bytes=180,
        malformed_packets=1,
        malformed_bytes=20,
        ring_full_packets=2,
        ring_full_bytes=400,
    )
    tables.ledger(end=window + 9.9, windows={window: (5, 500)}, epoch=1, direction="egress")
    tables.ledger(end=window + 10.4, windows={window + 10: (4, 400)}, epoch=2, direction="egress")


def test_equal_totals_are_exact_by_direction(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    code, report = audit(run)
    assert (code, report["settled"], report["rollups"]) == (0, True, [])
    ingress, egress = report["rows"]
    assert (ingress["direction"], egress["direction"]) == ("ingress", "egress")
    names = ("seen", "non_ip", "malformed", "ring_full", "stored")
    assert [ingress[f"{name}_packets"] for name in names] == [24, 3, 1, 2, 18]
    assert (ingress["stored_bytes"], egress["stored_packets"], egress["stored_bytes"]) == (1760, 9, 900)
    code, out, _ = run("audit")
    assert code == 0
    assert out.splitlines()[1].split() == ["n1", "eth0", "in", "24", "3", "1", "2", "0", "18", "0", "0", "0"]
    assert out.splitlines()[-1].startswith("Exact: 33 packets")


def test_ledger_rows_that_were_written_twice_count_once(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 9.9, windows={window: (8, 860)}, epoch=1)
    assert audit(run)[0] == 0


def test_a_short_range_of_the_ledger_is_read_like_a_long_one(tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.ledger(end=window + 10.2, windows={window: (9, 900)}, epoch=1)  # another end of an epoch that was there
    for since, until, expected in (
        (0, 10, (1, 5)),
        (0, 11, (4, 9 + 16 + 5 + 4)),
        (10.3, 11, (2, 16 + 4)),
        (20, 30, (0, 0)),
    ):
        times = (f"toDateTime64({window + seconds}, 6, 'UTC')" for seconds in (since, until))
        where = "end_time > {} AND end_time <= {}".format(*times)
        for span in (3_600, 30 * 86_400):
            rows = audit_sql.ledger(where, span).replace(" ledger ", " DB.ledger ")
            assert tables.rows(f"SELECT count(), sum(seen_packets) {rows}") == [expected], (span, where)


def test_another_node_is_left_out_when_one_is_named(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)
    tables.flow(window_start=window, node="n2", packets=1, bytes=1)
    code, report = audit(run, "--node", "n1")
    assert code == 0
    assert {row["node"] for row in report["rows"]} == {"n1"}
    assert audit(run)[0] == 1


def test_a_range_compares_the_windows_at_its_edges_as_a_whole(run: Run, tables: Tables, window: int) -> None:
    stored_traffic(tables, window)

    def moment(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(window + seconds))

    code, report = audit(run, "--since", moment(10), "--until", moment(11))  # epoch 2 alone
    assert code == 0
    assert [row["seen_packets"] for row in report["rows"]] == [16, 4]
    assert [row["stored_packets"] for row in report["rows"]] == [10, 4]
    assert audit(run, "--since", moment(60), "--until", moment(70))[1]["empty"] is True


LOSE_A_REVISION = "ALTER TABLE DB.flows DELETE WHERE revision = 1"
STORE_A_ROW_MORE = """
    INSERT INTO DB.flows (window_start, window_seconds, node, interface, direction, packets, bytes)
    SELECT window_start, 10, 'n1', 'eth0', 'ingress', 2, 90 FROM DB.flows WHERE revision = 1"""
MISCOUNT_A_PACKET = """
    ALTER TABLE DB.ledger UPDATE seen_packets = seen_packets + 1 WHERE direction = 'ingress' AND epoch = 1"""
CONSUME_TWICE = """
    ALTER TABLE DB.ledger UPDATE emitted_packets = emitted_packets - 1, non_ip_packets = non_ip_packets + 1
    WHERE direction = 'ingress' AND epoch = 2"""
LOSE_BYTES = """
    ALTER TABLE DB.ledger UPDATE emitted_bytes = emitted_bytes + 5, seen_bytes = seen_bytes + 5
    WHERE direction = 'ingress' AND epoch = 2"""


@pytest.mark.parametrize(
    ("change", "stage", "missing", "surplus"),
    [
        (LOSE_A_REVISION, "store", (1, 60), (0, 0)),
        (STORE_A_ROW_MORE, "store", (0, 0), (2, 90)),
        (MISCOUNT_A_PACKET, "kernel", (1, 0), (0, 0)),
        (CONSUME_TWICE, "kafka", (0, 0), (1, 0)),
        (LOSE_BYTES, "kafka", (0, 5), (0, 0)),
    ],
)
def test_each_kind_of_difference_is_found_at_its_stage(
    run: Run, tables: Tables, window: int, change: str, stage: str, missing: tuple[int, int], surplus: tuple[int, int]
) -> None:
    stored_traffic(tables, window)
    tables.flow(window_start=window + 60, packets=1, bytes=1)  # proof that all before is settled
    tables.ledger(end=window + 60.5, windows={window + 60: (1, 1)}, epoch=3)
    tables.command(f"{change} SETTINGS mutations_sync = 1" if "ALTER" in change else change)
    code, report = audit(run, "--node", "n1")
    assert code == 1
    found = {
        name: difference
        for name, difference in report["rows"][0]["differences"].items()
        if any(count for side in difference.values() for count in side.values())
    }
    assert found == {
        stage: {
            "missing": dict(zip(("packets", "bytes"), missing, strict=True)),
            "surplus": dict(zip(("packets", "bytes"), surplus, strict=True)),
        }
    }
    code, out, _ = run("audit")
    assert code == 1
    assert "Not exact:" in out


@pytest.mark.parametrize("table", ["flows_1m", "flows_1h"])
def test_a_rollup_that_lost_rows_is_found(run: Run, tables: Tables, window: int, table: str) -> None:
    stored_traffic(tables, window)
    tables.flow(window_start=window + 20, packets=2, bytes=200)  # proves that the windows before are stored
    tables.ledger(end=window + 21, windows={window + 20: (2, 200)}, epoch=3)
    assert audit(run)[0] == 0
    tables.command(f"ALTER TABLE DB.{table} DELETE WHERE direction = 'egress' SETTINGS mutations_sync = 1")
    code, report = audit(run)
    assert code == 1
    (rollup,) = report["rollups"]
    assert (rollup["table"], rollup["periods"], rollup["difference"]) == (table, 1, {"packets": 11, "bytes": 1100})


@pytest.mark.parametrize("table", ["flows_1m", "flows_1h"])
def test_what_a_rollup_lacks_of_the_last_insert_is_in_flight(run: Run, tables: Tables, table: str) -> None:
    """As when ClickHouse is killed between flows and its rollups."""
    last = int(time.time()) // 10 * 10 - 20
    stored_traffic(tables, last - 10)
    tables.command(f"ALTER TABLE DB.{table} DELETE WHERE direction = 'egress' SETTINGS mutations_sync = 1")
    code, report = audit(run)
    assert (code, report["settled"], report["rollups"]) == (0, False, [])
    (rollup,) = report["rollups_in_flight"]
    assert (rollup["table"], rollup["difference"], rollup["overdue"]) == (table, {"packets": 11, "bytes": 1100}, False)
    assert "The rollups still lack 11 packets (1,100 bytes)." in report["message"]
    # more than the last insert had
    tables.command(f"ALTER TABLE DB.{table} DELETE WHERE 1 SETTINGS mutations_sync = 1")
    code, report = audit(run)
    assert code == 1
    assert report["rollups"]


def test_a_window_that_is_still_open_is_in_flight(run: Run, tables: Tables) -> None:
    stored_traffic(tables, int(time.time()) // 10 * 10 - 40)
    current = int(time.time()) // 10 * 10
    tables.ledger(end=current + 0.5, windows={current: (6, 600)}, epoch=9)
    code, report = audit(run)
    assert (code, report["settled"]) == (0, False)
    assert (report["rows"][0]["in_flight_packets"], report["rows"][0]["stored_packets"]) == (6, 18)
    code, out, _ = run("audit", "--wait", "0.4")
    assert code == 1  # asked to wait, and still in flight
    assert "6 packets (600 bytes) in flight" in out
    tables.flow(window_start=current, packets=6, bytes=600)
    assert run("audit", "--wait", "5")[0] == 0


# --- console ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def console_url() -> Iterator[str]:
    """A console process on a free port; ends with 0 on SIGTERM."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "console", "--set", f"console.listen=127.0.0.1:{port}"],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert "serving" in process.stderr.readline()
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert "stopped" in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


LIVE = {
    "node": "n1",
    "interval_ms": 1000,
    "active_flows": 3,
    "open_windows": 1,
    "lag_messages": 0,
    "interfaces": [
        {
            "interface": "eth0",
            "direction": "egress",
            "packets": 5,
            "bytes": 500,
            "non_ip_packets": 0,
            "malformed_packets": 0,
            "ring_full_packets": 0,
            "coalesced_packets": 0,
        }
    ],
    "top": [],
}


def test_confluents_deserializer_reads_our_messages(console_url: str) -> None:
    topics = TopicNames.of("ayaflow.")
    message = Codec().encode_live_stats({**LIVE, "time": 1_800_000_000_000_000})
    with SchemaRegistryClient({"url": f"{console_url}/schema-registry"}) as registry:
        found = AvroDeserializer(registry)(message, SerializationContext(topics.live, MessageField.VALUE))
    assert found is not None
    assert {name: found[name] for name in ("node", "active_flows", "interfaces")} == {
        name: LIVE[name] for name in ("node", "active_flows", "interfaces")
    }


def test_confluents_registry_client_finds_what_there_is(console_url: str) -> None:
    with SchemaRegistryClient({"url": f"{console_url}/schema-registry"}) as registry:
        assert "ayaflow.flows-value" in registry.get_subjects()
        latest = registry.get_latest_version("ayaflow.flows-value")
        assert latest.schema_id is not None
        assert registry.get_schema(latest.schema_id).schema_str == latest.schema.schema_str
        assert registry.get_versions("ayaflow.flows-value") == [1, latest.version]
        with pytest.raises(SchemaRegistryError) as caught:
            registry.get_schema(999)
        assert caught.value.error_code == 40403
        with pytest.raises(SchemaRegistryError) as caught:
            registry.register_schema("ayaflow.flows-value", latest.schema)
        assert (caught.value.http_status_code, caught.value.error_code) == (405, 42205)


def test_clickhouse_reads_our_messages_through_the_registry(console_url: str, tables: Tables) -> None:
    tables.command("CREATE TABLE DB.live (node String, active_flows Int64) ENGINE = MergeTree ORDER BY node")
    tables.insert_raw(
        "live",
        Codec().encode_live_stats({**LIVE, "time": 1_800_000_000_000_000}),
        "AvroConfluent",
        format_avro_schema_registry_url=f"{console_url}/schema-registry",
    )
    assert tables.rows("SELECT node, active_flows FROM DB.live") == [("n1", 3)]


def test_health_over_http_is_503_while_a_stage_is_away(console_url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{console_url}/api/health", timeout=10)
    with caught.value as answer:
        assert answer.code == 503
        assert [stage["stage"] for stage in json.load(answer)["stages"]][-1] == "console"
