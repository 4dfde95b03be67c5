"""Names of other people's captures as we read them and as tshark does; as root.

    python -m tests.names.recall FILE_OR_FOLDER...

prints, for DNS names and for names in ClientHellos (TLS and QUIC), how many tshark finds, how many of these we find,
and how many of ours tshark does not find; each that differs first. Ours are read as in production: the kernel program
chooses what is copied, at most 2,048 octets of a packet. What is compared is (capture, both ends, name). Left out are
frames whose link type `ayaflow replay` does not read, what is inside of tunnels, DNS in HTTP, and names with what
cannot be printed.
"""

import contextlib
import ipaddress
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from producer.kernel.abi import REPLAY_FRAMES
from producer.names.columns import DNS, INCOMPLETE, LLMNR, MALFORMED, MDNS, QUIC, TLS, Names
from producer.names.reader import NameReader
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.links import prepare
from producer.replay.program import BLOCK_BYTES, ReplayProgram
from schemas.names import NAME_STATUSES

Item = tuple[str, str, str]
"""Both ends in order, name."""

_FIELDS = (
    "frame.number", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
    "udp.srcport", "udp.dstport", "dns.qry.name", "dns.resp.name", "dns.flags.response",
    "tls.handshake.extensions_server_name",
)  # fmt: skip
COPIED = 2_048
"""Octets of a payload; capture.inspect_bytes."""
_DNS = ("dns", "mdns", "llmnr")


@dataclass(slots=True)
class Read:
    """What one reader finds in one capture."""

    dns: set[Item] = field(default_factory=set)  # of questions
    other_dns: set[Item] = field(default_factory=set)  # of records' owners
    hellos: set[Item] = field(default_factory=set)


