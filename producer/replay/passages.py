"""Which passage of a packet counts, where a capture has it on several interfaces of its host. Pure.

On a live node the kernel knows by which interface a packet came, and we know which interface stands on which. A capture
says neither, so here a packet is known by what it is: the octets of its IP packet, without those that a router or NAT
changes (TTL, TOS, checksums, ports, one of the two addresses, a SYN's options). Its first passage counts.

Packets that are alike (a UDP request that is sent again) are told apart by how often each passage had one: the second
is the second everywhere.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from producer.replay.files.frames import UNDIRECTED, Frames
from producer.replay.links import ETHERNET_HEADER, Prepared
from schemas.packets import EGRESS, I64, U8

SAME_NS = 1_000_000_000
"""How long a packet stays in its host at most."""
_REMEMBERED = 1 << 16  # keys, two of a packet; and once more as many, of those before
_MOST_PASSAGES = 16  # of one packet that are told apart
_IPV4, _IPV6, _VLAN_TAGS, _TAG_BYTES, _MOST_TAGS = 0x0800, 0x86DD, (0x8100, 0x88A8, 0x9100), 4, 4
_ICMP, _TCP, _UDP = 1, 6, 17
_HEAD, _BEHIND = 40, 40  # octets that are looked at: of the longest IP header without options, and behind it
_SYN, _FLAGS = 2, 13

_U64 = npt.NDArray[np.uint64]
_Packet = dict[int, tuple[int, int]]
"""By passage: how many alike have passed there, and when the latest did."""


class Passages:
    """The passages of the interfaces of one host."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of interfaces
        self._young: dict[int, _Packet] = {}
        self._old: dict[int, _Packet] = {}
        self._since_ns = 0  # when the first of the young came
        # random, so that nobody can make packets that are taken for each other
        self._multipliers = np.random.default_rng().integers(1 << 64, size=20, dtype=np.uint64)

    def secondary(self, prepared: Prepared) -> npt.NDArray[np.bool_]:
        """Of the next frames in the capture's order those that an earlier passage counts, shape (n,).

        Frames of which the capture does not say whether they came or went all count, as does what is not IP.
        """
        frames = prepared.frames
        found = np.zeros(len(frames), np.bool_)
        directed = np.flatnonzero(frames.direction != UNDIRECTED)
        if not len(directed):
            return found
        self._forget(int(frames.time_ns[directed[0]]))
        for row, *packet in self._known_by(frames, prepared.no_ethernet, directed):
            found[row] = self._passes(*packet)
        return found

    def _forget(self, now_ns: int) -> None:
        if len(self._young) >= _REMEMBERED or abs(now_ns - self._since_ns) > SAME_NS:
            self._old, self._young, self._since_ns = self._young, {}, now_ns

    def _passes(self, by_src: int, by_dst: int, passage: int, time_ns: int) -> bool:
        """Whether another passage has had it. The packet is known by two keys, of which NAT leaves one."""
        young, old = self._young, self._old
        packet = young.get(by_src) or young.get(by_dst) or old.get(by_src) or old.get(by_dst) or {}
        young[by_src] = young[by_dst] = packet
        number = packet.get(passage, (0, 0))[0] + 1
        came = passage & 1 != EGRESS
        seen = False
        for other, (count, latest_ns) in packet.items():
            if other != passage and count >= number and abs(time_ns - latest_ns) <= SAME_NS:
                # what comes by two interfaces is one packet only where one stands on the other: no clock came between
                seen |= latest_ns == time_ns or not came or other & 1 == EGRESS
        if len(packet) < _MOST_PASSAGES or passage in packet:
            packet[passage] = number, time_ns
        return seen

    def _known_by(
        self, frames: Frames, no_ethernet: npt.NDArray[np.bool_], rows: I64
    ) -> Iterator[tuple[int, int, int, int, int]]:
        """Row, keys by source and by destination, passage and time of those of the rows that are IP."""
        end = frames.start + frames.captured
        network, is_ip = _network(frames, no_ethernet, rows, end[rows])
        rows, network = rows[is_ip], network[is_ip]
        octets, addresses = _unchanged(frames.data, network, end[rows])
        numbers = [self._numbers.setdefault(link.interface, len(self._numbers)) for link in frames.links]
        passage = np.array(numbers, np.int64)[frames.link[rows]] * 2 + (frames.direction[rows] == EGRESS)
        of_packet, of_src, of_dst = np.split(self._multipliers, [12, 16])
        base = _words(octets) @ of_packet
        keys = (base + _words(addresses[:, each]) @ of_side for each, of_side in ((0, of_src), (1, of_dst)))
        columns = (rows, *keys, passage, frames.time_ns[rows])
        return zip(*(column.tolist() for column in columns), strict=True)


