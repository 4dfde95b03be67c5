from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DecodeError
from schemas.batches import check
from schemas.packets import BARE_SYN
from streams.windowing.keys import KEY
from streams.windowing.rows import COLUMNS, Rows
from streams.windowing.windows import COMPACT_ROWS, Piece, StraddlesOffset, Window, from_offset, split
from tests.unit.streams.batches import SECOND, Packet, batch, coalesced

START = 1_800_000_000
packets = st.builds(
    Packet,
    time_ns=st.integers(0, 20 * SECOND).map(lambda ns: START * SECOND + ns),
    src_port=st.integers(1, 5),
    packets=st.integers(1, 50),
    bytes=st.integers(0, 2**50),
    tcp_flags=st.integers(0, 0x1FF),
)


@given(st.lists(packets, max_size=60), st.sampled_from([1, 2, 7, 10, 3600]), st.integers(0, 60))
def test_windows_hold_what_a_simple_count_finds(some: list[Packet], seconds: int, begin: int) -> None:
    made = batch(some)
    wanted: dict[tuple[int, int], list[int]] = {}
    for packet in some[begin:]:
        window = packet.time_ns // SECOND // seconds * seconds
        at = packet.time_ns - window * SECOND
        entry = wanted.setdefault((window, packet.src_port), [0, 0, 0, at, at])
        entry[0] += packet.packets
        entry[1] += packet.bytes
        entry[2] |= packet.tcp_flags
        entry[3], entry[4] = min(entry[3], at), max(entry[4], at)
    found = {}
    for share in split(made, seconds, begin):
        for i, flow in enumerate(share.rows.keys.tolist()):
            found[share.window, int(made.flows.src_port[flow])] = [
                int(share.rows.packets[i]),
                int(share.rows.bytes[i]),
                int(share.rows.tcp_flags[i]) & 0x1FF,
                int(share.rows.first_ns[i]),
                int(share.rows.last_ns[i]),
            ]
    assert found == wanted


entries = st.builds(
    Packet,
    time_ns=st.integers(0, 20 * SECOND).map(lambda ns: START * SECOND + ns),
    src_port=st.integers(1, 3),
    packets=st.integers(1, 50),
    bytes=st.integers(0, 2**40),
    tcp_flags=st.sampled_from([0, 2, 16, 18, 18 | BARE_SYN, 1]),
    duration_ns=st.integers(0, SECOND),
    ttl=st.integers(1, 64),
    max_ttl=st.integers(64, 255),
    min_packet_bytes=st.integers(60, 100),
    max_packet_bytes=st.integers(100, 1514),
)


@given(st.lists(entries, min_size=1, max_size=40), st.sampled_from([1, 7, 10]), st.integers(0, 20))
def test_coalesced_entries_bring_their_own_ends_ttls_sizes_and_flags(
    some: list[Packet], seconds: int, begin: int
) -> None:
    made = coalesced(some)
    wanted: dict[tuple[int, int], list[int]] = {}
    for entry in some[begin:]:
        window = entry.time_ns // SECOND // seconds * seconds
        at = entry.time_ns - window * SECOND
        last = min(at + entry.duration_ns, seconds * SECOND - 1)
        bare = BARE_SYN if entry.tcp_flags & 18 == 2 else 0
        new = [at, last, entry.ttl, entry.max_ttl, entry.min_packet_bytes, entry.max_packet_bytes]
        old = wanted.setdefault((window, entry.src_port), [*new, 0])
        merged = [merge(a, b) for merge, a, b in zip((min, max) * 3, new, old, strict=False)]
        wanted[window, entry.src_port] = [*merged, old[-1] | entry.tcp_flags | bare]
    names = ("first_ns", "last_ns", "min_ttl", "max_ttl", "min_packet_bytes", "max_packet_bytes", "tcp_flags")
    found = {
        (share.window, int(made.flows.src_port[flow])): [int(getattr(share.rows, name)[i]) for name in names]
        for share in split(made, seconds, begin)
        for i, flow in enumerate(share.rows.keys.tolist())
    }
    assert found == wanted


