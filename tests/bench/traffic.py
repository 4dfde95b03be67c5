"""Packets as the ring holds them, made up: the input of the benchmarks that need no kernel."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from producer.capture.batch import Source, Span, build
from producer.kernel.abi import EVENT, RECORD, Records
from schemas.packets import PacketBatch

BATCH = 16_384
BEGIN_NS = 1_800_000_000_000_000_000
_MIX = 0x9E3779B97F4A7C15
_SOURCE = Source(node="bench", ring_id=1, interfaces=((0, "eth0"),))
I64 = npt.NDArray[np.int64]


def records(flow: I64, time_ns: I64, octets: I64) -> Records:
    """Ring records of packets: each one's flow number, time and length; both directions of a flow are two numbers.

    TCP between 10.0.0.0/8 and 192.0.2.0/24; an odd number is the answer to the even one before it.
    """
    made = np.zeros(len(flow), RECORD)
    made["header"] = EVENT.itemsize
    event = made["event"]
    event["ktime_ns"] = time_ns
    event["flow_hash"] = flow.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    conversation, answer = flow >> 1, (flow & 1).astype(np.bool_)
    client, server = np.zeros((len(flow), 16), np.uint8), np.zeros((len(flow), 16), np.uint8)
    for address in (client, server):
        address[:, 10:12] = 255
    spread = conversation * 2_654_435_761 % (1 << 32)
    client[:, 12] = 10
    client[:, 13:16] = (spread[:, None] >> np.array([16, 8, 0])) & 255
    server[:, 12:15] = (192, 0, 2)
    server[:, 15] = conversation % 200
    event["src"] = np.where(answer[:, None], server, client)
    event["dst"] = np.where(answer[:, None], client, server)
    client_port, server_port = 32_768 + conversation % 28_000, 443
    event["src_port"] = np.where(answer, server_port, client_port)
    event["dst_port"] = np.where(answer, client_port, server_port)
    event["direction"] = answer
    event["bytes"], event["packets"], event["protocol"], event["ttl"] = octets, 1, 6, np.where(answer, 57, 64)
    event["tcp_flags"], event["epoch"] = 0x10, 1
    return made


def batch(made: Records, sequence: int, clock_ns: int) -> PacketBatch:
    """As the producer cuts it."""
    start = sequence * BATCH * RECORD.itemsize
    span = Span(start=start, end=start + len(made) * RECORD.itemsize, records=made)
    return build(
        span,
        source=_SOURCE,
        first_epoch=1,
        boundaries=[],
        offset_ns=0,
        sequence=sequence,
        clock_ns=clock_ns,
        counters=(),
    ).batch


def batches(count: int, flows: int, *, rate: int = 1_000_000, first: int = 0) -> Iterator[PacketBatch]:
    """`count` full batches. `flows` taking turns; 0: every packet is a new flow."""
    for number in range(first, first + count):
        packets = np.arange(number * BATCH, (number + 1) * BATCH, dtype=np.int64)
        time_ns = BEGIN_NS + packets * (1_000_000_000 // rate)
        flow = packets * 2 if not flows else packets % flows * 2
        yield batch(records(flow, time_ns, 60 + packets % 1400), number, int(time_ns[-1]))


def realistic(count: int, *, flows: int = 4000, rate: int = 100_000) -> Iterator[PacketBatch]:
    """A mix like that of a server's uplink, in trains, as TCP sends: long answers of 1,514 octets and their
    acknowledgements back, between them questions of one packet. Few flows carry most (Zipf); they come and go."""
    random = np.random.default_rng(6)
    time_ns = BEGIN_NS
    for number in range(count):
        is_long = random.random(BATCH) < 0.3  # of the trains
        length = np.where(is_long, 2 + random.geometric(0.08, BATCH), 1)
        train = np.repeat(np.arange(BATCH), length)[:BATCH]  # of each packet
        place = np.arange(BATCH) - np.searchsorted(train, train)
        conversation = (random.zipf(1.3, BATCH) % flows + number * flows // 50)[
            train
        ]  # a fiftieth is new in each batch
        is_long = is_long[train]
        acknowledges = is_long & (place % 3 == 2)
        answer = np.where(is_long, ~acknowledges, random.random(BATCH)[train] < 0.5)
        gaps = np.where(
            place == 0, random.exponential(1e9 / rate * length.mean(), BATCH), 1_200 + random.integers(0, 400, BATCH)
        )
        times = time_ns + np.cumsum(gaps).astype(np.int64)
        time_ns = int(times[-1])
        octets = np.where(is_long, np.where(acknowledges, 66, 1514), 60 + random.integers(0, 400, BATCH))
        made = records(conversation.astype(np.int64) * 2 + answer, times, octets)
        flags = random.choice(np.array([0x18, 0x02, 0x12, 0x11]), BATCH, p=[0.85, 0.05, 0.05, 0.05])
        made["event"]["tcp_flags"] = np.where(is_long, 0x10, flags)
        yield batch(made, number, time_ns)


def named(batches: Iterator[PacketBatch]) -> Iterator[PacketBatch]:
    """The same batches with names: nine in ten conversations have one, most of them by TLS.

    Each server has up to eight sites, one of which half of its clients ask for; clients are some thirty programs, a
    few of which are most of them, and a program always offers the same protocol.
    """
    random = np.random.default_rng(7)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", "S1")
    words = [b"".join(random.choice(letters, length).tolist()).decode() for length in random.integers(4, 11, 3000)]
    sites = [f"{random.choice(words[:40])}.{word}.{random.choice(['com', 'net', 'org', 'de', 'io'])}" for word in words]
    ja4s = [f"t13d{number:02}16h2_{random.bytes(6).hex()}_{random.bytes(6).hex()}" for number in range(30)]
    alpns = ("h2", "http/1.1", "h3")
    for each in batches:
        flows = each.flows
        asks = flows.dst_port == 443
        client = np.where(asks[:, None], flows.src_addr, flows.dst_addr)[:, 12:].copy().view("<u4")[:, 0]
        server = np.where(asks, flows.dst_addr[:, 15], flows.src_addr[:, 15]).astype(np.int64)
        # the same of a conversation in each batch
        mixed = (client ^ np.where(asks, flows.src_port, flows.dst_port)).astype(np.uint64) * np.uint64(_MIX)
        mixed >>= np.uint64(40)
        kind, one = (mixed % 100).astype(np.int64), (mixed // 100 % 256).astype(np.int64) + 1
        program = (30 * ((mixed // 25_600 % 512) / 512) ** 3).astype(np.int64)
        site = (server * 15 + 8 - np.log2(one).astype(np.int64)) % len(sites)
        source = np.select([kind < 65, kind < 70, kind < 90], [np.where(program % 9 == 8, 3, 1), 2, 4], 0)
        used, domain = np.unique(site, return_inverse=True)
        says, tls = (source > 0) & (source < 4), (source == 1) | (source == 3)
        about = {
            "domain": np.where(source > 0, domain, -1).astype(np.int32),
            "domain_source": source.astype(np.uint8),
            "domain_count": np.select([says, source == 4], [1, 1 + kind % 3], 0).astype(np.uint16),
            "ja4": np.where(tls, program, -1).astype(np.int32),
            "alpn": np.where(tls, np.where(source == 3, 2, program % 5 == 4), -1).astype(np.int32),
        }
        domains = tuple(sites[number] for number in used.tolist())
        yield replace(each, flows=replace(flows, **about), domains=domains, ja4s=tuple(ja4s), alpns=alpns)
