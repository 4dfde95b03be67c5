"""The kernel's event as a numpy type: bpf/event.h, byte for byte, behind the ring buffer's own record header."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.packets import TUNNEL_TYPES

_PACKET = [
    ("ktime_ns", "=u8"),
    ("flow_hash", "=u8"),
    ("src", "u1", 16),
    ("dst", "u1", 16),
    ("bytes", "=u4"),
    ("slot", "=u2"),
    ("segment_bytes", "=u2"),
    ("packets", "=u2"),
    ("src_port", "=u2"),
    ("dst_port", "=u2"),
    ("vlan_id", "=u2"),
    ("tcp_flags", "=u2"),
    ("protocol", "u1"),
    ("direction", "u1"),
    ("ttl", "u1"),
    ("tos", "u1"),
    ("epoch", "u1"),
    ("flags", "u1"),
]
_TUNNEL = [
    ("outer_src", "u1", 16),
    ("outer_dst", "u1", 16),
    ("tunnel_id", "=u4"),
    ("tunnel_type", "u1"),
    ("padding", "u1", 3),
]

EVENT: np.dtype[Any] = np.dtype(_PACKET)
"""struct packet_event."""
TUNNEL_EVENT: np.dtype[Any] = np.dtype([*_PACKET, *_TUNNEL])
"""The same with the struct tunnel behind it, of a program that opens tunnels."""


def _record(event: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([("header", "=u4"), ("page_offset", "=u4"), ("event", event)])


RECORD, TUNNEL_RECORD = _record(EVENT), _record(TUNNEL_EVENT)
"""An event with the ring's header. The size of a ring's records is that of their type: nothing else says it."""


def record_of(decapsulate: Collection[str]) -> np.dtype[Any]:
    """The records of a program that opens these tunnels."""
    return TUNNEL_RECORD if decapsulate else RECORD


def tunnel_mask(decapsulate: Collection[str]) -> int:
    """-DDECAPSULATE of the kernel program: a bit for each of TUNNEL_TYPES that is to be opened."""
    return sum(1 << TUNNEL_TYPES.index(name) for name in set(decapsulate))


COALESCED_KEY = np.dtype([("flow_hash", "=u8"), ("second", "=u4"), ("unused", "=u4")])
"""struct coalesced_key."""


def coalesced_of(event: np.dtype[Any]) -> np.dtype[Any]:
    """struct coalesced, an entry of the kernel's flow table, for a layout of the event."""
    return np.dtype(
        [
            ("first", event),
            ("last_ktime_ns", "=u8"),
            ("packets", "=u8"),
            ("bytes", "=u8"),
            ("min_packet_bytes", "=u4"),
            ("max_packet_bytes", "=u4"),
            ("tcp_flags", "=u2"),
            ("min_ttl", "u1"),
            ("max_ttl", "u1"),
            ("unused", "=u4"),
        ]
    )


COALESCED = coalesced_of(EVENT)

BUSY = 1 << 31  # of a record's header: reserved, not yet submitted
DISCARDED = 1 << 30

Records = npt.NDArray[np.void]
"""Shape (n,), of dtype RECORD or another layout of the event."""

SECONDARY = 1
"""Of an event's flags."""

ICMP, ICMPV6 = 1, 58
"""Protocols whose events carry type and code in the places of the ports."""


def converted(records: Records, wanted: np.dtype[Any]) -> Records:
    """Records of another layout in ours: fields by name, those that are missing 0."""
    if records.dtype == wanted:
        return records
    out = np.zeros(records.shape, wanted)
    for name in wanted.names or ():
        if name in (records.dtype.names or ()):
            inner = wanted[name]
            out[name] = converted(records[name], inner) if inner.names else records[name]
    return out
