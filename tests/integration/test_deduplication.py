"""What is repeated long after it was stored is stored once, whatever the server has forgotten. Real ClickHouse."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cli import doctor
from common.clickhouse import connect
from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings, Settings
from common.times import iso
from console.audit import rollups as by_day
from schemas.clickhouse import rollups
from schemas.clickhouse.horizon import Horizon
from schemas.clickhouse.rollups import ROLLUPS
from streams.disk.plan import Day, Why
from streams.partition.state import Partition
from streams.partition.storing import KafkaPartition, Known, WindowId, WindowJob, store_window
from streams.store.clickhouse import ClickHouseStore
from streams.store.disk import ClickHouseDisk
from tests.fix_local import WRITER
from tests.integration.fix_disk import day, ledger_of, now_ms, start_of
from tests.integration.fix_tables import Run, Tables
from tests.unit.streams.batches import SECOND, STRIDE, Packet, batch
from tests.unit.streams.store_contract import flows

pytestmark = pytest.mark.clickhouse

SOURCE = KafkaPartition(5, 2)
START = int(time.time()) // 3600 * 3600 - 3600
WINDOWS = 12  # of ten seconds: two minutes of one hour
SUMS = "sum(packets), sum(bytes), sum(packets_rev), sum(bytes_rev), {records}, groupBitOr(tcp_flags)"


@pytest.fixture
def settings(clickhouse_server: str) -> Iterator[ClickHouseSettings]:
    made = ClickHouseSettings(url=clickhouse_server, **WRITER, database=f"ayaflow_d_{uuid.uuid4().hex}")
    yield made
    client = connect(made, database="default", timeout_seconds=60)
    client.command(f"DROP DATABASE IF EXISTS {made.database} SYNC")
    client.close()


@pytest.fixture
def store(settings: ClickHouseSettings) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore(settings, "t.packets")
    made.check()
    yield made
    made.close()


@pytest.fixture
def client(settings: ClickHouseSettings, store: ClickHouseStore) -> Iterator[Any]:
    made = connect(settings, database=settings.database, timeout_seconds=60)
    yield made
    made.close()


def jobs(start: int = START, *, late: bool = False) -> list[WindowJob]:
    """What a worker has that reads a partition from its beginning. `late`: and a packet of the first window."""
    state = Partition(SOURCE.number, position=0, window_seconds=10, node_timeout_seconds=1e9, topic_id=SOURCE.topic_id)
    for offset in range(WINDOWS):
        at = (start + 10 * offset) * SECOND
        packets = [Packet(time_ns=at + i, src_port=2000 + i, tcp_flags=2 << (offset % 3)) for i in range(5)]
        state.take(offset, batch(packets, node="n1", ring_start=offset * 5 * STRIDE, clock_ns=at + SECOND), 0.0)
    if late:
        packets = [Packet(time_ns=start * SECOND + 9, src_port=2000)]
        at = (start + 10 * WINDOWS) * SECOND
        state.take(WINDOWS, batch(packets, node="n1", ring_start=WINDOWS * 5 * STRIDE, clock_ns=at), 0.0)
    found = [state.begin(WindowId(start + 10 * offset, 10)) for offset in range(WINDOWS)]
    return [job for job in found if job is not None]


def totals(client: Any) -> dict[str, Any]:
    """The sums of flows and of each rollup; of hosts_1h as its initiators and responders see them."""
    asked = {"flows": SUMS.format(records="count()")} | dict.fromkeys(ROLLUPS, SUMS.format(records="sum(records)"))
    asked["hosts_1h"] = ", ".join(
        f"sumIf({name}, role != '{other}')" for other in ("responder", "initiator") for name in rollups.SUMS
    )
    asked["flows_1d"] += ", min(first_seen), max(last_seen)"
    return {table: client.query(f"SELECT {what} FROM {table}").result_rows[0] for table, what in asked.items()}


def forget(client: Any) -> None:
    """Let the server know the name of the newest insert only."""
    for table in ("flows", *ROLLUPS):
        client.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 1")


def test_a_late_repeat_beyond_the_servers_horizon_is_stored_once(store: ClickHouseStore, client: Any) -> None:
    forget(client)
    for job in jobs():
        assert store_window(job, store).rows == 5
    before = totals(client)
    own = before["flows"]
    assert all(before[table] == own for table in ("services_1m", "flows_1h"))
    assert before["flows_1d"][:6] == own
    packets, size, back, size_back, records = own[:5]
    assert before["hosts_1h"] == (*own[:5], back, size_back, packets, size, records)
    assert packets != back
    for job in jobs():  # another worker, long after: nothing was acknowledged
        outcome = store_window(job, store)
        assert (outcome.rows, len(outcome.publish)) == (0, 1)
    assert totals(client) == before


class Accounts:
    """Windows of the day before yesterday and one of yesterday, their ledger, and what the audit says of the former."""

    def __init__(self, tables: Tables, run: Run) -> None:
        self.tables, self._run = tables, run
        self.settings = ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)
        self.store = ClickHouseStore(self.settings, "t.packets")
        self.jobs = jobs(start_of(day(2)) + 3600)
        for job in (*self.jobs, jobs(start_of(day(1)) + 3600)[0]):
            store_window(job, self.store)
        ledger_of(tables, day(0))

    def audit(self) -> tuple[int, dict[str, Any]]:
        span = ("--since", iso(start_of(day(2))), "--until", iso(start_of(day(1))))
        code, out, _ = self._run("audit", *span, "--format", "json")
        return code, json.loads(out)

    def rollups(self) -> tuple[int, set[str]]:
        """What `audit --rollups` says, and of which rollups."""
        code, out, _ = self._run("audit", "--rollups", "--since", "4d", "--format", "json")
        return code, {each["table"] for each in map(json.loads, out.splitlines()) if not each["equal"]}

    def repeat(self, job: WindowJob) -> None:
        """As a worker does it that was stopped between asking what is stored and its insert."""
        store = ClickHouseStore(self.settings, "t.packets")
        rows = self.store.rows(SOURCE, job.window, 0)
        store.insert(rows, SOURCE, 0, job.offset_end)
        store.close()


@pytest.fixture
def accounts(tables: Tables, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    monkeypatch.setattr(by_day, "_PAUSE_SECONDS", 0.0)  # nobody writes meanwhile
    made = Accounts(tables, run)
    yield made
    made.store.close()


def test_an_insert_that_is_repeated_within_the_horizon_is_dropped_and_one_beyond_is_seen_by_the_audit(
    accounts: Accounts,
) -> None:
    for table in ("flows", *ROLLUPS):
        accounts.tables.command(f"ALTER TABLE DB.{table} MODIFY SETTING non_replicated_deduplication_window = 4")
    assert accounts.audit()[0] == 0
    accounts.repeat(accounts.jobs[-2])
    accounts.repeat(accounts.jobs[-3])
    code, told = accounts.audit()
    assert code == 0, told["message"]
    accounts.repeat(accounts.jobs[0])
    code, told = accounts.audit()
    assert code == 1
    assert "5 packets (300 bytes) too many" in told["message"]
    assert accounts.rollups() == (0, set())  # they were given them, too


def test_days_that_are_dropped_or_replaced_by_hand_are_told_until_they_are_as_before(accounts: Accounts) -> None:
    tables = accounts.tables
    whole = tables.rows("SELECT sum(packets), sum(bytes), count() FROM DB.flows")
    for name, where in (("whole", "1"), ("part", "2003 NOT IN (src_port, dst_port)")):
        tables.command(f"CREATE TABLE DB.{name} AS DB.flows")
        tables.command(f"INSERT INTO DB.{name} SELECT * FROM DB.flows WHERE {where}")

    tables.command(f"ALTER TABLE DB.flows DROP PARTITION '{day(2)}'")
    code, told = accounts.audit()
    assert code == 1
    assert f"{5 * WINDOWS} packets ({300 * WINDOWS:,} bytes) missing" in told["message"]
    assert accounts.rollups() == (1, set(ROLLUPS))  # they still have it
    for job in jobs(start_of(day(2)) + 3600):
        assert store_window(job, accounts.store).rows == 5  # the names went with the rows
    assert tables.rows("SELECT sum(packets), sum(bytes), count() FROM DB.flows") == whole
    code, told = accounts.audit()
    assert code == 0, told["message"]
    assert accounts.rollups() == (0, set())

    tables.command(f"ALTER TABLE DB.flows REPLACE PARTITION '{day(2)}' FROM DB.part")
    code, told = accounts.audit()
    assert code == 1
    assert f"{WINDOWS} packets ({60 * WINDOWS} bytes) missing" in told["message"]
    assert accounts.rollups() == (1, set(ROLLUPS))
    for job in jobs(start_of(day(2)) + 3600):
        assert store_window(job, accounts.store).rows == 0  # its windows are stored, whatever is in them
    tables.command(f"ALTER TABLE DB.flows REPLACE PARTITION '{day(2)}' FROM DB.whole")
    code, told = accounts.audit()
    assert code == 0, told["message"]
    assert accounts.rollups() == (0, set())


def test_of_a_day_that_went_what_is_read_again_is_left_out_and_what_is_late_is_stored(accounts: Accounts) -> None:
    """The server knows the names of what went, and takes no other rows under them."""
    begin, store = start_of(day(2)) + 3600, accounts.store
    disk = ClickHouseDisk(accounts.settings)
    with contextlib.closing(disk):
        assert disk.go(Day(table="flows", day=day(2), rows=1, bytes=1), Why.CAP, now_ms()) == 5 * WINDOWS
        assert [store_window(job, store).rows for job in jobs(begin)] == [0] * WINDOWS
        late = [1] + [0] * (WINDOWS - 1)
        assert [store_window(job, store).rows for job in jobs(begin, late=True)] == late
        assert disk.go(Day(table="flows", day=day(2), rows=1, bytes=1), Why.CAP, now_ms()) == 1
        assert [store_window(job, store).rows for job in jobs(begin, late=True)] == [0] * WINDOWS
    assert accounts.tables.rows(f"SELECT count() FROM DB.flows WHERE toDate(window_begin) = '{day(2)}'") == [(0,)]


def test_after_replace_partition_what_is_read_again_is_stored_once(store: ClickHouseStore, client: Any) -> None:
    for job in jobs():
        store_window(job, store)
    before = totals(client)
    client.command("CREATE TABLE shadow AS flows")
    client.command("INSERT INTO shadow SELECT * FROM flows")
    client.command(f"ALTER TABLE flows REPLACE PARTITION '{time.strftime('%Y-%m-%d', time.gmtime(START))}' FROM shadow")
    assert totals(client) == before
    for job in jobs():
        assert store_window(job, store).rows == 0
    assert totals(client) == before


def test_of_a_window_of_which_rows_are_deleted_by_hand_no_other_is_stored_again(
    store: ClickHouseStore, client: Any
) -> None:
    for job in jobs():
        store_window(job, store)
    for port in range(2000, 2005):  # any of them may be the row that says how far its window is
        client.command(f"CREATE TABLE left_{port} AS flows")
        client.command(f"INSERT INTO left_{port} SELECT * FROM flows WHERE src_port = {port}")
    for port in range(2000, 2005):
        client.command(f"ALTER TABLE flows REPLACE PARTITION '{iso(START)[:10]}' FROM left_{port}")
        for job in jobs():
            assert store_window(job, store).rows == 0
        assert client.query("SELECT count(), min(src_port), max(src_port) FROM flows").result_rows[0] == (
            WINDOWS,
            port,
            port,
        )
    client.command("ALTER TABLE flows UPDATE kafka_offset_end = 0 WHERE 1 SETTINGS mutations_sync = 2")
    for job in jobs():
        assert store_window(job, store).rows == 0


def test_after_drop_partition_what_is_read_again_is_stored_and_no_rollup_has_it_twice(
    store: ClickHouseStore, client: Any
) -> None:
    for job in jobs():
        store_window(job, store)
    before = totals(client)
    client.command(f"ALTER TABLE flows DROP PARTITION '{time.strftime('%Y-%m-%d', time.gmtime(START))}'")
    for job in jobs():
        assert store_window(job, store).rows == 5  # the names went with the rows
    assert totals(client) == before


@pytest.mark.parametrize("forgotten", [False, True], ids=["soon after", "beyond the horizon"])
def test_rollups_of_which_the_server_died_before_it_filled_them_are_filled(
    store: ClickHouseStore, client: Any, *, forgotten: bool
) -> None:
    for job in jobs():
        store_window(job, store)
    right = totals(client)
    if forgotten:
        forget(client)
        client.command("ALTER TABLE flows UPDATE inserted = inserted - 3600 WHERE 1 SETTINGS mutations_sync = 2")
        for rollup in ("services_1m", "flows_1d", "hosts_1h"):
            client.command(f"DELETE FROM {rollup} WHERE 1")
        client.command(
            "ALTER TABLE flows_1h UPDATE packets = packets - 1, records = records - 1 WHERE 1 "
            "SETTINGS mutations_sync = 2"
        )
    else:
        for rollup in ROLLUPS:
            client.command(f"TRUNCATE TABLE {rollup}")  # which forgets the names, too
    assert totals(client) != right
    for job in jobs():
        store_window(job, store)
    assert totals(client) == right


def test_there_is_no_last_correction_of_a_window(store: ClickHouseStore) -> None:
    window = WindowId(START, 10)
    store.insert(flows(5, window), SOURCE, 65_534, 40)
    (job, *_) = jobs()
    known = Known(65_535, 0)
    for revision in (65_535, 65_536):
        pieces = [replace(piece, first_offset=99 + revision, last_offset=99 + revision) for piece in job.pieces]
        late = replace(job, offset_end=100 + revision, pieces=tuple(pieces), known=known)
        known = store_window(late, store).known
        assert known == (revision + 1, 100 + revision)
    assert [revision for revision, _ in store.revisions(SOURCE, window)] == [65_534, 65_535, 65_536]
    assert len(store.rows(SOURCE, window, 65_536)) == 5


def test_the_servers_horizon_is_made_as_long_as_the_retention_of_the_packets(
    settings: ClickHouseSettings, store: ClickHouseStore, client: Any
) -> None:
    forget(client)
    every = Settings(clickhouse=settings)
    with pytest.raises(ServiceUnavailable, match="flows_1h: non_replicated_deduplication_window = 1 instead of 100000"):
        doctor.deduplication(every)
    again = ClickHouseStore(settings, "t.packets", horizon=Horizon.of(every.kafka, every.streams))
    again.check()
    again.close()
    assert "100,000 inserts" in doctor.deduplication(every)
    longer = ClickHouseStore(settings, "t.packets", horizon=Horizon(inserts=7, seconds=8))
    longer.check()  # who wants less takes nothing away from others
    longer.close()
    assert "100,000 inserts" in doctor.deduplication(every)
