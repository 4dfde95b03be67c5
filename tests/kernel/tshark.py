"""Frames as tshark reads them and as the kernel program does, side by side.

As a program, over captures of any origin (root; docs/tshark.md says what the differences are):

    python -m tests.kernel.tshark FILE_OR_FOLDER...
"""

import ipaddress
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from producer.kernel.abi import NO_ICMP_TYPE, REPLAY_FRAMES
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.links import prepare
from producer.replay.program import BLOCK_BYTES, ReplayProgram
from schemas.fields import TUNNEL_TYPES

_EXTENSIONS = {
    "ipv6.hopopts": "ipv6.hopopts.nxt",
    "ipv6.dstopts": "ipv6.dstopts.nxt",
    "ipv6.routing": "ipv6.routing.nxt",
    "ipv6.fraghdr": "ipv6.fraghdr.nxt",
    "ah": "ah.next_header",
}
_WITH_PORTS = {6: "tcp", 17: "udp", 132: "sctp", 136: "udp", 33: "dccp"}
_TUNNELS = {"vxlan": "vxlan.vni", "geneve": "geneve.vni", "gre": "gre.key", "gtp": "gtp.teid"}
_NAMES = {6: "tcp", 17: "udp", 132: "sctp", 136: "udplite", 33: "dccp", 1: "icmp", 58: "icmpv6"}
_FIELDS = (
    "frame.number",
    "frame.time_epoch",
    "frame.len",
    "frame.protocols",
    "ieee8021ad.id",
    "vlan.id",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "ipv6.fraghdr.offset",
    *_EXTENSIONS.values(),
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
    "vxlan.vni",
    "geneve.vni",
    "gre.key",
    "gtp.teid",
)

Key = tuple[int, str, int, str, int, int]
"""Protocol, source, its port or the ICMP type, destination, its port or the ICMP code, VLAN."""