def by_tshark(path: Path, known: set[int]) -> Read:
    """Of the frames with these numbers, from 1."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]
    command += ["-o", "tcp.reassemble_out_of_order:TRUE"]
    command += ["-Y", "dns or mdns or llmnr or tls.handshake.extensions_server_name"]
    for name in _FIELDS:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, errors="replace")
    found = Read()
    for line in done.stdout.splitlines():
        values = line.split("\t")
        if len(values) != len(_FIELDS):
            continue
        row = dict(zip(_FIELDS, values, strict=True))
        if int(row["frame.number"]) not in known or not (ends := _ends(row)):
            continue
        protocols = row["frame.protocols"].split(":")
        is_plain = any(
            name in protocols[1:] and protocols[protocols.index(name) - 1] in {"udp", "tcp"} for name in _DNS
        )
        names = [_plain(name) for name in row["dns.qry.name"].split("|") if name]
        found.dns |= {(*ends, name) for name in names if name and is_plain}
        owners = [_plain(name) for name in row["dns.resp.name"].split("|") if name]
        found.other_dns |= {(*ends, name) for name in owners if name}
        hellos = [_plain(name) for name in row["tls.handshake.extensions_server_name"].split("|") if name]
        found.hellos |= {(*ends, name) for name in hellos if name}
    return found


def _ends(row: dict[str, str]) -> tuple[str, str] | None:
    protocols = row["frame.protocols"].split(":")
    if sum(name in {"ip", "ipv6"} for name in protocols) != 1 or {"icmp", "icmpv6"} & {*protocols}:
        return None  # in a tunnel, or quoted in an error
    kind = "ip" if "ip" in protocols else "ipv6"
    transport = "tcp" if "tcp" in protocols else "udp"
    ends = [
        f"{ipaddress.ip_address(row[f'{kind}.{side}'])}|{row[f'{transport}.{port}'].split('|')[0]}"
        for side, port in (("src", "srcport"), ("dst", "dstport"))
        if row[f"{kind}.{side}"]
    ]
    return (min(ends), max(ends)) if len(ends) == 2 else None


def _plain(name: str) -> str:
    """As we write names; "" for those with anything that is not printable, which each shows in its own way."""
    if name in ("<Root>", "."):
        return "."
    name = name.lower().removesuffix(".")
    return name if name and name.isascii() and name.isprintable() and " " not in name and "\\" not in name else ""


def by_us(path: Path, program: ReplayProgram) -> tuple[Read, set[int], Counter[str]]:
    """And the numbers of the frames that were read, and what became of the copies."""
    found, known, counted = Read(), set[int](), Counter[str]()
    reader, number, last_ns = NameReader(), 1, 0
    try:
        for frames in read(str(path)):
            numbered = np.arange(number, number + len(frames))
            prepared = prepare(frames)
            kept = ~np.isin(np.array([link.type for link in frames.links])[frames.link], list(prepared.unsupported))
            known |= {*numbered[kept].tolist()}
            number += len(frames)
            slots = prepared.no_ethernet.astype(np.uint32)
            for rows in prepared.frames.slices(REPLAY_FRAMES, BLOCK_BYTES):
                for copies in program.run(prepared.frames, rows, slots[rows], 1).copies:
                    _take(found, counted, reader.read(copies.heads, copies.octets, copies.offsets))
                last_ns = max(last_ns, int(prepared.frames.time_ns[rows].max()))
                _take(found, counted, reader.expire(last_ns))
    except BrokenCaptureError:
        counted["broken captures"] += 1
    _take(found, counted, reader.expire(last_ns + 3_600_000_000_000))
    counted["unused"] = reader.unused
    assert reader.open == 0
    return found, known, counted


def _take(found: Read, counted: Counter[str], names: Names) -> None:
    for row in names.rows:
        counted[NAME_STATUSES[row["status"]]] += int(row["copies"])
        if row["name"] < 0 or row["status"] in (INCOMPLETE, MALFORMED):
            continue
        ends = sorted(
            f"{_address(bytes(row[side]))}|{row[port]}"
            for side, port in (("client", "client_port"), ("server", "server_port"))
        )
        item = (ends[0], ends[1], _plain(names.names[row["name"]]))
        if item[2]:
            if row["kind"] in (DNS, MDNS, LLMNR):
                found.dns.add(item)
            elif row["kind"] in (TLS, QUIC):
                found.hellos.add(item)


def _address(octets: bytes) -> str:
    address = ipaddress.IPv6Address(octets)
    return str(address.ipv4_mapped or address)


@dataclass(slots=True)
class Compared:
    """One kind of names in many captures."""

    theirs: int = 0
    both: int = 0
    ours: int = 0
    wrong: int = 0
    differences: list[str] = field(default_factory=list)

    def add(self, path: Path, theirs: set[Item], ours: set[Item], allowed: set[Item]) -> None:
        """`allowed`: ours that are right, too, if they are not among theirs."""
        self.theirs += len(theirs)
        self.both += len(theirs & ours)
        self.ours += len(ours)
        wrong = ours - theirs - allowed
        self.wrong += len(wrong)
        self.differences += [f"{path.name}: not found: {item}" for item in sorted(theirs - ours)]
        self.differences += [f"{path.name}: not tshark's: {item}" for item in sorted(wrong)]

    @property
    def recall(self) -> float:
        return self.both / self.theirs if self.theirs else 1.0

    @property
    def precision(self) -> float:
        return 1 - self.wrong / self.ours if self.ours else 1.0


def captures(places: list[str]) -> Iterator[Path]:
    """All files of folders."""
    for place in map(Path, places):
        yield from sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


@contextlib.contextmanager
def kernel_program() -> Iterator[ReplayProgram]:
    """That looks at payload, and knows frames with an Ethernet header (interface 0) and without (1)."""
    with tempfile.TemporaryDirectory() as folder, ReplayProgram(Path(folder) / "log", inspect=COPIED) as program:
        for slot in (False, True):
            program.set_interface(slot, no_ethernet=slot)
        yield program


def compare(paths: Iterable[Path]) -> tuple[dict[str, Compared], Counter[str]]:
    """Of DNS and of hellos; and what became of the copies."""
    kinds = {"DNS": Compared(), "hellos": Compared()}
    counted = Counter[str]()
    with kernel_program() as program:
        for path in paths:
            try:
                ours, known, here = by_us(path, program)
                theirs = by_tshark(path, known)
            except (subprocess.TimeoutExpired, BrokenCaptureError, OSError) as error:
                print(f"{path}: {error}")
                continue
            counted += here
            counted["captures"] += 1
            kinds["DNS"].add(path, theirs.dns, ours.dns, theirs.other_dns)
            kinds["hellos"].add(path, theirs.hellos, ours.hellos, set())
    return kinds, counted


def main(places: list[str]) -> int:
    """Compare all captures; 1 when a bar is missed."""
    kinds, counted = compare(captures(places))
    for kind, found in kinds.items():
        print(*(f"{kind}: {difference}" for difference in found.differences), sep="\n")
    print(dict(counted))
    for kind, found in kinds.items():
        print(
            f"{kind}: tshark {found.theirs}, of which we {found.both} (recall {100 * found.recall:.2f} %); "
            f"ours {found.ours}, of which not tshark's {found.wrong} (precision {100 * found.precision:.2f} %)"
        )
    return int(any(found.recall < 0.99 or found.precision < 0.995 for found in kinds.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
