"""What the office did in the day before, as a capture that `ayaflow replay` reads. Pure.

It is made up as the traffic of now is, but sparsely: of each ten minutes all octets pass within ten seconds and in
frames as large as a device with segmentation offload shows them, so that a day is some 300,000 packets.
"""

import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from deploy.local.demo import messages, plan

STEP_SECONDS, BURST_SECONDS = 600, 10
HOURS = 24
_LARGEST = 60_000  # octets of a frame's payload
_MACS = bytes.fromhex("02a90000000202a900000001")
_IN, _OUT = 1, 2  # epb_flags
_SYN, _ACK, _PUSH_ACK, _FIN_ACK, _RESET_ACK, _SYN_ACK = 0x02, 0x10, 0x18, 0x11, 0x14, 0x12
_TCP, _UDP = 6, 17
_US = 1_000_000
_VISITS, _QUERIES = 80, 30  # in ten minutes, when most goes on
_FILM_OCTETS, _COPY_OCTETS = 100_000_000, 600_000_000
_COPY_HOURS, _SCAN_HOURS = (2.0, 2.5), (4.0, 15.5)


def capture(end: float, seed: int = 1) -> Iterator[bytes]:
    """A pcapng of the day that ends at `end` (Unix time), a piece for each ten minutes."""
    yield _head()
    first = (int(end) - HOURS * 3600) // STEP_SECONDS * STEP_SECONDS
    hellos = {name: messages.client_hello(name) for name in plan.NAMES}
    for begin in range(first + STEP_SECONDS, int(end) - BURST_SECONDS, STEP_SECONDS):
        burst = _Burst(begin_us=begin * _US, random=random.Random(seed + begin), hellos=hellos)  # noqa: S311
        local = time.localtime(begin)
        burst.fill(local.tm_hour + local.tm_min / 60)
        yield burst.blocks()


