"""All that the kernel program and Python share: bpf/event.h and bpf/replay.h, byte for byte.

Structs are numpy types, constants have their C names. The members of an event are read from event.h; a test walks both
headers and fails for what else is missing here.
"""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.kernel.load.objects import SOURCES
from schemas.fields import TUNNEL_TYPES
from schemas.packets import BARE_SYN, EGRESS, INGRESS

__all__ = ["BARE_SYN", "EGRESS", "INGRESS"]  # these the other side of Kafka knows, too

Dtype = np.dtype[Any]

NO_ICMP_TYPE = 0xFFFF
"""Of an event's src_port: schemas.fields.NO_ICMP_TYPE in 16 bits."""
SECONDARY = 1
"""Of an event's flags."""
MAX_INTERFACES = 512
"""Slots of the kernel program."""
WATCHED, NO_ETHERNET, ELSEWHERE, UNKNOWN_LINK = 1, 2, 4, 16
"""Of an interface's flags; ELSEWHERE is shifted by the direction."""
REPLAY_FRAMES, REPLAY_BLOCK_BYTES, REPLAY_FRAME_MASK = 16_384, 2 << 20, 0x3FFF
"""Frames of a block, octets that they may take, and a mask above each one's last octet."""
BUDGET_NS = 0x10000000
"""The time that config.copies is of."""
UNLIMITED = (1 << 64) - 1
"""Of config.copies."""
MORE_FRAGMENTS = 2
"""Of a copy's flags."""
COPY_KINDS = ("NO_COPY", "DNS", "TLS", "QUIC", "HTTP", "CONTINUATION", "FRAGMENT", "TCP_DNS")
ENUMS = {"tunnel_type": ("NO_TUNNEL", *(name.upper() for name in TUNNEL_TYPES[1:])), "copy_kind": COPY_KINDS}
"""Names by value."""

_WIDTHS = {"u8": "u1", "u16": "=u2", "u32": "=u4", "u64": "=u8"}


def _members(name: str) -> list[Any]:
    """Those of a flat struct of event.h. Two 64-bit words are an address: 16 octets in network order."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "event.h").read_text("utf-8"), flags=re.DOTALL)
    body = re.search(rf"^struct {name} {{\n(.*?)^}};", text, re.DOTALL | re.MULTILINE)
    assert body, name
    found: list[Any] = []
    for kind, declared in re.findall(r"^ +(u\d+) ([^;]+);", body[1], re.MULTILINE):
        for member, count in re.findall(r"(\w+)(?:\[(\d+)\])?", declared):
            address = kind == "u64" and count == "2"
            found.append((member, "u1", 16) if address else (member, _WIDTHS[kind], *([int(count)] if count else [])))
    return found


_PACKET, _TUNNEL = _members("packet_event"), _members("tunnel")
_SIZES = [("min_packet_bytes", "=u4"), ("max_packet_bytes", "=u4")]
_MARKS = [("tcp_flags", "=u2"), ("min_ttl", "u1"), ("max_ttl", "u1"), ("unused", "=u4")]

EVENT: Dtype = np.dtype(_PACKET)
"""struct packet_event."""
TUNNEL_EVENT: Dtype = np.dtype([*_PACKET, *_TUNNEL])
"""The same with the struct tunnel behind it, of a program that opens tunnels."""

OUTCOMES = ("seen", "emitted", "coalesced", "non_ip", "malformed", "unknown_link", "ring_full")
COUNTERS: Dtype = np.dtype(
    [("epoch", "=u8"), *((f"{outcome}_{unit}", "=u8") for outcome in OUTCOMES for unit in ("packets", "bytes"))]
)
INSPECTED = ("inspected", "copied", "skipped_ring_full", "skipped_over_budget", "skipped_table_full")
INSPECTING_COUNTERS: Dtype = np.dtype([*COUNTERS.descr, *((f"{outcome}_packets", "=u8") for outcome in INSPECTED)])
"""struct counters of a program that inspects payload."""
COPY: Dtype = np.dtype(_members("copy"))
"""struct copy: what stands before the octets of each copy."""
COALESCED_KEY: Dtype = np.dtype([("flow_hash", "=u8"), ("second", "=u4"), ("unused", "=u4")])
INTERFACE: Dtype = np.dtype([("flags", "=u4"), ("namespace", "=u4"), ("name", "S120")])
WATCHED_KEY: Dtype = np.dtype([("namespace", "=u4"), ("ifindex", "=u4")])
"""struct watched."""
CONFIG: Dtype = np.dtype(
    [
        ("hash_key", "=u8", 2),
        ("alive_until_ns", "=u8"),
        ("wall_offset_ns", "=u8"),
        ("coalesce", "=u8"),
        ("copies", "=u8"),
    ]
)
STATE_PAGE: Dtype = np.dtype([("octets", "u1", 8192)])
"""struct state: Python's own, run_state.py says what is in it."""
REPLAY_FRAME: Dtype = np.dtype(
    [
        ("time_ns", "=u8"),
        ("offset", "=u4"),
        ("last", "=u4"),
        ("bytes", "=u4"),
        ("slot", "=u4"),
        ("direction", "=u4"),
        ("secondary", "=u4"),
    ]
)
REPLAY_BLOCK: Dtype = np.dtype([("octets", "u1", REPLAY_BLOCK_BYTES)])
REPLAY_STATE: Dtype = np.dtype([("next", "=u8"), ("refused", "=u8")])


