"""The tables of a cluster, as far as the embedded engine can: its one shard, without ON CLUSTER.

Distributed tables, views and rollups are filled and asked with plain tables in the place of Replicated ones; Replicated
ones are made against a real ZooKeeper, where Debian's package `zookeeper` is installed.
"""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.settings import ClickHouseSettings
from schemas.clickhouse import ddl
from schemas.clickhouse.horizon import stored_tables
from schemas.clickhouse.rollups import ROLLUPS
from tests.fix_local import REPOSITORY, free_port, temporary_directory
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse

SETTINGS = ClickHouseSettings(cluster="main")
DISTRIBUTED = ("flows", *ROLLUPS)
NOON = int(time.time()) // 86_400 * 86_400 - 43_200
VALUES = {
    "since": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOON - 43_200)),
    "until": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOON + 43_200)),
    "addr": "::ffff:10.0.0.1",
    "peer": "::ffff:10.0.1.1",
    "community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
}
COOKBOOK = re.findall(r"```sql\n(.*?)\n```", (REPOSITORY / "docs" / "sql.md").read_text(), re.DOTALL)
SHOWN = "SELECT name, create_table_query FROM system.tables WHERE database = 'ayaflow' ORDER BY name"
ROWS = f"""
INSERT INTO flows (window_begin, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port,
    dst_port, packets, bytes, packets_rev, bytes_rev, first_offset_us, last_offset_us, kafka_partition)
SELECT {NOON} + number % 60 * 10, 10, concat('n', toString(number % 3)), 'eth0', number % 2, 6,
    toIPv6(concat('10.0.0.', toString(number % 7))), toIPv6(concat('10.0.1.', toString(number % 11))), number % 65536,
    443, number % 9 + 1, 100 * (number % 9 + 1), number % 4, 90 * (number % 4), 5, 9000000, number % 8
FROM numbers(5000)
"""


def asked(directory: Path, statements: list[str], *words: str) -> list[list[list[str]]]:
    """The rows of each, as text."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.shard", str(directory), *words],
        cwd=REPOSITORY,
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert (errors, len(answers)) == ([], len(statements)), done.stderr
    return [answer["rows"] for answer in answers]


def tables(*, replicated: bool) -> list[str]:
    """What makes our tables on one server of the cluster."""
    made = [one for migration in ddl.migrations(SETTINGS) for one in migration.statements]
    made = [one.replace(" ON CLUSTER 'main'", "") for one in (*made, *ddl.packets_sql(SETTINGS, 3_600))]
    if not replicated:
        made = [re.sub(r"\bReplicated(?=\w*MergeTree\b)", "", one) for one in made]
        made = [re.sub(r"\breplicated_(?=deduplication)", "non_replicated_", one) for one in made]
    return ["CREATE DATABASE IF NOT EXISTS ayaflow", *made]


def test_one_shard_is_filled_and_answers_as_one_server() -> None:
    made = tables(replicated=False)
    sums = "SELECT sum(packets), sum(bytes), sum(packets_rev), sum(bytes_rev), {} FROM {} AS t"
    questions = [sums.format("count()" if table == "flows" else "sum(t.records)", table) for table in DISTRIBUTED]
    cookbook = [re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], query) for query in COOKBOOK]
    with temporary_directory() as directory:
        answers = asked(
            directory,
            [*made, SHOWN, *made, SHOWN, "USE ayaflow", ROWS, *questions, "SELECT count() FROM flows_local", *cookbook],
        )
    first, second = len(made), 2 * len(made) + 1
    assert answers[first] == answers[second]
    assert {name for name, _ in answers[first]} >= {f"{name}_local" for name in DISTRIBUTED}
    flows, *rollups, stored = answers[second + 3 : second + 4 + len(questions)]
    assert stored == [["5000"]]
    packets, size, back, size_back, records = map(int, flows[0])
    assert records == 5000
    both = [packets + back, size + size_back, packets + back, size + size_back, 2 * records]  # each flow at both ends
    for table, found in zip(ROLLUPS, rollups, strict=True):
        assert list(map(int, found[0])) == (both if table == "hosts_1h" else list(map(int, flows[0]))), table
    top_talkers = answers[-len(cookbook)]
    assert len(top_talkers) == 18


_SERVER = "org.apache.zookeeper.server.ZooKeeperServerMain"


def is_ok(port: int) -> bool:
    """Whether a ZooKeeper serves: it answers before."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(b"srvr")
            return b"Mode: standalone" in asking.recv(4096)
    except OSError:
        return False


@pytest.fixture
def zookeeper() -> Iterator[int]:
    """The port of one."""
    jar = Path("/usr/share/java/zookeeper.jar")  # its manifest names the others
    if not jar.exists():
        pytest.skip("needs ZooKeeper: apt-get install zookeeper, or make test-replica")
    with temporary_directory() as directory:
        port = free_port()
        config = directory / "zoo.cfg"
        config.write_text(
            f"dataDir={directory}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
            "4lw.commands.whitelist=srvr\n"
        )
        output = directory / "output"
        with output.open("w") as out:
            process = subprocess.Popen(
                ["java", "-Xmx128m", "-cp", str(jar), _SERVER, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            until(lambda: is_ok(port), output.read_text)
            yield port
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)


@pytest.mark.ship
def test_a_replica_is_made_against_a_real_zookeeper(zookeeper: int) -> None:
    made = tables(replicated=True)
    replicas = (
        "SELECT table, is_readonly, zookeeper_path, replica_name FROM system.replicas "
        "WHERE database = 'ayaflow' ORDER BY table"
    )
    settings = (
        "SELECT name, extract(engine_full, '[^_]replicated_deduplication_window = ([0-9]+)') FROM system.tables "
        "WHERE database = 'ayaflow' AND engine LIKE 'Replicated%' ORDER BY name"
    )
    with temporary_directory() as directory:
        answers = asked(directory, [*made, SHOWN, *made, SHOWN, replicas, settings], str(zookeeper))
    first, second = len(made), 2 * len(made) + 1
    assert answers[first] == answers[second]
    found, windows = answers[second + 1 :]
    local = [name for name, _ in answers[second] if name.endswith("_local")]
    assert [row[0] for row in found] == local
    assert {row[3] for row in found} == {"1"}
    assert len({row[2] for row in found}) == len(local)
    assert {row[1] for row in found} == {"1"}  # read-only: the embedded engine runs no replication
    known = {name: window for name, window in windows if window}
    assert known == dict.fromkeys(stored_tables("main"), "100000") | {"packets_local": "100000"}
