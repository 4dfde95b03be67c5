"""`/api/packets`: steps of milliseconds, each direction for itself, of what the filter chooses."""

from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from common.settings import Settings
from common.times import iso
from schemas.clickhouse.ddl import packets_sql
from tests.integration.fix_api import DATABASE, NOW, RANGE, api_client
from tests.integration.fix_clickhouse import connect

pytestmark = pytest.mark.clickhouse
COLUMNS = (
    "time",
    "node",
    "interface",
    "direction",
    "primary",
    "protocol",
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "packets",
    "bytes",
    "received",
)


def packet(ms: float, *, back: bool = False, **more: object) -> dict[str, object]:
    ends = ("::ffff:10.0.0.1", "::ffff:10.0.0.2", 40_000, 443)
    src, dst, sport, dport = (ends[1], ends[0], ends[3], ends[2]) if back else ends
    row = {
        "time": int((NOW * 1000 + ms) * 1_000_000),
        "node": "n1",
        "interface": "eth0",
        "direction": int(back),
        "primary": True,
        "protocol": 6,
    }
    row |= {"src_addr": src, "dst_addr": dst, "src_port": sport, "dst_port": dport, "packets": 1, "bytes": 100}
    return {**row, "received": datetime.now(UTC), **more}


def test_without_packets_nothing_is_kept(stored: Settings) -> None:
    with api_client(stored) as api:
        answer = api.get("/api/packets", params=RANGE)
        assert answer.status_code == 200
        assert (answer.json()["kept"], answer.json()["steps"]) == (False, [])
        assert api.get("/api/packets", params={**RANGE, "filter": "domain = example.org"}).json()["kept"] is False


def test_steps_of_a_connection(stored: Settings, clickhouse_server: str) -> None:
    client = connect(clickhouse_server)
    (statement,) = packets_sql(stored.clickhouse, 3_600)
    client.command(statement)
    try:
        rows = [
            packet(0.1),
            packet(0.9, back=True, bytes=1_400),
            packet(9.99),
            packet(10),
            packet(25, protocol=17),
            packet(25, primary=False),
        ]
        client.insert(f"{DATABASE}.packets", [[row[name] for name in COLUMNS] for row in rows], column_names=COLUMNS)
        span = {"since": iso(NOW), "until": iso(NOW + 1)}
        with api_client(stored) as api:

            def steps(**more: str | int) -> list[tuple[str, int, int, int, int]]:
                answer = api.get("/api/packets", params={**span, **more})
                assert answer.status_code == 200, answer.text
                names = ("ingress_packets", "ingress_bytes", "egress_packets", "egress_bytes")
                return [(each["time"][-8:-1], *(each[name] for name in names)) for each in answer.json()["steps"]]

            assert steps() == [(".000000", 2, 200, 1, 1_400), (".010000", 1, 100, 0, 0), (".020000", 1, 100, 0, 0)]
            assert steps(step_ms=1)[0] == (".000000", 1, 100, 1, 1_400)
            assert steps(filter="port = 443 and protocol = tcp", step_ms=100) == [(".000000", 3, 300, 1, 1_400)]
            assert steps(filter="src_addr = 10.0.0.2") == [(".000000", 0, 0, 1, 1_400)]
            assert steps(filter="interface = eth0")[-1] == (".020000", 2, 200, 0, 0)  # both passages
            assert refused(api, filter="domain = example.org").startswith("filter: a packet has no domain")
            long = api.get("/api/packets", params={**RANGE, "step_ms": 1}).json()
            assert long["step_ms"] == 1_800  # five hours in 10,000 steps
            assert sum(each["ingress_packets"] for each in long["steps"]) == 4
    finally:
        client.command(f"DROP TABLE {DATABASE}.packets")
        client.close()


def refused(api: TestClient, **parameters: str) -> str:
    answer = api.get("/api/packets", params={**RANGE, **parameters})
    assert answer.status_code == 400
    return str(answer.json()["error"])