def coalesced_of(event: Dtype) -> Dtype:
    """struct coalesced, an entry of the kernel's flow table, for a layout of the event."""
    return np.dtype(
        [("first", event), ("last_ktime_ns", "=u8"), ("packets", "=u8"), ("bytes", "=u8"), *_SIZES, *_MARKS]
    )


COALESCED = coalesced_of(EVENT)


def structs(*, tunnels: bool, inspects: bool) -> dict[str, Dtype]:
    """All types by their C names, as a program has them that opens tunnels or none, inspects payload or does not."""
    event = TUNNEL_EVENT if tunnels else EVENT
    return {
        "packet_event": EVENT,
        "tunnel": np.dtype(_TUNNEL),
        "event": event,
        "copy": COPY,
        "counters": counters_of(inspects),
        "coalesced_key": COALESCED_KEY,
        "packet_sizes": np.dtype(_SIZES),
        "packet_marks": np.dtype(_MARKS),
        "coalesced": coalesced_of(event),
        "interface": INTERFACE,
        "watched": WATCHED_KEY,
        "config": CONFIG,
        "state": STATE_PAGE,
        "replay_frame": REPLAY_FRAME,
        "replay_block": REPLAY_BLOCK,
        "replay_state": REPLAY_STATE,
    }


def counters_of(inspects: int | bool) -> Dtype:
    """struct counters of a program that inspects payload, or does not."""
    return INSPECTING_COUNTERS if inspects else COUNTERS


def counter_key(slot: int, direction: int, *, secondary: bool = False) -> int:
    """Index in the counter maps."""
    return secondary * 2 * MAX_INTERFACES + slot * 2 + direction


def interface(flags: int, namespace: int = 0, name: str = "", layout: Dtype = INTERFACE) -> bytes:
    """A struct interface."""
    value = np.zeros(1, layout)
    value["flags"], value["namespace"], value["name"] = flags, namespace, name.encode()
    return value.tobytes()


def tunnel_mask(decapsulate: Collection[str]) -> int:
    """-DDECAPSULATE of the kernel program: a bit for each of TUNNEL_TYPES that is to be opened."""
    return sum(1 << TUNNEL_TYPES.index(name) for name in set(decapsulate))


def _record(event: Dtype) -> Dtype:
    return np.dtype([("header", "=u4"), ("page_offset", "=u4"), ("event", event)])


RECORD, TUNNEL_RECORD = _record(EVENT), _record(TUNNEL_EVENT)
"""An event with the ring's header. The size of a ring's records is that of their type: nothing else says it."""
BUSY = 1 << 31  # of a record's header: reserved, not yet submitted
DISCARDED = 1 << 30

Records = npt.NDArray[np.void]
"""Shape (n,), of dtype RECORD or another layout of the event."""

ICMP, ICMPV6 = 1, 58
"""Protocols whose events carry type and code in the places of the ports."""


def record_of(decapsulate: Collection[str]) -> Dtype:
    """The records of a program that opens these tunnels."""
    return TUNNEL_RECORD if decapsulate else RECORD


def converted(records: Records, wanted: Dtype) -> Records:
    """Records of another layout in ours: fields by name, those that are missing 0."""
    if records.dtype == wanted:
        return records
    out = np.zeros(records.shape, wanted)
    for name in wanted.names or ():
        if name in (records.dtype.names or ()):
            inner = wanted[name]
            out[name] = converted(records[name], inner) if inner.names else records[name]
    return out
