"""Many flows in a ClickHouse: made there from numbers(), so that the rollups are filled by their views as always."""

import contextlib
import sys
import time
from datetime import UTC, datetime

import clickhouse_connect

from common import settings as settings_module
from schemas.clickhouse.ddl import migrations
from tests.fix_local import WRITER

WINDOW = 10  # seconds
NODES = 4
LATE = 997  # of so many windows of a node, one has a second revision
_FLOWS = """
INSERT INTO flows (window_begin, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port,
    dst_port, packets, bytes, packets_rev, bytes_rev, tcp_flags, tcp_flags_rev, min_ttl, max_ttl, min_packet_bytes,
    max_packet_bytes, first_offset_us, last_offset_us, kafka_partition, kafka_offset_end, revision)
WITH
    {first:UInt32} + intDiv(number, {each:UInt32}) AS window,       -- counted from the epoch, in windows
    number % {each:UInt32} AS slot, slot % {nodes:UInt8} AS n,
    cityHash64(intDiv(window, 6), slot) AS connection,              -- lasts a minute
    (connection % 10007) / 10007 AS u, (intDiv(connection, 10007) % 10007) / 10007 AS v,
    toUInt32(1 + 200 * u * u) AS client, toUInt32(1 + 20000 * pow(v, 6)) AS server,
    cityHash64(number) AS h, toUInt64(exp(7 + 9 * pow((h % 10007) / 10007, 3))) AS size,
    [443, 443, 443, 443, 80, 53, 53, 22, 9092, 123][1 + server % 10] AS port
SELECT window * 10, 10, concat('node', toString(n)), 'eth0', if(server % 3 = 0, 'ingress', 'egress'),
    if(port IN (53, 123), 17, 6), IPv4ToIPv6(toIPv4(toUInt32(167772160 + n * 65536 + client))),
    IPv4ToIPv6(toIPv4(toUInt32(3221225984 + server))), 32768 + intDiv(connection, 65537) % 28000, port,
    1 + intDiv(size, 900), size, 1 + intDiv(size, 300), size * 3, if(port IN (53, 123), 0, 24),
    if(port IN (53, 123), 0, 24), 57, 64, 60, least(size, 1514), h % 5000000, 5000000 + h % 4999999, n, window, 0
FROM numbers({from:UInt64}, {count:UInt64})
"""
_LATE = """
INSERT INTO flows (window_begin, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port,
    dst_port, packets, bytes, kafka_partition, kafka_offset_end, revision)
SELECT window_begin, window_seconds, node, interface, direction, protocol, src_addr, dst_addr, src_port, dst_port,
    1, 60, kafka_partition, kafka_offset_end + 1, 1
FROM flows WHERE cityHash64(window_begin, node) % {late:UInt32} = 0 AND cityHash64(src_port) % 8 = 0
"""
_LEDGER = """
INSERT INTO ledger (node, ring_id, epoch, interface, direction, start_time, end_time, seen_packets, seen_bytes,
    emitted_packets, emitted_bytes, consumed_windows, consumed_packets, consumed_bytes, window_seconds)
WITH side.4 AS part
SELECT node, 1, toUnixTimestamp(window_begin) * 2 + part, interface, side.1,
    addMilliseconds(toDateTime64(window_begin, 6, 'UTC'), 500 * part),
    addMilliseconds(toDateTime64(window_begin, 6, 'UTC'), 500 * part + 500),
    intDiv(side.2, 20) + if(part = 0, side.2 % 20, 0) AS p, intDiv(side.3, 20) + if(part = 0, side.3 % 20, 0) AS b,
    p, b, [window_begin], [p], [b], 10
FROM (
    SELECT node, interface, window_begin, [
        ('ingress', sum(if(direction = 'ingress', packets, packets_rev)),
                    sum(if(direction = 'ingress', bytes, bytes_rev))),
        ('egress', sum(if(direction = 'egress', packets, packets_rev)),
                   sum(if(direction = 'egress', bytes, bytes_rev)))] AS sides
    FROM flows WHERE toDate(window_begin) = {day:Date} GROUP BY node, interface, window_begin
) ARRAY JOIN arrayFlatten(arrayMap(side -> arrayMap(part -> (side.1, side.2, side.3, part), range(20)), sides)) AS side
"""


def fill(url: str, rows: int, days: int) -> datetime:
    """Make the flows, unless there are so many already; returns the end of the newest window."""
    host, port = url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(
        host=host, port=int(port), autogenerate_session_id=False, **WRITER, send_receive_timeout=600
    )
    loaded = settings_module.load(flags={"clickhouse.url": url})
    client.command("CREATE DATABASE IF NOT EXISTS ayaflow")
    for migration in migrations(loaded.clickhouse):
        for statement in migration.statements:
            client.command(statement)
    with contextlib.closing(
        clickhouse_connect.get_client(
            host=host,
            port=int(port),
            database="ayaflow",
            autogenerate_session_id=False,
            **WRITER,
            send_receive_timeout=600,
        )
    ) as client:
        windows = days * 86_400 // WINDOW
        each = rows // windows
        if not int(client.query("SELECT count() FROM flows").result_rows[0][0]):
            # whole days before this hour
            first = (int(time.time()) // 3600 * 3600 - days * 86_400) // WINDOW
            step = 86_400 // WINDOW * each // 8
            for start in range(0, windows * each, step):
                began = time.monotonic()
                client.command(
                    _FLOWS,
                    parameters={
                        "first": first,
                        "each": each,
                        "nodes": NODES,
                        "from": start,
                        "count": min(step, windows * each - start),
                    },
                )
                print(
                    f"made {start + step:,} of {windows * each:,} rows, {step / (time.monotonic() - began):,.0f}/s",
                    file=sys.stderr,
                )
            client.command(_LATE, parameters={"late": LATE})
        if not int(client.query("SELECT count() FROM ledger").result_rows[0][0]):
            for day in client.query("SELECT DISTINCT toString(toDate(window_begin)) FROM flows").result_rows:
                client.command(_LEDGER, parameters={"day": day[0]})
        for table in ("flows", "services_1m", "flows_1h", "ledger"):
            count, size = client.query(
                f"SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND table = '{table}'"
            ).result_rows[0]
            print(f"{table}: {count:,} rows, {size / 1e6:,.0f} MB, {size / max(count, 1):.1f} bytes a row")
        newest = client.query("SELECT toUnixTimestamp(max(window_begin)) + 10 FROM flows").result_rows[0][0]
    return datetime.fromtimestamp(newest, UTC)
