"""A disk that is nearly full of old days frees itself, and goes on storing. Real ClickHouse, on a disk of 200 MB."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.fix_local import running_clickhouse, temporary_directory
from tests.integration.fix_disk import day, days_of, fill, keeper
from tests.integration.fix_tables import Tables, tables_of

pytestmark = [pytest.mark.clickhouse, pytest.mark.root]

MEGABYTES = 200
FULL = 0.7
ROWS, PADDING = 500, 8_000  # of a day: some 4 MB


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    with temporary_directory() as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(directory)], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def on_a_small_disk() -> Iterator[tuple[Tables, Path]]:
    with small_disk() as directory, running_clickhouse(directory) as (url, _), tables_of(url) as tables:
        yield tables, directory


def fill_up(file: Path) -> None:
    """Until nothing more goes onto its disk."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as others:
        while True:
            others.write(bytes(1 << 20))


def test_what_a_table_is_stays_written_on_a_disk_that_is_full(on_a_small_disk: tuple[Tables, Path]) -> None:
    """ClickHouse says `ok` to a change, empties the file that says what the table is, and starts no more."""
    tables, directory = on_a_small_disk
    fill(tables, 5, 10)
    fill_up(directory / "others")
    for change in (
        "CREATE TABLE DB.more (x UInt8) ENGINE = MergeTree ORDER BY x",
        "ALTER TABLE DB.flows ADD COLUMN IF NOT EXISTS node String",
        "ALTER TABLE DB.flows ADD CONSTRAINT hold CHECK packets != 7",
        "ALTER TABLE DB.flows MODIFY TTL window_begin + INTERVAL 80 DAY",
        "ALTER TABLE DB.flows DELETE WHERE packets = 7",
    ):
        with pytest.raises(DatabaseError, match="NOT_ENOUGH_SPACE"):
            tables.command(change)
    assert [path for path in directory.rglob("*.sql") if not path.stat().st_size] == []
    (directory / "others").unlink()
    tables.command("ALTER TABLE DB.flows ADD COLUMN more UInt8")
    fill(tables, 4, 10)
    assert days_of(tables, "flows") == [day(5), day(4)]


def used(directory: Path) -> float:
    found = os.statvfs(directory)
    return 1 - found.f_bavail / found.f_blocks


def test_a_disk_that_is_mostly_full_of_old_days_goes_on_storing(on_a_small_disk: tuple[Tables, Path]) -> None:
    tables, directory = on_a_small_disk
    ago, sent = 80, 0
    while used(directory) < FULL:
        fill(tables, ago, ROWS, seed=ago, padding=PADDING)
        ago, sent = ago - 1, sent + ROWS
    assert ago > 20
    with keeper(tables, reserve_bytes=40 << 20) as kept:
        kept.look()
        for _ in range(20):  # more than is free
            fill(tables, ago, ROWS, seed=ago, padding=PADDING)  # raises when ClickHouse has no room
            kept.look()
            ago, sent = ago - 1, sent + ROWS
    ((stored, gone),) = tables.rows(
        "SELECT (SELECT count() FROM DB.flows), "
        "(SELECT sum(rows) FROM DB.dropped FINAL WHERE table = 'flows' AND why = 'disk' AND done)"
    )
    assert stored + gone == sent
    assert gone > 0
    assert days_of(tables, "flows")[-1] == day(ago + 1)
    assert days_of(tables, "flows")[0] > day(80)
