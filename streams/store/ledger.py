"""What the ledger has of epochs, read back. Blocking."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from schemas.batches import RingId
from schemas.flows import LedgerRow
from schemas.packets import EpochCounters
from streams.disk.condense_sql import MOST_EPOCHS
from streams.partition.ledger import EpochId
from streams.store.connection import Connection

_OF = "node = {node:String} AND ring_id = {ring:Int64} AND epoch BETWEEN {first:Int64} AND {last:Int64}"
_SPANS = f"SELECT epoch, last_epoch, max(closed) FROM ledger WHERE {_OF} GROUP BY epoch, last_epoch"  # noqa: S608
_UNCLOSED = (
    "SELECT epoch, interface, direction = 'egress', primary, toUnixTimestamp64Micro(start_time), "  # noqa: S608
    "toUnixTimestamp64Micro(end_time), window_seconds, arrayMap(w -> toUnixTimestamp(w), consumed_windows), "
    f"consumed_packets, consumed_bytes, kafka_offset_start, version FROM ledger FINAL WHERE {_OF} AND NOT closed"
)


def stored_epochs(connection: Connection, epochs: Sequence[EpochId]) -> dict[EpochId, tuple[LedgerRow, ...]]:
    """Those that are in the ledger, each with its rows where these are without the kernel's counters; else none."""
    found: dict[EpochId, tuple[LedgerRow, ...]] = {}
    by_ring: dict[RingId, list[int]] = {}
    for node, ring_id, epoch in epochs:
        by_ring.setdefault(RingId(node, ring_id), []).append(epoch)
    for ring, numbers in by_ring.items():
        numbers.sort()
        unclosed: list[int] = []
        where = {"node": ring.node, "ring": ring.ring_id, "last": numbers[-1]}  # all of them would not fit into a URL
        spans = connection.query(
            _SPANS,
            lambda rows: [(int(first), int(last), bool(closed)) for first, last, closed in rows],
            **where,
            first=numbers[0] - MOST_EPOCHS,  # a row may have many
        )
        for first, last, closed in spans:
            there = numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]
            found |= {EpochId(*ring, epoch): () for epoch in there}
            unclosed += [] if closed else there
        if unclosed:
            where |= {"first": min(unclosed), "last": max(unclosed)}
            for values in connection.query(_UNCLOSED, list, **where):
                row = _row(ring, values)
                name = EpochId(*ring, row.counters.epoch)
                if name in found:
                    found[name] = (*found[name], row)
    return found


def _row(ring: RingId, values: Sequence[Any]) -> LedgerRow:
    epoch, interface, egress, primary, start_us, end_us, seconds, windows, packets, octets, first, behind = values
    counters = EpochCounters.nothing(
        epoch=int(epoch),
        start_ns=int(start_us) * 1000,
        end_ns=int(end_us) * 1000,
        interface=interface,
        direction=int(egress),
        primary=bool(primary),
    )
    return LedgerRow(
        node=ring.node,
        ring_id=ring.ring_id,
        counters=counters,
        closed=False,
        window_seconds=int(seconds),
        consumed_windows=tuple(windows),
        consumed_packets=tuple(packets),
        consumed_bytes=tuple(octets),
        kafka_offset_start=int(first),
        kafka_offset_end=int(behind),
    )
