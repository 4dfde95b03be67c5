"""The API over a real ClickHouse with flows that are known here, too."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from common import settings as settings_module
from common.settings import Settings
from console import app as http
from console.query import flow_sql
from console.store.client import Store
from schemas.fields import DOMAIN_RANKS, DOMAIN_SOURCES, NO_ICMP_TYPE
from tests.integration.fix_clickhouse import our_tables

NOW = int(time.time()) // 3600 * 3600 - 1800  # of the stored windows; in the middle of an hour
DATABASE = "ayaflow_api_tests"
ROWS = 400
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.1.7.9", "192.0.2.55", "2001:db8::1", "2001:db8:1::2", "::1")
DOMAINS = ("", "example.org", "www.example.org", "badexample.org", "xn--bcher-kva.example")
RANKS = dict(zip(DOMAIN_SOURCES, DOMAIN_RANKS, strict=True))
NAMELESS = {"domain": "", "domain_source": "", "domain_count": 0, "ja4": ""}
NETWORKS = ("10.0.0.0/8", "::/0", "0.0.0.0/0", "2001:db8::/32", "10.0.0.0-10.0.0.1")
COLUMNS = (
    "window_begin",
    "window_seconds",
    "node",
    "interface",
    "direction",
    "protocol",
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "vlan_id",
    "icmp_type",
    "icmp_code",
    "packets",
    "bytes",
    "packets_rev",
    "bytes_rev",
    "tcp_flags",
    "tcp_flags_rev",
    "tunnel_type",
    "tunnel_id",
    "outer_src_addr",
    "outer_dst_addr",
    "domain",
    "domain_source",
    "domain_count",
    "ja4",
    "alpn",
    "revision",
    "kafka_partition",
    "topic_id",
)


def stored_rows() -> list[dict[str, Any]]:
    """Rows of the flows table over three hours.

    Some are further revisions of others, or their like from another partition or another place in Kafka.
    """
    rng = random.Random(7)
    rows: list[dict[str, Any]] = []
    for number in range(ROWS):
        if number % 10 == 9:
            row = {**rows[-1], **rng.choice([{"revision": 1}, {"kafka_partition": 1}, {"topic_id": 900}])}
            if rng.random() < 0.5:
                rng.choice([row, rows[-1]]).update(NAMELESS)
        else:
            protocol = rng.choice([6, 6, 17, 1])
            kind = rng.choice(["none", "none", "vxlan", "gtpu"])
            inside = kind != "none"
            ports = protocol != 1
            row = {
                "window_begin": NOW - rng.randrange(1080) * 10,
                "window_seconds": 10,
                "node": rng.choice(["web1", "web2", "db'1", "back\\slash"]),
                "interface": rng.choice(["eth0", "lo"]),
                "direction": rng.choice(["ingress", "egress"]),
                "protocol": protocol,
                "src_addr": rng.choice(ADDRESSES),
                "dst_addr": rng.choice(ADDRESSES),
                "src_port": rng.choice([40_000, 40_001, 53]) if ports else 0,
                "dst_port": rng.choice([53, 80, 443]) if ports else 0,
                "vlan_id": rng.choice([0, 0, 100]),
                "icmp_type": 0 if ports else rng.choice([8, 0, NO_ICMP_TYPE]),
                "icmp_code": 0,
                "revision": 0,
                "primary": 1,
                "kafka_partition": 0,
                "topic_id": 500,
                "tunnel_type": kind,
                "tunnel_id": rng.choice([0, 7, 2**32 - 1]) if inside else 0,
                "outer_src_addr": rng.choice(ADDRESSES) if inside else "",
                "outer_dst_addr": rng.choice(ADDRESSES) if inside else "",
                **NAMELESS,
                "alpn": "",
            }
            if domain := rng.choice(DOMAINS):
                source = rng.choice(["sni", "http", "quic", "dns"])
                row |= {"domain": domain, "domain_source": source, "domain_count": rng.choice([0, 1, 3])}
                row |= {"ja4": rng.choice(["", "t13d1516h2_8daaf6152771_e5627efa2ab1"]), "alpn": rng.choice(["h2", ""])}
        counts = {
            name: rng.choice([0, 1, 10, 1500]) * rng.randrange(1, 9)
            for name in ("packets", "bytes", "packets_rev", "bytes_rev")
        }
        rows.append({**row, **counts, "tcp_flags": rng.choice([2, 16, 24]), "tcp_flags_rev": rng.choice([0, 18])})
    return rows


def summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Revisions added up, as people see flows."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in flow_sql.KEYS)
        flow = found.setdefault(
            key, {**row, "packets": 0, "bytes": 0, "packets_rev": 0, "bytes_rev": 0, "tcp_flags": 0, "tcp_flags_rev": 0}
        )
        for name in ("packets", "bytes", "packets_rev", "bytes_rev"):
            flow[name] += row[name]
        for name in ("tcp_flags", "tcp_flags_rev"):
            flow[name] |= row[name]
        if RANKS[row["domain_source"]] > RANKS[flow["domain_source"]]:
            flow |= {name: row[name] for name in ("domain", "domain_source", "domain_count")}
        flow["ja4"], flow["alpn"] = row["ja4"] or flow["ja4"], row["alpn"] or flow["alpn"]
    return list(found.values())


STORED = stored_rows()
FLOWS = summed(STORED)


def mapped(text: str) -> str:
    return text if ":" in text else f"::ffff:{text}" if text else "::"


@pytest.fixture(scope="session")
def stored(clickhouse_server: str) -> Iterator[Settings]:
    """Settings of a ClickHouse with STORED in it; Kafka is away."""
    loaded = settings_module.load(
        flags={
            "clickhouse.url": clickhouse_server,
            "clickhouse.database": DATABASE,
            "kafka.bootstrap_servers": "127.0.0.1:1",
        }
    )
    with our_tables(loaded.clickhouse) as client:
        client.insert(
            f"{DATABASE}.flows",
            [[mapped(row[name]) if name.endswith("_addr") else row[name] for name in COLUMNS] for row in STORED],
            column_names=COLUMNS,
        )
        yield loaded


@pytest.fixture(scope="module")
def store(stored: Settings) -> Iterator[Store]:
    with Store(stored.clickhouse) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(stored: Settings) -> Iterator[TestClient]:
    with api_client(stored) as opened:
        yield opened


def api_client(loaded: Settings) -> TestClient:
    return TestClient(http.build_app(loaded), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))


SPAN = {"since": datetime.fromtimestamp(NOW - 4 * 3600, UTC), "until": datetime.fromtimestamp(NOW + 3600, UTC)}
RANGE = {name: moment.isoformat() for name, moment in SPAN.items()}


def top(api: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = api.get("/api/top", params={**RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
