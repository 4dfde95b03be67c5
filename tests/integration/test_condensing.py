"""The ledger of the past is small, and proves what it proved. Real ClickHouse."""

import contextlib
import os
import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from common.errors import ServiceUnavailable
from common.settings import ClickHouseSettings, KafkaSettings
from console.audit import read
from console.store.client import Store
from schemas.packets import COUNTS
from streams.partition.ledger import EpochId
from streams.store.clickhouse import ClickHouseStore
from streams.store.condensing import Condenser
from tests.fix_local import WRITER, running_clickhouse, temporary_directory
from tests.integration.fix_clickhouse import connect
from tests.integration.fix_tables import Tables

pytestmark = pytest.mark.clickhouse

HOUR = int(time.time()) // 3600 * 3600 - 5 * 3600
"""One that is long over."""
EPOCHS = 600  # of half a second, of each ring
PLACES = "node, interface, direction, primary"
SUMS = (
    f"SELECT {PLACES}, {', '.join(f'sum({name})' for name in COUNTS)}, sum(arraySum(consumed_packets)) "
    f"FROM DB.ledger FINAL WHERE interface != '' GROUP BY {PLACES} ORDER BY {PLACES}"
)
WINDOWS = (
    f"SELECT {PLACES}, w, sum(p), sum(b) FROM DB.ledger FINAL "
    "ARRAY JOIN consumed_windows AS w, consumed_packets AS p, consumed_bytes AS b "
    f"GROUP BY {PLACES}, w ORDER BY {PLACES}, w"
)
COUNTED = "SELECT count(), countIf(last_epoch = epoch) FROM DB.ledger FINAL"


def fill(tables: Tables, *, node: str = "n1", first: int = 1, count: int = EPOCHS, begin: float = HOUR) -> None:
    """Epochs of a ring: eth0 both ways, eth1 in each fourth, nothing at all in each tenth."""
    epochs = (
        f"SELECT {first} + number AS n, toDateTime64({begin} + (number + 1) * 0.5, 6, 'UTC') AS end, "
        "number % 7 + 1 AS p, [('eth0', 'ingress'), ('eth0', 'egress'), ('eth1', 'ingress')] AS all, "
        "multiIf(number % 10 = 0, [('', 'ingress')], number % 4 = 0, all, arraySlice(all, 1, 2)) AS places "
        f"FROM numbers({count})"
    )
    sums = {
        **dict.fromkeys(("seen_packets", "emitted_packets"), "p"),
        **dict.fromkeys(("seen_bytes", "emitted_bytes"), "p * 100"),
        "consumed_windows": "[toDateTime(intDiv(toUnixTimestamp(end), 10) * 10, 'UTC')]",
        "consumed_packets": "[p]",
        "consumed_bytes": "[p * 100]",
    }
    values = {
        "node": f"'{node}'",
        "ring_id": "7",
        "epoch": "n",
        "interface": "place.1",
        "direction": "place.2",
        "start_time": "end - 0.5",
        "end_time": "end",
        "window_seconds": "10",
        **{name: f"if(place.1 = '', {'[]' if value.startswith('[') else 0}, {value})" for name, value in sums.items()},
    }
    tables.command(
        f"INSERT INTO DB.ledger ({', '.join(values)}) SELECT {', '.join(values.values())} "
        f"FROM ({epochs}) ARRAY JOIN places AS place"
    )


@pytest.fixture
def settings(tables: Tables) -> ClickHouseSettings:
    return ClickHouseSettings(url=tables.url, database=tables.database, **WRITER)


