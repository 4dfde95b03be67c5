"""The cap on bytes while 20 M rows stream in: the most that our tables took, and that each row is stored or counted.

    python -m tests.bench.cap [ROWS]

A tenth of the rows is a day, the last one yesterday; the disk is looked after by the thread that does it in streams.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from common.settings import ClickHouseSettings, KafkaSettings
from streams import metrics
from streams.housekeeping import Housekeeping
from streams.store.clickhouse import ClickHouseStore
from tests.bench.places import clickhouse
from tests.fix_local import WRITER
from tests.integration.fix_clickhouse import connect
from tests.integration.fix_disk import bytes_on_disk, fill
from tests.integration.fix_tables import Tables

DAYS, INSERT = 10, 100_000
CAP = 200_000_000


@contextmanager
def _looked_after(settings: ClickHouseSettings) -> Iterator[Housekeeping]:
    house = Housekeeping(settings, KafkaSettings(), metrics.create(CollectorRegistry()), lambda: True)
    house.start()
    try:
        yield house
    finally:
        house.close()


def main(rows: int) -> int:
    with clickhouse() as url:
        own: dict[str, Any] = {"url": url, **WRITER, "database": "ayaflow_bench", "max_bytes": CAP, "reserve_bytes": 0}
        settings = ClickHouseSettings(**own)
        store = ClickHouseStore(settings, "packets")
        store.check()
        tables = Tables(url, "ayaflow_bench", connect(url))
        most, began = 0, time.monotonic()
        with _looked_after(settings) as house:
            for number in range(rows // INSERT):
                fill(tables, DAYS - number * INSERT * DAYS // rows, INSERT, seed=number)
                most = max(most, bytes_on_disk(tables))
            told = house.told()
        ((kept,),) = tables.rows("SELECT count() FROM DB.flows")
        ((gone, packets),) = tables.rows(
            "SELECT sum(rows), sum(packets) FROM DB.dropped FINAL WHERE table = 'flows' AND done"
        )
        ((lost,),) = tables.rows("SELECT sum(lost) FROM DB.losses FINAL WHERE kind = 'dropped'")
        print(f"{rows:,} rows in {time.monotonic() - began:.0f} s; at most {most:,} of {CAP:,} bytes; {told}")
        print(f"{kept:,} kept + {gone:,} dropped = {kept + gone:,}; packets dropped {packets:,} = lost {lost:,}")
        store.close()
    return 0 if most <= CAP and kept + gone == rows and packets == lost else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000))