@dataclass(slots=True)
class _Burst:
    """Ten seconds."""

    begin_us: int
    random: random.Random
    hellos: dict[str, bytes]
    packets: list[tuple[int, bytes]] = field(default_factory=list)  # when; its block

    def fill(self, hour: float) -> None:
        bustle = plan.bustle(hour)
        for _ in range(round(_VISITS * bustle)):
            self._visit(self.random.randrange(len(plan.PEOPLE)), bustle)
        for host in plan.APPS:
            self._ask(host, round(_QUERIES * (0.3 + bustle)))
        if bustle > 0.4:
            self._download(plan.PEOPLE[7], plan.CINEMA, round(_FILM_OCTETS * bustle), 9.0)
        if _COPY_HOURS[0] <= hour < _COPY_HOURS[1]:
            self._copy()
        if any(abs(hour - one) < STEP_SECONDS / 7200 for one in _SCAN_HOURS):
            self._scan()

    def blocks(self) -> bytes:
        self.packets.sort(key=lambda packet: packet[0])
        return b"".join(block for _, block in self.packets)

    def _visit(self, number: int, bustle: float) -> None:
        (site,) = self.random.choices(plan.SITES, [one.weight for one in plan.SITES])
        octets = max(300, int(site.octets * 16 * self.random.lognormvariate(0, 0.9)))
        self._download(plan.person(number, site), site, min(octets, 40_000_000), self.random.uniform(0.3, 4))
        if self.random.random() < 0.15:
            self._resolve(self._moment(), plan.PEOPLE[number], self.random.choice(plan.MISSING))

    def _download(self, host: str, site: plan.Site, octets: int, seconds: float) -> None:
        at = self._moment(9.5 - seconds)
        at = self._resolve(at, plan.PEOPLE[0] if ":" in host else host, site.name)
        request = self.hellos[site.name]
        if site.port == plan.HTTP_PORT:
            request = f"GET /{octets} HTTP/1.1\r\nHost: {site.name}\r\n\r\n".encode()
        out = _Line(src=host, dst=site.address, src_port=self._port(), dst_port=site.port)
        self._converse(at, out, request, octets=octets, seconds=seconds)

    def _resolve(self, at: int, host: str, name: str) -> int:
        kind = messages.AAAA if ":" in plan.NAMES.get(name, "") else messages.A
        query = messages.question(self.random.randrange(1 << 16), name, kind)
        out = _Line(src=host, dst=plan.RESOLVER, src_port=self._port(), dst_port=plan.DNS_PORT)
        self._udp(at, out, query)
        at += int(self.random.lognormvariate(-5, 0.8) * _US)
        self._udp(at, out.back, messages.answer(query, plan.NAMES.get(name)))
        return at + 300

    def _converse(self, at: int, out: "_Line", request: bytes, *, octets: int, seconds: float) -> None:
        """From the handshake to the last FIN: a request, and its answer in `seconds`."""
        back, trip = out.back, self.random.randint(4_000, 40_000)
        self._tcp(at, out, _SYN)
        self._tcp(at + trip, back, _SYN_ACK)
        self._tcp(at + trip + 50, out, _ACK)
        self._tcp(at + trip + 90, out, _PUSH_ACK, octets=len(request), payload=request)
        count = -(-octets // _LARGEST)
        for number in range(count):
            moment = at + 2 * trip + int(seconds * _US * number / count)
            self._tcp(moment, back, _PUSH_ACK, octets=min(_LARGEST, octets - number * _LARGEST))
            if number % 8 == 0:
                self._tcp(moment + 60, out, _ACK)
        end = at + 2 * trip + int(seconds * _US)
        self._tcp(end, out, _FIN_ACK)
        self._tcp(end + trip, back, _FIN_ACK)
        self._tcp(end + trip + 40, out, _ACK)

    def _ask(self, host: str, queries: int) -> None:
        """Of a connection that stays."""
        port = 40_000 + plan.APPS.index(host)
        out = _Line(src=host, dst=plan.DATABASE, src_port=port, dst_port=plan.POSTGRESQL_PORT)
        for _ in range(queries):
            at, rows = self._moment(), 30 * self.random.paretovariate(1.2)
            self._tcp(at, out, _PUSH_ACK, octets=64 * 30)
            self._tcp(at + 900, out.back, _PUSH_ACK, octets=min(_LARGEST, int(91 * rows)))

    def _copy(self) -> None:
        out = _Line(src=plan.FILES, dst=plan.BACKUP, src_port=self._port(), dst_port=plan.SSH_PORT)
        count = _COPY_OCTETS // _LARGEST
        for number in range(count):
            at = self.begin_us + BURST_SECONDS * _US * number // count
            self._tcp(at, out, _ACK, octets=_LARGEST)
            if number % 8 == 0:
                self._tcp(at + 200, out.back, _ACK)

    def _scan(self) -> None:
        for host in plan.PEOPLE:
            for port in plan.SCANNED_PORTS:
                at, into = self._moment(), _Line(src=plan.SCANNER, dst=host, src_port=self._port(), dst_port=port)
                self._tcp(at, into, _SYN)
                self._tcp(at + 30, into.back, _RESET_ACK)

    def _moment(self, most: float = 9.5) -> int:
        return self.begin_us + int(self.random.uniform(0, most) * _US)

    def _port(self) -> int:
        return self.random.randrange(32_768, 61_000)

    def _tcp(self, at: int, line: "_Line", flags: int, *, octets: int = 0, payload: bytes = b"") -> None:
        """A segment of so many octets, of which `payload` is captured."""
        segment = line.ports + struct.pack(">IIBBHHH", 1, 1, 0x50, flags, 64_240, 0, 0) + payload
        self._add(at, line, _frame(line, _TCP, 20 + octets, segment), octets - len(payload))

    def _udp(self, at: int, line: "_Line", payload: bytes) -> None:
        segment = line.ports + struct.pack(">HH", 8 + len(payload), 0) + payload
        self._add(at, line, _frame(line, _UDP, len(segment), segment), 0)

    def _add(self, at: int, line: "_Line", frame: bytes, left_out: int) -> None:
        """An enhanced packet block with its direction."""
        way = _OUT if line.src in plan.OFFICE_ADDRESSES else _IN
        head = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFF_FFFF, len(frame), len(frame) + left_out)
        options = struct.pack("<HHIHH", 2, 4, way, 0, 0)
        self.packets.append((at, _framed(6, head + frame + bytes(-len(frame) % 4) + options)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One way of a conversation."""

    src: str
    dst: str
    src_port: int
    dst_port: int

    @property
    def back(self) -> "_Line":
        """The other way."""
        return _Line(src=self.dst, dst=self.src, src_port=self.dst_port, dst_port=self.src_port)

    @property
    def ports(self) -> bytes:
        """As TCP and UDP begin."""
        return struct.pack(">HH", self.src_port, self.dst_port)


def _frame(line: _Line, protocol: int, octets: int, segment: bytes) -> bytes:
    """Ethernet and IP headers of a packet with so many octets behind them, and of these the first."""
    src, dst = ip_address(line.src).packed, ip_address(line.dst).packed
    if len(src) == 16:
        return _MACS + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, octets, protocol, 64) + src + dst + segment
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + octets, 0, 0x4000, 64, protocol, 0)
    return _MACS + b"\x08\0" + head + src + dst + segment


def _head() -> bytes:
    """Section header and interface description: Ethernet, microseconds, its name."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    name = plan.WATCHED.encode()
    interface = (
        struct.pack("<HHI", 1, 0, 0) + struct.pack("<HH", 2, len(name)) + name + bytes(-len(name) % 4) + bytes(4)
    )
    return _framed(0x0A0D0D0A, section) + _framed(1, interface)


def _framed(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
