"""The numpy type of the kernel's event, against bytes written out by hand and against the C file."""

import re
from pathlib import Path

import numpy as np

from producer.capture.epochs import COUNTERS
from producer.kernel.abi import EVENT, RECORD, TUNNEL_EVENT, TUNNEL_RECORD, tunnel_mask
from schemas.packets import TUNNEL_TYPES

HEADER = Path(__file__).parents[4] / "bpf" / "event.h"

GOLDEN = bytes.fromhex(
    "0807060504030201"  # ktime_ns
    "1817161514131211"  # flow_hash
    "00000000000000000000ffff0a000001"  # src
    "20010db8000000000000000000000002"  # dst
    "dc050000"  # bytes
    "0300"  # slot
    "9602"  # segment_bytes
    "0200"  # packets
    "5704"  # src_port
    "3500"  # dst_port
    "4d00"  # vlan_id
    "1201"  # tcp_flags
    "06"  # protocol
    "01"  # direction
    "3d"  # ttl
    "b8"  # tos
    "2a"  # epoch
    "00"  # flags
)


def test_the_bytes_of_an_event_are_read_field_by_field() -> None:
    (event,) = np.frombuffer(GOLDEN, EVENT)
    assert event["ktime_ns"] == 0x0102030405060708
    assert event["flow_hash"] == 0x1112131415161718
    assert bytes(event["src"]) == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert bytes(event["dst"]) == bytes.fromhex("20010db8000000000000000000000002")
    assert event["bytes"] == 1500
    assert event["slot"] == 3
    assert event["segment_bytes"] == 662
    assert event["packets"] == 2
    assert event["src_port"] == 1111
    assert event["dst_port"] == 53
    assert event["vlan_id"] == 77
    assert event["tcp_flags"] == 0x112
    assert event["protocol"] == 6
    assert event["direction"] == 1
    assert event["ttl"] == 61
    assert event["tos"] == 0xB8
    assert event["epoch"] == 42
    assert event["flags"] == 0


def test_sizes_are_those_of_the_ring() -> None:
    assert (EVENT.itemsize, len(GOLDEN)) == (72, 72)
    assert RECORD.itemsize == 80
    assert (TUNNEL_EVENT.itemsize, TUNNEL_RECORD.itemsize) == (112, 120)


def test_the_tunnel_follows_the_event() -> None:
    tunnel = bytes.fromhex(
        "00000000000000000000ffff0a000009"  # outer_src
        "20010db8000000000000000000000009"  # outer_dst
        "030201ff"  # tunnel_id
        "05"  # tunnel_type
        "000000"
    )
    (event,) = np.frombuffer(GOLDEN + tunnel, TUNNEL_EVENT)
    assert (event["bytes"], event["flags"], event["tunnel_id"], event["tunnel_type"]) == (1500, 0, 0xFF010203, 5)
    assert bytes(event["outer_src"])[-1:] == bytes(event["outer_dst"])[-1:] == b"\x09"


def test_tunnel_types_have_the_numbers_of_the_c_file() -> None:
    found = re.search(r"enum tunnel_type \{ NO_TUNNEL, (.*?) \};", HEADER.read_text())
    assert found
    assert found[1].lower().split(", ") == list(TUNNEL_TYPES[1:])
    assert tunnel_mask(["vxlan", "gtpu", "vxlan"]) == 1 << 1 | 1 << 5


def _members(struct: str) -> list[tuple[str, int]]:
    """(name, octets) of the members of a struct of bpf/event.h."""
    found = re.search(rf"struct {struct} \{{(.*?)\n\}};", HEADER.read_text(), re.DOTALL)
    assert found
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    members = []
    for declaration in body.split(";"):
        if words := declaration.split():
            for name in "".join(words[1:]).split(","):
                count = int(re.search(r"\[(\d+)\]", name)[1]) if "[" in name else 1  # type: ignore[index]
                members.append((name.partition("[")[0], int(words[0][1:]) // 8 * count))
    return members


def test_the_c_struct_has_the_same_members_in_the_same_places() -> None:
    offset = 0
    for name, octets in _members("packet_event"):
        kind, place = EVENT.fields[name][:2]  # type: ignore[index]
        assert (place, kind.itemsize) == (offset, octets), name
        offset += octets
    assert offset == EVENT.itemsize
    for name, octets in _members("tunnel"):
        kind, place = TUNNEL_EVENT.fields[name][:2]  # type: ignore[index]
        assert (place, kind.itemsize) == (offset, octets), name
        offset += octets
    assert offset == TUNNEL_EVENT.itemsize


def test_the_c_counters_have_the_same_members_in_the_same_places() -> None:
    assert _members("counters") == [(name, 8) for name in COUNTERS.names or ()]
