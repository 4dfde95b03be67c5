"""Names of other people's captures as we read them and as tshark does.

    python -m tests.names.recall FILE_OR_FOLDER...

prints, for DNS names and for names in ClientHellos (TLS and QUIC), how many tshark finds, how many of these we find,
and how many of ours tshark does not find; each that differs first. What is compared is (capture, both ends, name). Left
out are frames whose link type `ayaflow replay` does not read, what is inside of tunnels, DNS in HTTP, and names with
what cannot be printed.
"""

import ipaddress
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from producer.kernel.abi import COPY
from producer.names.columns import DNS, INCOMPLETE, LLMNR, MALFORMED, MDNS, QUIC, TLS, Names
from producer.names.reader import NameReader
from producer.replay.files.frames import BrokenCaptureError
from producer.replay.files.reader import read
from producer.replay.links import prepare
from tests.names.selection import Copied, Selection

Item = tuple[str, str, str]
"""Both ends in order, name."""

_FIELDS = (
    "frame.number", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
    "udp.srcport", "udp.dstport", "dns.qry.name", "dns.resp.name", "dns.flags.response",
    "tls.handshake.extensions_server_name",
)  # fmt: skip
_BATCH = 512
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


def by_us(path: Path) -> tuple[Read, set[int], Counter[str]]:
    """And the numbers of the frames that were read, and what became of the copies."""
    found, known, counted = Read(), set[int](), Counter[str]()
    reader, selection = NameReader(), Selection()
    number, last_ns = 1, 0
    waiting: list[Copied] = []
    try:
        for frames in read(str(path)):
            numbered = np.arange(number, number + len(frames))
            prepared = prepare(frames)
            kept = ~np.isin(np.array([link.type for link in frames.links])[frames.link], list(prepared.unsupported))
            known |= {*numbered[kept].tolist()}
            number += len(frames)
            for copy in selection.copies(prepared.frames, prepared.no_ethernet):
                waiting.append(copy)
                last_ns = max(last_ns, int(copy.head["ktime_ns"]))
                if len(waiting) == _BATCH:
                    _take(found, counted, _read(reader, waiting))
                    _take(found, counted, reader.expire(last_ns))
                    waiting = []
    except BrokenCaptureError:
        counted["broken captures"] += 1
    _take(found, counted, _read(reader, waiting))
    _take(found, counted, reader.expire(last_ns + 3_600_000_000_000))
    counted["unused"] = reader.unused
    assert reader.open == 0
    return found, known, counted


def _read(reader: NameReader, copies: list[Copied]) -> Names:
    if not copies:
        return reader.read(np.zeros(0, COPY), memoryview(b""), np.zeros(0, np.int64))
    lengths = [len(copy.octets) for copy in copies]
    offsets = np.cumsum([0, *lengths[:-1]]).astype(np.int64)
    heads = np.array([copy.head for copy in copies], copies[0].head.dtype)
    return reader.read(heads, memoryview(b"".join(copy.octets for copy in copies)), offsets)


def _take(found: Read, counted: Counter[str], names: Names) -> None:
    for row in names.rows:
        counted[("named", "incomplete", "malformed", "encrypted", "nameless")[row["status"]]] += int(row["copies"])
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


def main(places: list[str]) -> int:
    """Compare all captures; 1 when a bar is missed."""
    kinds = {"DNS": Compared(), "hellos": Compared()}
    counted, read_captures = Counter[str](), 0
    for path in captures(places):
        try:
            ours, known, here = by_us(path)
            theirs = by_tshark(path, known)
        except (subprocess.TimeoutExpired, BrokenCaptureError, OSError) as error:
            print(f"{path}: {error}")
            continue
        read_captures += 1
        counted += here
        kinds["DNS"].add(path, theirs.dns, ours.dns, theirs.other_dns)
        kinds["hellos"].add(path, theirs.hellos, ours.hellos, set())
    for kind, found in kinds.items():
        print(*(f"{kind}: {difference}" for difference in found.differences), sep="\n")
    print(f"{read_captures} captures; copies: {dict(counted)}")
    for kind, found in kinds.items():
        print(
            f"{kind}: tshark {found.theirs}, of which we {found.both} (recall {100 * found.recall:.2f} %); "
            f"ours {found.ours}, of which not tshark's {found.wrong} (precision {100 * found.precision:.2f} %)"
        )
    return int(any(found.recall < 0.99 or found.precision < 0.995 for found in kinds.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