def _network(
    frames: Frames, no_ethernet: npt.NDArray[np.bool_], rows: I64, end: I64
) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Where the IP header begins, behind VLAN tags, and whether there is a whole one."""
    data, bare = frames.data, no_ethernet[rows]
    at = frames.start[rows] + np.where(bare, 0, ETHERNET_HEADER)
    kind = np.where(bare, 0, _u16(data, at - 2))
    for _ in range(_MOST_TAGS):
        tagged = np.isin(kind, _VLAN_TAGS)
        if not tagged.any():
            break
        at = np.where(tagged, at + _TAG_BYTES, at)
        kind = np.where(tagged, _u16(data, at - 2), kind)
    version = np.take(data, at, mode="clip") >> 4
    four = (version == 4) & (bare | (kind == _IPV4)) & (end - at >= 20)
    six = (version == 6) & (bare | (kind == _IPV6)) & (end - at >= 40)
    return at, four | six


def _unchanged(data: U8, network: I64, end: I64) -> tuple[U8, U8]:
    """What stays of a packet from one interface to another, (n, 48), and its addresses, (n, 2, 16)."""
    data = np.concatenate([data, np.zeros(_HEAD + _BEHIND, np.uint8)])  # there is something behind the last frame
    head = _octets(data, network, _HEAD, end)
    is_four = head[:, 0] >> 4 == 4
    behind = _octets(data, network + np.where(is_four, (head[:, 0] & 15).astype(np.int64) * 4, 40), _BEHIND, end)
    first = ~is_four | ((head[:, 6] & 0x1F == 0) & (head[:, 7] == 0))  # else a later fragment: no header of a layer 4
    protocol = np.where(is_four, head[:, 9], head[:, 6])
    tcp, udp, icmp = (first & (protocol == each) for each in (_TCP, _UDP, _ICMP))
    behind[tcp | udp, :4] = 0  # ports
    behind[tcp, 16:18] = behind[udp, 6:8] = 0  # checksums
    behind[tcp & (behind[:, _FLAGS] & _SYN > 0), 20:] = 0  # a router may write another MSS there
    # NAT writes another identifier, and other addresses into what errors quote
    behind[icmp, 2:6] = behind[icmp, 8:] = 0
    octets = np.zeros((len(head), 8 + _BEHIND), np.uint8)
    octets[:, 8:] = behind
    octets[:, 0] = head[:, 0]
    octets[is_four, 1:7] = head[is_four, 2:8]  # length, identification, fragment
    octets[is_four, 7] = head[is_four, 9]
    octets[~is_four, 0] &= 0xF0  # what follows is the traffic class
    octets[~is_four, 1:7] = head[~is_four, 1:7]  # flow label, length, next header
    octets[~is_four, 1] &= 0x0F
    addresses = np.zeros((len(head), 2, 16), np.uint8)
    addresses[is_four, :, :4] = head[is_four, 12:20].reshape(-1, 2, 4)
    addresses[~is_four] = head[~is_four, 8:40].reshape(-1, 2, 16)
    return octets, addresses


def _octets(data: U8, at: I64, count: int, end: I64) -> U8:
    """`count` octets from each position, 0 behind its end."""
    octets = np.lib.stride_tricks.sliding_window_view(data, count)[np.minimum(at, len(data) - count)]
    short = np.flatnonzero(at + count > end)
    octets[short] = np.where(np.arange(count) < (end - at)[short, None], octets[short], 0)
    return octets


def _words(octets: U8) -> _U64:
    return np.ascontiguousarray(octets).view("<u4").astype(np.uint64)


def _u16(data: U8, at: I64) -> I64:
    return np.take(data, at, mode="clip").astype(np.int64) << 8 | np.take(data, at + 1, mode="clip")
