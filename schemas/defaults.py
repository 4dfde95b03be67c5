"""What a batch's columns say of each entry where they are empty, because it follows from other columns. Pure; numpy."""

from typing import Any

import numpy as np

from schemas.fields import PACKET_COLUMNS
from schemas.packets import I64, U8, U32, PacketBatch

LARGEST = 2**32 - 1


def durations(batch: PacketBatch) -> I64:
    """Nanoseconds from the first packet of each entry to its last."""
    return batch.duration_ns if len(batch.duration_ns) else np.zeros(len(batch), np.int64)


def highest_ttl(batch: PacketBatch) -> U8:
    """Of each entry; `ttl` is the lowest."""
    found: U8 = batch.max_ttl if len(batch.max_ttl) else batch.ttl
    return found


def packet_sizes(batch: PacketBatch) -> tuple[U32, U32]:
    """The smallest and the largest packet of each entry, bytes on the wire.

    Of a super-packet `segment_bytes` is the length of all its packets but the last; where it is not known, they are
    taken to be equal.
    """
    if len(batch.min_packet_bytes) and len(batch.max_packet_bytes):
        return batch.min_packet_bytes, batch.max_packet_bytes
    smallest, largest = _derived(batch)
    return (
        batch.min_packet_bytes if len(batch.min_packet_bytes) else smallest,
        batch.max_packet_bytes if len(batch.max_packet_bytes) else largest,
    )


def entry_values(batch: PacketBatch) -> dict[str, Any]:
    """The columns of PACKET_COLUMNS with a value an entry; what is empty is filled in."""
    smallest, largest = packet_sizes(batch)
    derived = {
        "duration_ns": durations(batch),
        "max_ttl": highest_ttl(batch),
        "min_packet_bytes": smallest,
        "max_packet_bytes": largest,
    }
    return {column.name: getattr(batch, column.name) for column in PACKET_COLUMNS} | derived


def _derived(batch: PacketBatch) -> tuple[U32, U32]:
    packets, octets, segment = batch.packets, batch.bytes, batch.segment_bytes
    if not segment.any() and not (packets > 1).any():
        only = np.minimum(octets, LARGEST).astype(np.uint32)
        return only, only
    count = np.maximum(packets, 1).astype(np.int64)
    last = octets - (count - 1) * segment.astype(np.int64)
    known = (count > 1) & (segment > 0) & (last > 0)
    smallest = np.where(known, np.minimum(segment, last), octets // count)
    largest = np.where(known, np.maximum(segment, last), -(-octets // count))
    return np.minimum(smallest, LARGEST).astype(np.uint32), np.minimum(largest, LARGEST).astype(np.uint32)
