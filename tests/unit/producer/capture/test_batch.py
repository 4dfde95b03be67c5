"""Events to batches: grouping, epochs, ICMP, times."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.capture.batch import Source, Span, build, full_epochs
from producer.capture.testing import records
from producer.kernel.abi import BUSY, DISCARDED, NO_ICMP_TYPE, RECORD
from schemas.packets import PacketBatch

SOURCE = Source(node="n", ring_id=7, interfaces=((9, "eth9"), (3, "eth3")))


def batch_of(rows: list[dict[str, Any]], *, start: int = 0) -> PacketBatch:
    made = records(rows)
    return build(
        Span(start=start, end=start + len(made) * RECORD.itemsize, records=made),
        source=SOURCE,
        first_epoch=1,
        boundaries=(),
        offset_ns=1_000_000,
        sequence=4,
        clock_ns=77,
        counters=(),
    ).batch


rows = st.lists(
    st.fixed_dictionaries(
        {
            "ktime_ns": st.integers(0, 10**12),
            "slot": st.sampled_from([3, 9]),
            "direction": st.integers(0, 1),
            "src": st.sampled_from([np.zeros(16, np.uint8), np.arange(16, dtype=np.uint8)]),
            "src_port": st.sampled_from([0, 1, 2, 255, NO_ICMP_TYPE]),
            "dst_port": st.sampled_from([0, 255]),
            "protocol": st.sampled_from([1, 6, 17, 58]),
            "vlan_id": st.sampled_from([0, 4095]),
            "packets": st.integers(1, 65_535),
            "bytes": st.integers(0, 2**32 - 1),
            "flags": st.integers(0, 1),
            "epoch": st.integers(1, 2),
        }
    ),
    max_size=40,
)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    icmp = row["protocol"] in {1, 58}
    kind = -1 if row["src_port"] == NO_ICMP_TYPE else row["src_port"]
    ports = (0, 0, kind, row["dst_port"]) if icmp else (row["src_port"], row["dst_port"], 0, 0)
    name = {3: "eth3", 9: "eth9"}[row["slot"]]
    rest = (*ports, row["vlan_id"], 1 - row["flags"], row["epoch"])
    return (name, row["direction"], row["protocol"], row["src"].tobytes(), *rest)


@given(rows)
def test_sums_by_flow_and_epoch_are_those_of_counting_one_by_one(made: list[dict[str, Any]]) -> None:
    for row in made:
        row["flow_hash"] = hash((row["slot"], *(v for v in _key(row)[1:-1]))) & (2**64 - 1)
    batch = batch_of(made)
    wanted: Counter[Any] = Counter()
    for row in made:
        wanted[_key(row), "packets"] += row["packets"]
        wanted[_key(row), "bytes"] += row["bytes"]
    found: Counter[Any] = Counter()
    f = batch.flows
    for i, packets, size in zip(batch.flow, batch.packets, batch.bytes, strict=True):
        key = (
            batch.interface_names[f.interface[i]],
            int(f.direction[i]),
            int(f.protocol[i]),
            f.src_addr[i].tobytes(),
            int(f.src_port[i]),
            int(f.dst_port[i]),
            int(f.icmp_type[i]),
            int(f.icmp_code[i]),
            int(f.vlan_id[i]),
            int(f.primary[i]),
            int(f.epoch[i]),
        )
        found[key, "packets"] += int(packets)
        found[key, "bytes"] += int(size)
    assert found == wanted
    assert len(f) == len({_key(row) for row in made})


def test_times_count_from_the_earliest_event() -> None:
    batch = batch_of([{"ktime_ns": 500}, {"ktime_ns": 300}, {"ktime_ns": 900}])
    assert batch.base_ns == 1_000_300
    assert batch.time_offset_ns.tolist() == [200, 0, 600]


def test_an_empty_batch_carries_the_clock() -> None:
    batch = batch_of([], start=800)
    assert (len(batch), len(batch.flows), batch.ring_start, batch.ring_end) == (0, 0, 800, 800)
    assert (batch.clock_ns, batch.base_ns, batch.sequence) == (77, 77, 4)


def test_discarded_records_take_room_and_are_no_packets() -> None:
    made = records([{"bytes": 1}, {"bytes": 2}, {"bytes": 3}])
    made["header"][1] |= DISCARDED
    events = build(
        Span(start=160, end=400, records=made),
        source=SOURCE,
        first_epoch=1,
        boundaries=[],
        offset_ns=0,
        sequence=0,
        clock_ns=0,
        counters=(),
    )
    assert events.batch.bytes.tolist() == [1, 3]
    assert list(events.ring_position) == [160, 320]
    assert (events.batch.ring_start, events.batch.ring_end) == (160, 400)


@pytest.mark.parametrize("header", [71, 72 | BUSY])
def test_a_record_that_is_no_event_is_refused(header: int) -> None:
    made = records([{}])
    made["header"] = header
    with pytest.raises(ValueError, match="not packet events"):
        build(
            Span(start=0, end=80, records=made),
            source=SOURCE,
            first_epoch=1,
            boundaries=[],
            offset_ns=0,
            sequence=0,
            clock_ns=0,
            counters=(),
        )


def _epochs(low: list[int], **kwargs: Any) -> list[int]:
    positions = range(0, len(low) * RECORD.itemsize, RECORD.itemsize)
    return [int(e) for e in full_epochs(np.array(low, np.uint8), positions, np.arange(len(low)), **kwargs)]


def test_an_event_before_the_end_of_an_epoch_is_of_it_or_of_the_next() -> None:
    assert _epochs([0x34, 0x35, 0x34, 0x35], first=0x1234, boundaries=[240]) == [0x1234, 0x1235, 0x1234, 0x1235]


def test_low_bits_wrap() -> None:
    assert _epochs([0xFF, 0x00, 0x00], first=0x2FF, boundaries=[160]) == [0x2FF, 0x300, 0x300]


def test_any_number_of_epochs_may_have_been_closed_since() -> None:
    boundaries = [80 * (i // 300 + 1) for i in range(900)]  # 300 epochs end behind each of three events
    assert _epochs([1, (301) & 0xFF, (601) & 0xFF], first=1, boundaries=boundaries) == [1, 301, 601]


def test_an_epoch_that_cannot_be_at_its_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be"):
        _epochs([3], first=1, boundaries=[])