def test_a_packet_at_the_boundary_is_in_the_later_window() -> None:
    made = batch([Packet(time_ns=(START + 10) * SECOND - 1), Packet(time_ns=(START + 10) * SECOND)])
    assert [(share.window, int(share.rows.packets.sum())) for share in split(made, 10)] == [(START, 1), (START + 10, 1)]


def test_few_packets_of_a_large_dictionary_are_found() -> None:
    made = batch([Packet(time_ns=START * SECOND, src_port=port) for port in range(1, 400)])
    (share,) = split(
        replace(
            made,
            flow=made.flow[-3:],
            time_offset_ns=made.time_offset_ns[-3:],
            packets=made.packets[-3:],
            bytes=made.bytes[-3:],
            tcp_flags=made.tcp_flags[-3:],
            ttl=made.ttl[-3:],
            tos=made.tos[-3:],
            segment_bytes=made.segment_bytes[-3:],
        ),
        10,
    )
    assert made.flows.src_port[share.rows.keys].tolist() == [397, 398, 399]


def test_sums_beyond_a_double_are_exact() -> None:
    made = batch([Packet(time_ns=START * SECOND, bytes=2**62), Packet(time_ns=START * SECOND, bytes=1)])
    (share,) = split(made, 10)
    assert share.rows.bytes.tolist() == [2**62 + 1]


@pytest.mark.parametrize("time_ns", [-1, 2**32 * SECOND])
def test_a_time_that_cannot_be_stored_is_refused(time_ns: int) -> None:
    with pytest.raises(DecodeError, match="1970"):
        check(batch([Packet(time_ns=time_ns)]))
    with pytest.raises(DecodeError, match="1970"):
        check(batch([], clock_ns=time_ns))


@pytest.mark.parametrize("base_ns", [-(2**63), 2**63 - 1])
def test_times_that_add_up_to_what_can_be_stored_do_not_overflow(base_ns: int) -> None:
    made = batch([Packet(time_ns=START * SECOND)])
    wrong = replace(made, base_ns=base_ns)
    with pytest.raises(DecodeError, match="1970"):
        check(wrong)


@pytest.mark.parametrize(
    ("name", "values"), [("bytes", [2**62, 2**62]), ("bytes", [2**50, 1]), ("packets", [2**31 - 1] * 2**20)]
)
def test_sums_that_nobody_can_have_seen_are_refused(name: str, values: list[int]) -> None:
    """Those of two entries may be below zero."""
    one = batch([Packet(time_ns=START * SECOND)])
    places = np.zeros(len(values), np.intp)
    columns = {each: getattr(one, each)[places] for each in ("flow", "time_offset_ns", "packets", "bytes")}
    many = replace(one, **columns | {name: np.array(values, columns[name].dtype)})
    with pytest.raises(DecodeError, match=f"more {name} than"):
        check(many)


def _rows(n: int, first: int = 0) -> Rows:
    keys = np.zeros(n, KEY)
    keys["node"] = np.arange(first, first + n) % 1000
    return Rows(keys=keys, **{name: np.ones(n, kind) for name, kind in COLUMNS.items()})


def test_a_window_of_recurring_flows_is_compacted_and_keeps_its_totals() -> None:
    window = Window(START)
    for offset in range(12):
        window.add(offset, _rows(COMPACT_ROWS // 10))
    assert window.compactable
    window.compact()
    (piece,) = window
    assert (piece.first_offset, piece.last_offset, len(piece.rows)) == (0, 11, 1000)
    assert int(piece.rows.packets.sum()) == 12 * (COMPACT_ROWS // 10)
    assert not window.compactable


def test_compacted_rows_cannot_be_divided() -> None:
    pieces = (Piece(first_offset=3, last_offset=5, rows=_rows(1)), Piece(first_offset=6, last_offset=6, rows=_rows(1)))
    assert from_offset(pieces, 3) == pieces
    assert from_offset(pieces, 6) == pieces[1:]
    with pytest.raises(StraddlesOffset):
        from_offset(pieces, 5)


def test_all_flags_of_a_flow_are_kept() -> None:
    made = batch([Packet(time_ns=START * SECOND, tcp_flags=flag) for flag in (1, 2, 16, 256)])
    (share,) = split(made, 10)
    assert Counter(share.rows.tcp_flags.tolist()) == {1 | 2 | 16 | 256 | 1 << 15: 1}
