"""The kernel's event as a numpy type: bpf/event.h, byte for byte, behind the ring buffer's own record header."""

import numpy as np
import numpy.typing as npt

EVENT = np.dtype(
    {
        "names": [
            "ktime_ns", "flow_hash", "src", "dst", "bytes", "slot", "segment_bytes", "packets", "src_port", "dst_port",
            "vlan_id", "tcp_flags", "protocol", "direction", "ttl", "tos", "epoch", "flags",
        ],
        "formats": [
            "=u8", "=u8", ("u1", 16), ("u1", 16), "=u4", "=u2", "=u2", "=u2", "=u2", "=u2",
            "=u2", "=u2", "u1", "u1", "u1", "u1", "u1", "u1",
        ],
        "offsets": [0, 8, 16, 32, 48, 52, 54, 56, 58, 60, 62, 64, 66, 67, 68, 69, 70, 71],
        "itemsize": 72,
    }
)  # fmt: skip

RECORD = np.dtype([("header", "=u4"), ("page_offset", "=u4"), ("event", EVENT)])
"""An event with the ring's header. The size of a ring's records is that of their type: nothing else says it."""

BUSY = 1 << 31  # of a record's header: reserved, not yet submitted
DISCARDED = 1 << 30

Records = npt.NDArray[np.void]
"""Shape (n,), of dtype RECORD or another layout of the event."""

SECONDARY = 1
"""Of an event's flags."""

ICMP, ICMPV6 = 1, 58
"""Protocols whose events carry type and code in the places of the ports."""
