"""`ayaflow flows` on a real ClickHouse (chdb): sums, filters, order, formats."""

import csv
import io
import json
import time
from datetime import datetime

import pytest

from common.times import iso
from tests.integration.fix_tables import Run, Tables, lines

pytestmark = pytest.mark.clickhouse


def test_revisions_of_a_flow_are_one_line_with_their_sum(run: Run, tables: Tables, window: int) -> None:
    tables.flow(
        window_begin=window,
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
        domain="www.example.org",
        domain_source="sni",
        domain_count=1,
        ja4="t13d1516h2_8daaf6152771_e5627efa2ab1",
    )
    tables.flow(
        window_begin=window,
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
        domain="cdn.example",
        domain_source="dns",
        domain_count=4,
        alpn="h2",
    )
    code, out, err = run("flows", "--since", "1h", "--format", "json")
    assert code == 0
    assert json.loads(err)["completeness"]["seen_packets"] == 0  # there is no ledger
    (flow,) = lines(out)
    start = time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(window))
    assert flow == {
        "window_begin": f"{start}10Z",
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
        "domain": "www.example.org",
        "domain_source": "sni",
        "domain_count": 1,
        "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
        "alpn": "h2",
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
    tables.flow(window_begin=window, dst_port=443, packets=1, bytes=999)
    tables.flow(window_begin=window, dst_port=53, src_port=5353, protocol=17, direction="egress", packets=2, bytes=1000)
    for flags in (1, 2):  # each revision alone has less than the filter asks for
        tables.flow(
            window_begin=window,
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
        tables.flow(window_begin=window + 10 * number, dst_port=number, packets=packets, bytes=size)

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
    assert len(out.splitlines()) == 2  # the header, and how complete it is
    assert err.startswith("no flows from ")


def test_csv_and_table_show_the_same_flow(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_begin=window, packets=10, bytes=123_456, packets_rev=5, bytes_rev=500, tcp_flags=18)
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


@pytest.mark.usefixtures("berlin")
def test_times_of_tables_and_sentences_can_be_those_of_this_machine(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_begin=window)
    utc, here = iso(window), datetime.fromtimestamp(window).astimezone().isoformat()
    assert utc in run("flows", "--since", "1h")[1]
    shown = run("flows", "--since", "1h", "--local")[1]
    assert here in shown
    assert utc not in shown
    assert utc in run("flows", "--since", "1h", "--local", "--format", "json")[1]
    wall = here[:16]  # without an offset
    assert here in run("flows", "--since", wall, "--local")[1]
    _, _, said = run("flows", "--since", wall, "--until", here, "--local", "node = nobody")
    assert said == f"no flows from {here[:16]}:00{here[19:]} to {here} match\n"
    assert f"From {here}" in run("audit", "--since", here, "--local")[1]
    assert f"From {utc}" in run("audit", "--since", here)[1]


def test_a_name_is_no_formula_in_csv_and_itself_in_json(run: Run, tables: Tables, window: int) -> None:
    tables.flow(window_begin=window, packets=1, node="@n", interface="=cmd|' /C calc'!A0")
    for words in (
        ("flows", "--since", "1h"),
        ("query", "SELECT * FROM flows"),
        ("query", "SELECT node, interface FROM flows"),
    ):
        (row,) = csv.DictReader(io.StringIO(run(*words, "--format", "csv")[1], newline=""))
        assert (row["node"], row["interface"]) == ("'@n", "'=cmd|' /C calc'!A0")
        (flow,) = lines(run(*words, "--format", "json")[1])
        assert (flow["node"], flow["interface"]) == ("@n", "=cmd|' /C calc'!A0")