NO_TUNNEL = ("none", 0, "::", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A frame whose outermost IP header can be read."""

    key: Key
    bytes: int
    tcp_flags: int
    time_ns: int
    tunnel: tuple[str, int, str, str] = NO_TUNNEL  # kind, id, outer addresses


def tshark(path: Path, *, opens: bool = False) -> dict[int, Seen]:
    """By number of the frame, from 0: its outermost IP header. Without reassembly, or fragments would be whole.

    `opens`: the IP header in a tunnel where there is one.
    """
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]
    command += ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE"]
    for name in _FIELDS:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, errors="replace")
    found = {}
    for line in done.stdout.splitlines():
        row = dict(zip(_FIELDS, line.split("\t"), strict=True))
        if (seen := _read(row, opens=opens)) is not None:
            found[int(row["frame.number"]) - 1] = seen
    return found


def _read(row: Mapping[str, str], *, opens: bool) -> Seen | None:
    values = {name: iter(row[name].split(",") if row[name] else ()) for name in _FIELDS}
    protocols = row["frame.protocols"].split(":")
    place = _next_ip(protocols, 0)
    if place is None:
        return None
    tags = [name for name in protocols[:place] if name in {"vlan", "ieee8021ad"}]
    vlan = next(values[f"{tags[0]}.id"], "0") if tags else "0"
    outer = _ip(protocols, place, values)
    if outer is None:
        return None
    header, tunnel = outer, NO_TUNNEL
    inside = _next_ip(protocols, place + 1) if opens else None
    between = [name for name in protocols[place:inside] if name in _TUNNELS] if inside else []
    if inside and (between or header.protocol in {4, 41}):
        inner = _ip(protocols, inside, values)
        if inner is not None:
            kind = between[0] if between else "ipip"
            number = next(values[_TUNNELS[kind]], "0") if between else "0"
            tunnel = ("gtpu" if kind == "gtp" else kind, int(number, 0), outer.source, outer.target)
            header = inner
    seconds, _, fraction = row["frame.time_epoch"].partition(".")
    return Seen(
        key=(header.protocol, header.source, header.one, header.target, header.other, int(vlan)),
        bytes=int(row["frame.len"]),
        tcp_flags=header.flags,
        time_ns=int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9]),
        tunnel=tunnel,
    )


def _next_ip(protocols: Sequence[str], begin: int) -> int | None:
    return next((i for i, name in enumerate(protocols) if i >= begin and name in {"ip", "ipv6"}), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    protocol: int
    source: str
    one: int
    target: str
    other: int
    flags: int


def _ip(protocols: Sequence[str], place: int, values: Mapping[str, Iterator[str]]) -> _Header | None:
    """The IP header that stands at a place of frame.protocols; takes its fields from `values`."""
    kind = protocols[place]
    source, target = next(values[f"{kind}.src"], ""), next(values[f"{kind}.dst"], "")
    number = next(values["ip.proto" if kind == "ip" else "ipv6.nxt"], "")
    if not source or not target or not number:
        return None
    protocol, fragment = int(number), int(next(values["ip.frag_offset"], "0")) if kind == "ip" else 0
    place += 1
    while kind == "ipv6" and not fragment and place < len(protocols) and protocols[place] in _EXTENSIONS:
        protocol = int(next(values[_EXTENSIONS[protocols[place]]], protocol))
        if protocols[place] == "ipv6.fraghdr":
            fragment = int(next(values["ipv6.fraghdr.offset"], "0"))
        place += 1
    one, other, flags = NO_ICMP_TYPE if protocol in {1, 58} else 0, 0, 0
    if not fragment and _NAMES.get(protocol) in protocols[place : place + 1]:
        if protocol in _WITH_PORTS:
            name = _WITH_PORTS[protocol]
            one, other = (int(next(values[f"{name}.{side}"], "0")) for side in ("srcport", "dstport"))
            flags = int(next(values["tcp.flags"], "0"), 16) & 0x1FF if protocol == 6 else 0
        else:
            one = int(next(values[f"{_NAMES[protocol]}.type"], NO_ICMP_TYPE))
            other = int(next(values[f"{_NAMES[protocol]}.code"], "0"))
    return _Header(protocol=protocol, source=_text(source), one=one, target=_text(target), other=other, flags=flags)


def _text(address: str) -> str:
    return str(ipaddress.ip_address(address))


class Ours:
    """The kernel program, over whole captures."""

    def __init__(self, program: ReplayProgram, *, opens: bool = False) -> None:
        """`opens`: it opens tunnels."""
        self._program, self._epoch, self.opens = program, 0, opens
        for slot in (False, True):
            program.set_interface(slot, no_ethernet=slot)

    def read(self, path: Path) -> tuple[dict[int, Seen], dict[int, int], Counter[str], str]:
        """By number of the frame; those of links we know, with how their length on the wire differs from the capture's.

        And what became of them, and what is wrong with the file.
        """
        found: dict[int, Seen] = {}
        known: dict[int, int] = {}
        counted: Counter[str] = Counter()
        number, broken = 0, ""
        parts = read(str(path))
        while True:
            try:
                frames = next(parts)
            except StopIteration:
                break
            except BrokenCaptureError as error:
                broken = str(error)
                break
            counted["frames"] += len(frames)
            # events carry the number of the frame in place of its time
            numbers = np.arange(number, number + len(frames), dtype=np.int64)
            times = frames.time_ns
            prepared = prepare(replace(frames, time_ns=numbers))
            here = prepared.frames.time_ns
            known.update(zip(here.tolist(), (prepared.frames.wire - frames.wire[here - number]).tolist(), strict=True))
            counted["unsupported"] += prepared.unsupported.total()
            slots = prepared.no_ethernet.astype(np.uint32)
            for rows in prepared.frames.slices(REPLAY_FRAMES, BLOCK_BYTES):
                self._epoch += 1
                ran = self._program.run(prepared.frames, rows, slots[rows], self._epoch)
                for one in ran.counters.values():
                    counted.update({name: value for name, value in one.items() if name.endswith("_packets")})
                for event in ran.span.records["event"]:
                    at = int(event["ktime_ns"])
                    found[at] = Seen(
                        key=(
                            int(event["protocol"]),
                            _address(bytes(event["src"])),
                            int(event["src_port"]),
                            _address(bytes(event["dst"])),
                            int(event["dst_port"]),
                            int(event["vlan_id"]),
                        ),
                        bytes=int(event["bytes"]),
                        tcp_flags=int(event["tcp_flags"]),
                        time_ns=int(times[at - number]),
                        tunnel=_tunnel(event),
                    )
            number += len(frames)
        return found, known, counted, broken


def _tunnel(event: Any) -> tuple[str, int, str, str]:
    if "tunnel_type" not in event.dtype.names:
        return NO_TUNNEL
    src, dst = (_address(bytes(event[side])) for side in ("outer_src", "outer_dst"))
    return (TUNNEL_TYPES[event["tunnel_type"]], int(event["tunnel_id"]), src, dst)


def _address(octets: bytes) -> str:
    address = ipaddress.IPv6Address(octets)
    return str(address.ipv4_mapped or address)


Flows = dict[Key, list[int]]
"""Packets, bytes, TCP flags, first and last time of each direction."""


def flows(frames: Mapping[int, Seen]) -> Flows:
    """The frames added up."""
    sums: Flows = {}
    for seen in frames.values():
        into = sums.setdefault(seen.key, [0, 0, 0, seen.time_ns, seen.time_ns])
        into[0] += 1
        into[1] += seen.bytes
        into[2] |= seen.tcp_flags
        into[3], into[4] = min(into[3], seen.time_ns), max(into[4], seen.time_ns)
    return sums


@dataclass(slots=True)
class Compared:
    """One set of captures."""

    flows: int = 0  # in either reading
    equal: int = 0
    captures: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.equal / self.flows if self.flows else 1.0

    def add(self, path: Path, ours: Ours) -> None:
        mine, known, counted, broken = ours.read(path)
        outcomes = sum(counted[f"{name}_packets"] for name in ("emitted", "non_ip", "malformed"))
        assert counted["frames"] - counted["unsupported"] == counted["seen_packets"] == outcomes, (path, counted)
        read = tshark(path, opens=ours.opens)
        theirs = {at: replace(seen, bytes=seen.bytes + known[at]) for at, seen in read.items() if at in known}
        one, other = flows(mine), flows(theirs)
        self.captures += 1
        self.counted.update(counted)
        self.flows += len(one.keys() | other.keys())
        self.equal += sum(one[key] == other.get(key) for key in one)
        for at in sorted(mine.keys() | theirs.keys()):
            if mine.get(at) != theirs.get(at):
                self.differences.append(f"{path.name} {at + 1}: ours {mine.get(at)} tshark {theirs.get(at)} {broken}")


def captures(places: list[str]) -> Iterator[Path]:
    """All files of folders."""
    for place in map(Path, places):
        yield from sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def main(places: list[str]) -> int:
    """Compare each place's captures; print the share of equal flows, and each frame that differs."""
    with tempfile.TemporaryDirectory() as folder, ReplayProgram(Path(folder) / "log") as program:
        ours = Ours(program)
        for place in places:
            found = Compared()
            for path in captures([place]):
                try:
                    found.add(path, ours)
                except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
                    found.differences.append(f"{path.name}: {type(error).__name__} {error}")
            print(*found.differences, sep="\n")
            print(
                f"{place}: {found.captures} captures, {found.equal} of {found.flows} flows equal "
                f"({100 * found.share:.2f} %), {dict(found.counted)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
