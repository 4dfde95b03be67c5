"""What the ledger takes while it is new, by the minute and by the hour, and how long the audit reads it.

    python -m tests.bench.ledger

An hour of one node: 20 interfaces, both ways, each of which saw something in each epoch of half a second; then the same
hour of 1,000 nodes as it is after a day. What is beyond is multiplied, and said so. Rows are made by SQL.
"""

import time
from functools import partial
from typing import Any

from common.clickhouse import connect
from common.settings import ClickHouseSettings, KafkaSettings
from streams.store.clickhouse import ClickHouseStore
from streams.store.condensing import Condenser
from tests.bench.places import clickhouse
from tests.fix_local import WRITER

INTERFACES, EPOCHS, NODES, DAYS = 20, 7_200, 1_000, 90
HOUR = int(time.time()) // 3_600 * 3_600 - 30 * 3_600
_SIZE = """
SELECT sum(bytes_on_disk), sum(rows) FROM system.parts WHERE database = 'ayaflow_bench' AND table = 'ledger' AND active
"""


def main() -> None:
    with clickhouse() as url:
        settings = ClickHouseSettings(url=url, **WRITER, database="ayaflow_bench")
        store = ClickHouseStore(settings, "packets")
        store.check()
        client = connect(settings, database="ayaflow_bench", timeout_seconds=600)
        _fill(client)
        places = 2 * INTERFACES
        new = _compact(client)
        _say("an hour of a node, each epoch a row", new, places)
        for name, after in (("by the minute", 3 * 3_600), ("by the hour", 29 * 3_600)):
            condenser = Condenser(settings, KafkaSettings(), clock=partial(float, HOUR + after))
            began = time.monotonic()
            condenser.look()
            seconds = time.monotonic() - began
            condenser.close()
            client.command("OPTIMIZE TABLE ledger FINAL CLEANUP")
            found = _compact(client)
            _say(f"the same {name} (made in {seconds:.1f} s)", found, places)
        by_hour = found[0] / places
        client.command("TRUNCATE TABLE ledger")
        _many(client)
        many = _compact(client)
        _say(f"an hour of {NODES:,} nodes by the hour", many, NODES * places)
        began = time.monotonic()
        client.query("SELECT node, sum(seen_packets), sum(epochs) FROM ledger FINAL GROUP BY node")
        print(f"totals by node of it: {time.monotonic() - began:.2f} s")
        began = time.monotonic()
        client.query(
            "SELECT node, interface, direction, w, sum(p) FROM ledger FINAL ARRAY JOIN consumed_windows AS w, "
            "consumed_packets AS p GROUP BY ALL ORDER BY ALL LIMIT 1"
        )
        print(f"its {NODES * places * 360:,} windows, one by one: {time.monotonic() - began:.1f} s")
        whole = many[0] * 24 * DAYS
        print(
            f"model: {NODES:,} nodes of {INTERFACES} interfaces, {DAYS} days, all of them busy: {whole / 1e9:,.0f} GB;"
        )
        print(
            f"as it comes: {new[0] / places * NODES * places * 24 * DAYS / 1e9:,.0f} GB; by one node's hour: "
            f"{by_hour * NODES * places * 24 * DAYS / 1e9:,.0f} GB"
        )
        client.close()
        store.close()


_PLACE = {
    "interface": f"concat('eth', toString(intDiv(number, 2) % {INTERFACES}))",
    "direction": "if(number % 2 = 0, 'ingress', 'egress')",
    "ring_id": "7",
    "window_seconds": "10",
    **dict.fromkeys(("seen_packets", "emitted_packets"), "p"),
    **dict.fromkeys(("seen_bytes", "emitted_bytes"), "b"),
}


def _fill(client: Any) -> None:
    values = {
        "node": "'n1'",
        "epoch": f"intDiv(number, {2 * INTERFACES}) + 1 AS n",
        "start_time": "end - 0.5",
        "end_time": f"toDateTime64({HOUR} + n * 0.5 - 0.01, 6, 'UTC') AS end",
        "kafka_offset_start": "n * 3 + cityHash64(n) % 3 AS first",
        "version": "first + 1 + cityHash64(n, 1) % 3",
        **_PLACE,
        "consumed_windows": f"[toDateTime({HOUR} + intDiv(n, 20) * 10, 'UTC')]",
        "consumed_packets": "[1 + cityHash64(number) % 2000 AS p]",
        "consumed_bytes": "[p * (60 + cityHash64(number, 1) % 1400) AS b]",
    }
    _insert(client, values, EPOCHS * 2 * INTERFACES)
    client.command(
        "INSERT INTO ledger (node, ring_id, epoch, interface, start_time, end_time, window_seconds, ended) "
        f"VALUES ('n1', 7, {EPOCHS + 1}, '', {HOUR + 3_601}, {HOUR + 3_602}, 10, 1)"
    )


def _many(client: Any) -> None:
    """As condensing makes it: a row a place, with its 360 windows."""
    values = {
        "node": f"concat('n', toString(intDiv(number, {2 * INTERFACES})))",
        "epoch": "1",
        "last_epoch": str(EPOCHS),
        "epochs": str(EPOCHS),
        "version": "1",
        "start_time": str(HOUR),
        "end_time": str(HOUR + 3_599),
        **_PLACE,
        "consumed_windows": f"arrayMap(i -> toDateTime({HOUR} + i * 10, 'UTC'), range(360))",
        "consumed_packets": "arrayMap(i -> 1 + cityHash64(number, i) % 40000, range(360)) AS ps",
        "consumed_bytes": "arrayMap((i, p) -> p * (60 + cityHash64(number, i, 1) % 1400), range(360), ps) AS bs",
    }
    values |= {name: f"arraySum({value}s)" for name, value in _SUMS.items()}
    _insert(client, values, NODES * 2 * INTERFACES)


_SUMS = {name: value for name, value in _PLACE.items() if value in {"p", "b"}}


def _insert(client: Any, values: dict[str, str], rows: int) -> None:
    client.command(f"INSERT INTO ledger ({', '.join(values)}) SELECT {', '.join(values.values())} FROM numbers({rows})")


def _compact(client: Any) -> tuple[int, int]:
    client.command("OPTIMIZE TABLE ledger FINAL")
    ((size, rows),) = client.query(_SIZE).result_rows
    return int(size), int(rows)


def _say(what: str, found: tuple[int, int], places: int) -> None:
    size, rows = found
    print(f"{what}: {rows:,} rows, {size:,} bytes; {size / places:,.0f} bytes an hour and place", flush=True)


if __name__ == "__main__":
    main()
