"""Numbers of tunnels: kept while in use, one for both ways, bounded."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import to_text
from schemas.packets import FlowKeys
from streams.partition.state import Partition
from streams.partition.storing import Known
from streams.windowing.tunnels import Tunnels, columns, reverse
from tests.unit.streams.batches import SECOND, Packet, batch

ends = st.sampled_from(["10.0.0.1", "10.0.0.2", "0.0.0.0", "2001:db8::1", "2001:db8::", "::", "ff00::"])
packets = st.builds(
    Packet,
    time_ns=st.just(0),
    tunnel_type=st.integers(0, 5),
    tunnel_id=st.sampled_from([0, 1, 256, 2**32 - 1]),
    outer_src=ends,
    outer_dst=ends,
).map(lambda p: p if p.tunnel_type else Packet(time_ns=0))


def shown(flows: FlowKeys) -> list[tuple[object, ...]]:
    return list(
        zip(
            flows.tunnel_type.tolist(),
            flows.tunnel_id.tolist(),
            to_text(flows.outer_src_addr),
            to_text(flows.outer_dst_addr),
            strict=True,
        )
    )


@given(st.lists(st.lists(packets, max_size=12), max_size=4))
def test_a_number_stands_for_its_tunnel_and_way(batches: list[list[Packet]]) -> None:
    tunnels = Tunnels()
    made = [batch(some).flows for some in batches]
    numbers = [tunnels.numbers(flows) for flows in made]
    for flows, of_flows in zip(made, numbers, strict=True):
        found = columns(tunnels.table(), of_flows)
        turned = columns(tunnels.table(), reverse(of_flows))
        for name in found:
            assert np.array_equal(found[name], getattr(flows, name)), name
        assert np.array_equal(turned["outer_src_addr"], found["outer_dst_addr"])
        assert np.array_equal(turned["outer_dst_addr"], found["outer_src_addr"])
        assert np.array_equal(reverse(reverse(of_flows)), of_flows)
    pairs = {
        (of, number)
        for flows, of_flows in zip(made, numbers, strict=True)
        for of, number in zip(shown(flows), of_flows.tolist(), strict=True)
    }
    assert len(pairs) == len({of for of, _ in pairs}) == len({number for _, number in pairs})


def through(*ids: int) -> FlowKeys:
    return batch(
        [Packet(time_ns=0, tunnel_type=1, tunnel_id=i, outer_src="10.9.0.1", outer_dst="10.9.0.2") for i in ids]
    ).flows


def test_tunnels_that_are_not_in_use_are_forgotten_and_the_others_keep_their_numbers() -> None:
    tunnels = Tunnels(many=100)
    used = tunnels.numbers(through(7, 8))
    table = tunnels.table()
    for first in range(1000, 100_000, 50):
        tunnels.numbers(through(*range(first, first + 50)))
        if tunnels.crowded:
            tunnels.keep(used)
    assert len(tunnels) <= 150
    assert len(tunnels.table()) <= 512
    assert tunnels.numbers(through(7, 8)).tolist() == used.tolist()
    for each in (table, tunnels.table()):
        assert columns(each, used)["tunnel_id"].tolist() == [7, 8]


def test_a_table_may_grow_with_what_is_in_use() -> None:
    tunnels = Tunnels(many=10)
    used = tunnels.numbers(through(*range(100)))
    crowded = tunnels.crowded
    tunnels.keep(used)
    assert (crowded, tunnels.crowded) == (True, False)
    assert columns(tunnels.table(), used)["tunnel_id"].tolist() == list(range(100))


def test_a_partition_forgets_the_tunnels_of_windows_that_are_stored() -> None:
    state = Partition(0, position=0, window_seconds=10, node_timeout_seconds=10)
    state.tunnels = Tunnels(many=4)
    for second in range(0, 400, 10):
        made = [
            Packet(time_ns=second * SECOND + i, tunnel_type=1, tunnel_id=second + i, outer_src="::1", outer_dst="::2")
            for i in range(2)
        ]
        state.take(state.position, batch(made, ring_start=second * 16, clock_ns=(second + 10) * SECOND), 0.0)
        (job,) = state.due(0.0)
        rows = [piece.rows for piece in job.pieces]
        ids = [i for part in rows for i in columns(job.tunnels, part.keys["tunnel"])["tunnel_id"].tolist()]
        assert sorted(ids) == [job.window.start, job.window.start + 1]
        state.stored(job, Known(1, job.offset_end))
    assert len(state.tunnels) <= 8
