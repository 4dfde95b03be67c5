import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from schemas.addresses import to_text
from schemas.flows import FlowColumns
from streams.windowing.offline import OfflineWindows
from streams.windowing.spill import Spill
from tests.unit.streams.batches import SECOND, Packet, batch

Row = tuple[object, ...]


@pytest.fixture
def spill(tmp_path: Path) -> Iterator[Spill]:
    spill = Spill(tmp_path)
    yield spill
    spill.close()


def rows(flows: FlowColumns) -> list[Row]:
    return list(
        zip(
            to_text(flows.src_addr),
            to_text(flows.dst_addr),
            flows.src_port.tolist(),
            flows.dst_port.tolist(),
            flows.packets.tolist(),
            flows.bytes.tolist(),
            flows.packets_rev.tolist(),
            flows.bytes_rev.tolist(),
            flows.tcp_flags.tolist(),
            flows.first_offset_us.tolist(),
            flows.last_offset_us.tolist(),
            [flows.interface_names[i] for i in flows.interface],
            flows.tunnel_type.tolist(),
            flows.tunnel_id.tolist(),
            to_text(flows.outer_src_addr),
            to_text(flows.outer_dst_addr),
            strict=True,
        )
    )


def windowed(batches: Sequence[Sequence[Packet]], spill: Spill, memory: int = 1 << 30) -> dict[int, list[Row]]:
    windows = OfflineWindows(window_seconds=10, store=spill, memory_bytes=memory)
    for packets in batches:
        windows.add(batch(packets))
    return {flows.window_begin: rows(flows) for flows in windows.flows()}


def traffic(seed: int, count: int) -> list[list[Packet]]:
    """Batches of random packets, quite out of order."""
    rng = random.Random(seed)
    return [
        [
            Packet(
                time_ns=rng.randrange(100) * SECOND + rng.randrange(SECOND),
                src=f"10.0.0.{rng.randrange(30)}",
                src_port=rng.randrange(40_000, 40_020),
                bytes=rng.randrange(60, 1500),
                tcp_flags=rng.choice([2, 16, 18]),
                interface=rng.choice(["eth0", "eth1"]),
            )
            for _ in range(rng.randrange(1, 60))
        ]
        for _ in range(count)
    ]


def test_windows_come_in_order_and_so_do_their_flows(spill: Spill) -> None:
    found = windowed(traffic(1, 50), spill)
    assert list(found) == sorted(found) == list(range(0, 100, 10))
    for flows in found.values():
        firsts = [row[9] for row in flows]
        assert firsts == sorted(firsts, key=lambda first: int(str(first)))


def test_totals_are_those_of_the_packets_in_each_window(spill: Spill) -> None:
    batches = traffic(2, 50)
    found = windowed(batches, spill)
    assert list(found) == list(range(0, 100, 10))
    for start, flows in found.items():
        own = [p for packets in batches for p in packets if start <= p.time_ns // SECOND < start + 10]
        assert sum(int(str(row[4])) for row in flows) == len(own)
        assert sum(int(str(row[5])) for row in flows) == sum(p.bytes for p in own)
        assert len(flows) == len({(p.src, p.src_port, p.interface) for p in own})


@pytest.mark.parametrize("memory", [0, 5_000, 50_000])
def test_little_memory_gives_the_same_flows(spill: Spill, tmp_path: Path, memory: int) -> None:
    batches = traffic(3, 80)
    small = Spill(tmp_path)
    assert windowed(batches, small, memory) == windowed(batches, spill)
    small.close()


def through_tunnels(count: int) -> list[list[Packet]]:
    """Of each flow a packet there and one back, minutes later, each through a tunnel of its own; and some outside."""

    def packet(number: int, second: int, back: int) -> Packet:
        ends, outer = ("10.0.0.1", "10.0.0.2"), (f"10.9.{number % 7}.1", f"10.8.{number % 5}.1")
        via = {"outer_src": outer[back], "outer_dst": outer[1 - back], "tunnel_type": 1, "tunnel_id": number}
        return Packet(
            time_ns=second * SECOND + number,
            src=ends[back],
            dst=ends[1 - back],
            src_port=(40_000, 443)[back],
            dst_port=(443, 40_000)[back],
            direction=back,
            **(via if number % 10 else {}),  # type: ignore[arg-type]
        )

    numbers = range(count)
    return [[packet(n, n % 3 * 10, 0) for n in numbers[at : at + 50]] for at in range(0, count, 50)] + [
        [packet(n, n % 3 * 10 + 5, 1) for n in numbers[at : at + 50]] for at in range(0, count, 50)
    ]


def test_tunnels_are_on_disk_with_their_flows(spill: Spill, tmp_path: Path) -> None:
    batches = through_tunnels(2000)
    small = Spill(tmp_path)
    windows, remembered = OfflineWindows(window_seconds=10, store=small, memory_bytes=50_000), 0
    for packets in batches:
        windows.add(batch(packets))
        remembered = max(remembered, len(windows._tunnels))
    found = {flows.window_begin: rows(flows) for flows in windows.flows()}
    small.close()
    assert found == windowed(batches, spill)
    assert sum(len(each) for each in found.values()) == 1800 + 3  # both ways of a tunnel are one flow
    assert 50 < remembered < 500  # of 1,800


def test_flows_that_begin_together_are_in_the_same_order_each_time(spill: Spill) -> None:
    packets = [Packet(time_ns=0, src=f"10.0.0.{i}", src_port=port) for i in range(20) for port in (1, 2)]
    forwards, backwards = windowed([packets], spill), windowed([packets[::-1]], spill)
    assert forwards == backwards


def test_no_packets_are_no_windows(spill: Spill) -> None:
    assert windowed([], spill) == {}
    assert windowed([[]], spill) == {}
