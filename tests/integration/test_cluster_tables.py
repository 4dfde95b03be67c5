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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from common.settings import ClickHouseSettings
from schemas.clickhouse import ddl
from schemas.clickhouse.horizon import stored_tables
from schemas.clickhouse.rollups import ROLLUPS
from streams.disk.plan import Day, Why
from streams.partition.storing import KafkaPartition
from streams.store.connection import Connection
from streams.store.disk import ClickHouseDisk, beside
from streams.store.rollups.mending import Mending
from tests.fix_local import REPOSITORY, free_port, temporary_directory
from tests.waiting import HANG_SECONDS, until

pytestmark = pytest.mark.clickhouse

T = TypeVar("T")

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


def engine_of(table: str) -> str:
    """As it stands in our DDL."""
    (made,) = (
        one for one in tables(replicated=True) if f"ayaflow.{table}_local" in one and "ENGINE = Replicated" in one
    )
    return re.sub("(?<!non_)replicated_", "non_replicated_", made.split("ENGINE = ")[1])


class Noting(Connection):
    """Notes what is to be run, as one shard can run it, and says what a server would that holds no day."""

    def __init__(self) -> None:
        super().__init__(SETTINGS, None)
        self.noted: list[str] = []

    def command(self, sql: str, settings: dict[str, Any] | None = None, **parameters: Any) -> None:
        quoted = {name: str(value) if isinstance(value, int) else f"'{value}'" for name, value in parameters.items()}
        sql = re.sub(r"\{(\w+):\w+\}", lambda match: quoted[match[1]], sql)
        self.noted.append(sql.replace(" ON CLUSTER 'main'", ""))

    def query(self, sql: str, read: Callable[[Any], T], **parameters: Any) -> T:
        if "SELECT engine_full" in sql:
            return read([[engine_of("flows").replace("Replicated", "")]])
        return read([[0]])


def a_day_goes() -> list[str]:
    """The statements of it."""
    connection, disk = Noting(), ClickHouseDisk(SETTINGS)
    disk._connection = connection
    day = datetime.fromtimestamp(NOON, UTC).date()
    disk.go(Day(table="flows", day=day, rows=5000, bytes=1), Why.CAP, 1_000 * NOON)
    return connection.noted


def test_a_day_goes_from_one_shard_and_is_counted() -> None:
    counted = (
        "SELECT rows, packets, length(places), done FROM dropped FINAL WHERE table = 'flows'",
        "SELECT (SELECT count() FROM flows), (SELECT sum(lost) FROM losses)",
        "SELECT count() FROM system.tables WHERE match(name, '^(going|gone)_')",
    )
    packets = "SELECT sum(packets + packets_rev) FROM flows"
    made = [*tables(replicated=False), "USE ayaflow", ROWS, packets]
    with temporary_directory() as directory:
        answers = asked(directory, [*made, *a_day_goes(), *counted])
    (passed,) = answers[len(made) - 1]
    assert answers[-3:] == [[["5000", *passed, "6", "1"]], [["0", *passed]], [["0"]]]


class Asking(Noting):
    """Notes also what is asked, and says what a server would whose rollup lacks something until it is mended."""

    def query(self, sql: str, read: Callable[[Any], T], **parameters: Any) -> T:
        self.command(sql, **parameters)
        mended = any(one.startswith("INSERT INTO flows_1d") for one in self.noted)
        return read([[int("AS d GROUP BY" in sql and not mended)]])


def a_day_is_mended() -> list[str]:
    """The statements of it."""
    connection = Asking()
    mending = Mending(connection, SETTINGS, pause=lambda _: None)
    mending.lacks("flows_1d", NOON, ["n0"])
    mending.take_over(KafkaPartition(5, 2), NOON)
    mending.mend("flows_1d", KafkaPartition(5, 2), NOON, ["n0"], 3_600)
    return connection.noted


def test_a_day_of_one_shard_is_held_and_given_what_it_lacks() -> None:
    lost = "ALTER TABLE flows_1d_local DELETE WHERE packets > 2 SETTINGS mutations_sync = 2"
    sums = "SELECT sum(packets), sum(bytes), sum(packets_rev), sum(bytes_rev), {} FROM {} AS t"
    compared = [sums.format("sum(t.records)", "flows_1d"), sums.format("count()", "flows")]
    steps = a_day_is_mended()
    holds = [step for step in steps if step.startswith("ALTER TABLE ayaflow.flows_local")]
    assert [step.split()[3] for step in holds] == ["ADD", "DROP"]
    refused = ROWS.replace("INSERT INTO flows (", "INSERT INTO flows_local (")
    with temporary_directory() as directory:
        answers = asked(
            directory, [*tables(replicated=False), "USE ayaflow", ROWS, lost, *compared, *steps, *compared, refused]
        )
    (lacking, flows), (mended, same) = answers[-len(steps) - 5 : -len(steps) - 3], answers[-3:-1]
    assert lacking != flows == mended == same


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


GOING = ("flows", "ledger", *ROLLUPS)
ENGINES = (
    "SELECT name, extract(engine_full, '^[^)]+[)]') FROM system.tables "
    f"WHERE name IN ({', '.join(repr(f'{table}_local') for table in GOING)})"
)


_NAMED = re.compile(r"(\w+)(?:\(([^)]*)\))?")


def engine_at(table: str) -> str:
    """As a server shows it: with the path."""
    named = _NAMED.match(engine_of(table))
    assert named is not None
    own = f"'/clickhouse/tables/ayaflow/{table}_local/{{shard}}', '{{replica}}'"
    return f"{named[1]}({own}{f', {named[2]}' if named[2] else ''})"


def goes(table: str) -> str:
    """What makes the table that a day goes to."""
    engine = _NAMED.sub(lambda _: engine_at(table), engine_of(table), count=1)
    engine = beside(engine.replace("non_replicated_", "replicated_"), f"going_{table}")
    return f"CREATE TABLE ayaflow.going_{table} AS ayaflow.{table}_local ENGINE = {engine}"


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
        answers = asked(
            directory,
            [*made, SHOWN, *made, SHOWN, replicas, settings, ENGINES, *map(goes, GOING), replicas],
            str(zookeeper),
        )
    first, second = len(made), 2 * len(made) + 1
    assert answers[first] == answers[second]
    found, windows, engines = answers[second + 1 : second + 4]
    assert {name: engine.replace("\\'", "'") for name, engine in engines} == {
        f"{table}_local": engine_at(table) for table in GOING
    }
    with_going = answers[-1]
    assert len(with_going) == len({row[2] for row in with_going}) == len(found) + len(GOING)
    local = [name for name, _ in answers[second] if name.endswith("_local")]
    assert [row[0] for row in found] == local
    assert {row[3] for row in found} == {"1"}
    assert len({row[2] for row in found}) == len(local)
    assert {row[1] for row in found} == {"1"}  # read-only: the embedded engine runs no replication
    known = {name: window for name, window in windows if window}
    assert known == dict.fromkeys(stored_tables("main"), "100000") | {"packets_local": "100000"}
