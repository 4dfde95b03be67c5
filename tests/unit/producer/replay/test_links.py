import struct

import numpy as np
import pytest

from producer.replay.files.frames import UNDIRECTED, Frames, Link, make
from producer.replay.links import Prepared, prepare
from schemas.packets import EGRESS, INGRESS

BEFORE = bytes(range(200, 216))  # a record's header
IPV4, IPV6 = b"\x45payload", b"\x60payload"


def frames(*octets: bytes, link: int, wire: int = 100) -> Frames:
    """Frames in one file, each behind 16 octets of a record's header."""
    data, starts = bytearray(), []
    for each in octets:
        data += BEFORE
        starts.append(len(data))
        data += each
    return make(
        data,
        start=np.array(starts, np.int64),
        captured=np.array([len(each) for each in octets], np.int64),
        wire=np.full(len(octets), wire, np.int64),
        time_ns=np.zeros(len(octets), np.int64),
        links=(Link(interface="test", type=link),),
    )


def seen(prepared: Prepared) -> list[tuple[int, bytes, int, int]]:
    """EtherType (-1: no Ethernet header), what follows it, length on the wire and direction of each frame."""
    found, ready = [], prepared.frames
    for i in range(len(ready)):
        start, captured = int(ready.start[i]), int(ready.captured[i])
        octets = ready.data[start : start + captured].tobytes()
        bare = bool(prepared.no_ethernet[i])
        ethertype = -1 if bare else int.from_bytes(octets[12:14], "big")
        found.append((ethertype, octets if bare else octets[14:], int(ready.wire[i]), int(ready.direction[i])))
    return found


def sll(protocol: int, payload: bytes, *, kind: int = 0, device: int = 1) -> bytes:
    return struct.pack("!HHH8sH", kind, device, 6, b"\1\2\3\4\5\6\0\0", protocol) + payload


def sll2(protocol: int, payload: bytes, *, kind: int = 0, device: int = 1) -> bytes:
    return struct.pack("!HHIHBB8s", protocol, 0, 3, device, kind, 6, b"\1\2\3\4\5\6\0\0") + payload


@pytest.mark.parametrize(
    ("link", "header", "ethertype", "wire"),
    [
        (0, struct.pack("<I", 2), 0x0800, 96),
        (0, struct.pack(">I", 2), 0x0800, 96),
        (0, struct.pack("<I", 30), 0x86DD, 96),
        (0, struct.pack("<I", 7), 0, 96),
        (108, struct.pack(">I", 24), 0x86DD, 96),
        (9, b"\xff\x03\x00\x21", 0x0800, 96),
        (9, b"\x00\x57", 0x86DD, 98),
        (9, b"\x02\x81", 0x8847, 98),
        (50, b"\xff\x03\x02\x83", 0x8848, 96),
        (9, b"\x0f\x00\x08\x00", 0x0800, 100),
        (50, b"\x8f\x00\x86\xdd", 0x86DD, 100),
        (9, b"\x21", 0x0800, 99),
        (9, b"\xc0\x21", 0, 98),
        (50, b"\xff\x03\x00\x21", 0x0800, 96),
        (104, b"\x0f\x00\x08\x00", 0x0800, 100),
        (51, b"", 0x8864, 100),
        (113, sll(0x0800, b""), 0x0800, 98),
        (113, sll(0x0800, b"", device=772), 0x0800, 98),
        (113, sll(0x86DD, b"", device=65534), 0x86DD, 84),
        (113, sll(0x8100, b""), 0x8100, 98),
        (276, sll2(0x0800, b""), 0x0800, 94),
        (276, sll2(0x86DD, b"", device=512), 0x86DD, 80),
    ],
)
def test_a_link_header_becomes_an_ethernet_header(link: int, header: bytes, ethertype: int, wire: int) -> None:
    for payload in (IPV4, IPV6, b""):
        assert seen(prepare(frames(header + payload, link=link))) == [
            (ethertype, payload, wire, INGRESS if link in (113, 276) else UNDIRECTED)
        ]


@pytest.mark.parametrize("link", [12, 14, 101, 228, 229])
def test_raw_ip_has_no_ethernet_header(link: int) -> None:
    prepared = prepare(frames(IPV4, b"", link=link))
    assert seen(prepared) == [(-1, IPV4, 100, UNDIRECTED), (-1, b"", 100, UNDIRECTED)]


def test_ethernet_is_left_as_it_is() -> None:
    given = frames(bytes(14) + IPV4, link=1)
    assert prepare(given).frames is given


def test_what_a_host_sent_is_egress() -> None:
    kinds = [sll(0x0800, IPV4, kind=kind) for kind in range(5)]
    assert [direction for *_, direction in seen(prepare(frames(*kinds, link=113)))] == [0, 0, 0, 0, EGRESS]
    kinds = [sll2(0x0800, IPV4, kind=kind) for kind in range(5)]
    assert [direction for *_, direction in seen(prepare(frames(*kinds, link=276)))] == [0, 0, 0, 0, EGRESS]
    assert [d for *_, d in seen(prepare(frames(b"\0\x03\0\x21" + IPV4, b"\1\x03\0\x21" + IPV4, link=166)))] == [
        0,
        EGRESS,
    ]


@pytest.mark.parametrize("link", [0, 9, 104, 108, 113, 276])
def test_a_frame_that_ends_in_its_link_header_is_empty(link: int) -> None:
    whole = {0: 4, 9: 2, 104: 4, 108: 4, 113: 16, 276: 20}[link]
    start = bytes(whole)
    prepared = prepare(frames(*(start[:cut] for cut in range(whole)), link=link))
    assert prepared.frames.captured.tolist() == [0] * whole


def test_other_link_types_are_counted_and_left_out() -> None:
    prepared = prepare(frames(b"a", b"b", link=147))
    assert len(prepared.frames) == 0
    assert prepared.unsupported == {147: 2}


def test_frames_of_several_link_types_stay_in_order() -> None:
    from dataclasses import replace

    given = replace(
        frames(bytes(14) + b"one", struct.pack("<I", 2) + b"two", b"three", IPV4, link=1),
        links=tuple(Link(interface="test", type=kind) for kind in (1, 0, 147, 101)),
        link=np.arange(4, dtype=np.int32),
    )
    prepared = prepare(given)
    assert [payload for _, payload, *_ in seen(prepared)] == [b"one", b"two", IPV4]
    assert prepared.no_ethernet.tolist() == [False, False, True]
    assert prepared.frames.link.tolist() == [0, 1, 3]
    assert prepared.unsupported == {147: 1}
