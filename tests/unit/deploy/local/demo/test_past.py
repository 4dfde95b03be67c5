"""The day before a demo is a capture that others can read, of the hosts of the plan, and ends where it shall."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapNgReader

from deploy.local.demo import past, plan
from producer.replay.files.reader import read

END = 1_790_000_000.0


@pytest.fixture(scope="module")
def pieces() -> list[bytes]:
    return list(past.capture(END))


def test_a_day_is_a_piece_for_each_ten_minutes_and_not_much(pieces: list[bytes]) -> None:
    assert len(pieces) == 1 + past.HOURS * 3600 // past.STEP_SECONDS
    assert 10e6 < sum(map(len, pieces)) < 120e6


def test_the_capture_is_read_by_ours_and_by_another_reader_alike(pieces: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "past.pcapng"
    file.write_bytes(b"".join([pieces[0], *pieces[75:81]]))
    ours = Counter[str]()
    for frames in read(str(file)):
        ours["packets"] += len(frames.time_ns)
        ours["octets"] += int(frames.wire.sum())
    others, hosts, last = Counter[str](), set(), 0.0
    with RawPcapNgReader(str(file)) as reader:
        for octets, meta in cast("Iterable[tuple[bytes, Any]]", reader):
            others["packets"] += 1
            others["octets"] += meta.wirelen
            assert meta.ifname == plan.WATCHED.encode()
            layer = IPv6(octets[14:]) if octets[12:14] == b"\x86\xdd" else IP(octets[14:])
            assert layer.haslayer(TCP) or layer.haslayer(UDP)
            hosts |= {layer.src, layer.dst}
            last = max(last, ((meta.tshigh << 32) + meta.tslow) / 1e6)
    assert ours == others
    assert ours["packets"] > 1000
    assert hosts <= {*plan.OFFICE_ADDRESSES, *plan.WORLD_ADDRESSES}
    assert END - past.HOURS * 3600 < last < END


def test_it_is_the_same_again_and_nothing_of_it_is_in_the_future(pieces: list[bytes], tmp_path: Path) -> None:
    assert [len(one) for one in islice(past.capture(END), 20)] == [len(one) for one in pieces[:20]]  # but for TLS
    file = tmp_path / "past.pcapng"
    file.write_bytes(pieces[0] + pieces[1] + pieces[-1])
    times = [int(time) for frames in read(str(file)) for time in frames.time_ns]
    assert min(times) >= (END - past.HOURS * 3600) * 1e9
    assert max(times) <= END * 1e9


def test_most_goes_on_in_the_afternoon_and_nobody_s_address_is_used() -> None:
    assert max(range(24), key=plan.bustle) in {14, 15}
    assert plan.bustle(3) < 0.1
    documented = ("10.", "fd20:", "192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")
    assert all(one.startswith(documented) for one in (*plan.OFFICE_ADDRESSES, *plan.WORLD_ADDRESSES))
    assert all(name.endswith(".example") or name == "shop.example" for name in (*plan.NAMES, *plan.MISSING))
