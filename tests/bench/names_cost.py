"""The producer's part of names, in a process of its own: python -m tests.bench.names_cost DNS_A_SECOND HELLOS_A_SECOND.

Copies as the kernel makes them are read, put on the flows of their packets and sent; each second has clients, names and
flows of its own. Prints CPU seconds a second, and by how many MB the process grew since it loaded what reads names.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from producer.capture.batch import Source, Span, build
from producer.inspection.pending import Origin
from producer.kafka.outbox import Message
from producer.kernel.abi import COPY, COPY_KINDS, RECORD
from producer.kernel.ring import Copies
from schemas.avro.names import NameEncoder
from schemas.avro.registry import FixedRegistry
from schemas.names import NameBatch
from schemas.packets import PacketBatch
from tests.kernel.name_frames import answer, query
from tests.unit.producer.names.making import client_hello, records

SECONDS, LOOKS, SECOND = 12, 4, 1_000_000_000
_KIND = {name: number for number, name in enumerate(COPY_KINDS)}
_MAPPED = bytes(10) + b"\xff\xff"


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def _address(number: int, *, client: bool) -> bytes:
    return _MAPPED + bytes([10 if client else 198, number >> 16 & 255, number >> 8 & 255, number & 255])


def _copies(second: int, look: int, dns: int, hellos: int, place: int) -> tuple[Copies, PacketBatch]:
    """A quarter of a second: copies, and the batch of their packets."""
    heads, payloads = np.zeros(2 * dns + hellos, COPY), list[bytes]()
    base = second * SECOND + look * SECOND // LOOKS
    for at in range(dns):
        number = (second * LOOKS + look) * dns + at
        name, client = f"host{number % 50_000}.service.example.com", _address(number % 5_000, client=True)
        for side, (payload, src, dst) in enumerate(
            ((query(name), client, _address(1, client=False)), (answer(name), _address(1, client=False), client))
        ):
            port = 20_000 + number % 40_000
            ports = (53, port) if side else (port, 53)
            heads[2 * at + side] = _head(base + at * 1000 + side * 500, src, dst, *ports, len(payload), "DNS", 17)
            payloads.append(payload)
    for at in range(hellos):
        number = (second * LOOKS + look) * hellos + at
        payload = records(client_hello(f"host{number % 50_000}.service.example.com".encode(), padding=200))
        src, dst = _address(number % 5_000, client=True), _address(number % 9_000, client=False)
        heads[2 * dns + at] = _head(base + at * 2000, src, dst, 20_000 + number % 40_000, 443, len(payload), "TLS", 6)
        payloads.append(payload)
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    offsets = np.cumsum(lengths) - lengths
    copies = Copies(
        start=place, end=place + 4_096 * len(heads), heads=heads, octets=memoryview(b"".join(payloads)),
        offsets=offsets, places=place + 4_096 * np.arange(len(heads)),
    )  # fmt: skip
    return copies, _batch(heads)


def _head(
    time_ns: int, src: bytes, dst: bytes, sport: int, dport: int, octets: int, kind: str, protocol: int
) -> np.void:
    head = np.zeros(1, COPY)
    head["ktime_ns"], head["src"], head["dst"] = time_ns, np.frombuffer(src, np.uint8), np.frombuffer(dst, np.uint8)
    head["src_port"], head["dst_port"], head["protocol"], head["kind"] = sport, dport, protocol, _KIND[kind]
    head["payload_bytes"] = head["copied"] = octets
    found: np.void = head[0]
    return found


def _batch(heads: np.ndarray[tuple[int], np.dtype[np.void]]) -> PacketBatch:
    rows = np.zeros(len(heads), RECORD)
    rows["header"] = RECORD["event"].itemsize
    event = rows["event"]
    for name in ("ktime_ns", "src", "dst", "src_port", "dst_port", "protocol"):
        event[name] = heads[name]
    event["flow_hash"], event["packets"], event["bytes"], event["epoch"] = np.arange(len(heads)), 1, 100, 1
    source = Source(node="n", ring_id=1, interfaces=((0, "eth0"),))
    span = Span(start=0, end=len(rows) * RECORD.itemsize, records=rows)
    return build(
        span, source=source, first_epoch=1, boundaries=[], offset_ns=0, sequence=0, clock_ns=1, counters=()
    ).batch


def _looks(dns: int, hellos: int) -> Iterator[tuple[int, list[tuple[Copies, PacketBatch]]]]:
    place = 0
    for second in range(1, SECONDS + 1):
        made = []
        for look in range(LOOKS):
            made.append(_copies(second, look, dns // LOOKS, hellos // LOOKS, place))
            place = made[-1][0].end
        yield second, made


def main() -> None:
    dns, hellos = (int(each) for each in sys.argv[1:])
    encoder = NameEncoder(FixedRegistry())

    def encode(batch: NameBatch) -> Message:
        return Message(topic="names", value=encoder.encode(batch))

    prepared = list(_looks(dns, hellos))
    before, used = _rss_mb(), 0.0
    from common.settings import NamesSettings
    from producer.inspection.opening import OpenedNames

    reading = OpenedNames(NamesSettings()).reading(0)
    named, octets = 0, 0
    for second, made in prepared:
        begin = time.process_time()
        for copies, batch in made:
            reading.add(copies)
            reading.expire(second * SECOND)
            named += int((reading.named(batch, 0).flows.domain >= 0).sum())
            origin = Origin(node="n", ring_id=1, interfaces={0: "eth0"}, offset_ns=0, clock_ns=second * SECOND)
            octets += sum(len(message.value) for message in reading.take(origin, encode))
        used += time.process_time() - begin
    print(json.dumps({"cpu": used / SECONDS, "mb": _rss_mb() - before, "named": named, "octets": octets}))


if __name__ == "__main__":
    main()