class At:
    """A condenser at a moment."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings

    def __call__(self, seconds: float) -> int:
        made = Condenser(self._settings, KafkaSettings(), clock=lambda: HOUR + seconds)
        try:
            return made.look()
        finally:
            made.close()


@pytest.fixture
def at(settings: ClickHouseSettings) -> At:
    return At(settings)


def figures(tables: Tables) -> list[Any]:
    return [tables.rows(SUMS), tables.rows(WINDOWS)]


def test_settled_epochs_are_one_row_a_minute_then_an_hour_and_add_up_to_the_same(tables: Tables, at: At) -> None:
    fill(tables)
    fill(tables, node="n2", first=1_000_000)
    tables.ledger(end=HOUR + 4000, windows={}, epoch=EPOCHS + 1, ring_id=7, interface="", ended=1)
    tables.ledger(end=HOUR + 4000, windows={}, epoch=1_000_000 + EPOCHS, ring_id=7, node="n2", interface="")
    before = figures(tables)
    assert at(3600 + 3599) == 0  # not an hour old
    assert tables.rows(COUNTED)[0][1] > 2 * EPOCHS
    blocks = "SELECT max(max_block_number) FROM system.parts WHERE database = 'DB' AND table = 'ledger'"
    ((last,),) = tables.rows(blocks)
    assert at(2 * 3600) == 1
    assert figures(tables) == before
    assert tables.rows(blocks) == [(last + 1,)]  # one part: it is there or not
    places = 4  # eth0 both ways, eth1, the node itself
    minutes = EPOCHS // 120 + 1  # the last epoch ends with the next minute
    ((rows, _),) = tables.rows(COUNTED)
    assert rows <= 2 * (minutes * places + 4)
    assert at(2 * 3600) == 0  # nothing is left that is worth it
    assert at(27 * 3600) == 1
    assert figures(tables) == before
    assert tables.rows(COUNTED)[0][0] <= 2 * (places + 4)
    fill(tables)  # all of it once more: a worker that did not know
    assert figures(tables) == before
    assert at(80 * 3600) >= 0  # nobody reads those messages again: what was taken back is removed
    ((kept,),) = tables.rows("SELECT sum(rows) FROM system.parts WHERE database = 'DB' AND table = 'ledger' AND active")
    assert kept < 30
    assert figures(tables) == before


def test_what_differs_is_not_added_up(tables: Tables, at: At) -> None:
    fill(tables)
    tables.ledger(end=HOUR + 4000, windows={}, epoch=EPOCHS + 1, ring_id=7, interface="")
    wrong = {
        "consumed_packets = arrayMap(p -> p + 1, consumed_packets)": 10,
        "seen_bytes = seen_bytes + 1": 130,
        "closed = false": 250,
        "device_epochs = 1, device_packets = 1000, unseen_packets = 900": 370,
    }
    for what, epoch in wrong.items():
        tables.command(
            f"ALTER TABLE DB.ledger UPDATE {what} WHERE epoch = {epoch} AND interface = 'eth0' "
            "SETTINGS mutations_sync = 2"
        )
    tables.command("ALTER TABLE DB.ledger DELETE WHERE epoch = 500 SETTINGS mutations_sync = 2")
    before = figures(tables)
    at(2 * 3600)
    assert figures(tables) == before
    single = tables.rows(
        "SELECT DISTINCT toStartOfMinute(end_time) AS m FROM DB.ledger FINAL WHERE last_epoch = epoch ORDER BY m"
    )
    assert len(single) == 6 + 1  # all five minutes, the end of the last epoch, and the newest


def test_an_epoch_that_is_in_a_row_of_many_is_known_to_be_stored(
    tables: Tables, at: At, settings: ClickHouseSettings
) -> None:
    fill(tables)
    tables.ledger(end=HOUR + 4000, windows={}, epoch=EPOCHS + 1, ring_id=7, interface="")
    at(2 * 3600)
    at(27 * 3600)
    at(80 * 3600)
    store = ClickHouseStore(settings, "t.packets")
    try:
        asked = [EpochId("n1", 7, epoch) for epoch in (1, 77, EPOCHS, EPOCHS + 1, EPOCHS + 2)]
        assert store.stored_epochs(asked) == dict.fromkeys(asked[:-1], ())
    finally:
        store.close()


KILLS = int(os.environ.get("KILLS", "1"))
"""KILLS=10: ten of them, some minutes."""


def audited(settings: ClickHouseSettings) -> Any:
    """What the audit reads of all this, but for the moment."""
    with Store(settings) as store:
        found = read.read(store, read.Range(since=datetime.fromtimestamp(HOUR - 100 * 3600, UTC)))
    # of a window it is then known in which minute its last epoch ended, or hour
    windows = [
        (each.place, each.chosen, each.open, {replace(cell, last_epoch_end=0) for cell in each.cells})
        for each in found.windows
    ]
    return found.epochs, windows, found.losses, found.holes, found.gone, [each.gap for each in found.reaches]


def more(tables: Tables, node: str) -> None:
    """Three hours of a node that ended."""
    fill(tables, node=node, count=3 * 7_200, begin=HOUR - 3 * 3_600)
    tables.ledger(end=HOUR + 1, windows={}, ring_id=7, epoch=3 * 7_200 + 1, node=node, interface="", ended=1)


def test_a_server_that_is_killed_while_it_adds_up_has_the_same_ledger_afterwards() -> None:
    rng, nodes, hits = random.Random(21), 0, 0
    before: Any = None
    with temporary_directory() as directory:
        while True:
            with running_clickhouse(directory) as (url, process), contextlib.closing(connect(url)) as client:
                settings = ClickHouseSettings(url=url, database="ayaflow_kills", **WRITER)
                tables = Tables(url, settings.database, client)
                with contextlib.closing(ClickHouseStore(settings, "t.packets")) as store:
                    store.check()
                assert before is None or (figures(tables), audited(settings)) == before
                last = hits == KILLS
                if not last:
                    nodes += 1
                    more(tables, f"n{nodes}")
                    before = figures(tables), audited(settings)
                hours = 30 if last else (5, 30)[nodes % 2]  # after five minutes are made, after thirty hours
                condenser = Condenser(settings, KafkaSettings(), clock=partial(float, HOUR + hours * 3_600))
                if last:
                    condenser.look()
                    condenser.close()
                    assert (figures(tables), audited(settings)) == before
                    ((rows, single),) = tables.rows(COUNTED)
                    break
                killer = threading.Timer(rng.uniform(0.05, 0.5), process.kill)
                killer.start()
                try:
                    condenser.look()
                except ServiceUnavailable:
                    hits += 1  # while it did so
                killer.join()
                process.wait()
                condenser.close()
    assert single <= 2 * nodes
    assert rows <= nodes * 5 * 5  # five hours are touched; in each three places and the node itself
