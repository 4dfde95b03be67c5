from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import to_text
from streams.windowing.biflow import merge
from streams.windowing.initiators import Initiators
from streams.windowing.keys import pack
from streams.windowing.rows import Rows, compact, concatenate
from streams.windowing.tunnels import Tunnels
from streams.windowing.windows import split
from tests.unit.streams.batches import SECOND, Packet, batch

START = 1_800_000_000
A, B = "10.0.0.1", "10.0.0.2"
OF_A_DIRECTION = ("min_ttl", "max_ttl", "dscp", "min_packet_bytes", "max_packet_bytes")
SYN, SYN_ACK, ACK, FIN = 0x02, 0x12, 0x10, 0x01


def rows(packets: list[Packet], tunnels: Tunnels | None = None) -> Rows:
    made = batch(packets)
    numbers = (Tunnels() if tunnels is None else tunnels).numbers(made.flows)
    keys = pack(made.flows, node=0, interfaces=np.arange(len(made.interface_names), dtype=np.int32), tunnels=numbers)
    return concatenate([share.rows.packed(keys) for share in split(made, 3600)])


def flows(packets: list[Packet]) -> list[dict[str, Any]]:
    """The flows as dictionaries, in the order of their ends."""
    interfaces = tuple(dict.fromkeys(packet.interface for packet in packets))
    tunnels = Tunnels()
    made = merge(
        rows(packets, tunnels),
        window_begin=START,
        window_seconds=3600,
        node_names=("n1",),
        interface_names=interfaces,
        tunnels=tunnels.table(),
        initiators=Initiators(),
    )
    src, dst = to_text(made.src_addr), to_text(made.dst_addr)
    outer_src, outer_dst = to_text(made.outer_src_addr), to_text(made.outer_dst_addr)
    numbers = (
        "direction",
        "primary",
        "protocol",
        "src_port",
        "dst_port",
        "vlan_id",
        "icmp_type",
        "icmp_code",
        "tunnel_type",
        "tunnel_id",
        "packets",
        "bytes",
        "packets_rev",
        "bytes_rev",
        "tcp_flags",
        "tcp_flags_rev",
        *(name + way for name in OF_A_DIRECTION for way in ("", "_rev")),
        "first_offset_us",
        "last_offset_us",
    )
    found = [
        {
            "src": src[i],
            "dst": dst[i],
            "outer_src": outer_src[i],
            "outer_dst": outer_dst[i],
            "interface": interfaces[made.interface[i]],
            **{name: int(getattr(made, name)[i]) for name in numbers},
        }
        for i in range(len(made))
    ]
    return sorted(found, key=lambda flow: (flow["src"], flow["src_port"], flow["interface"], flow["direction"]))


def there(ns: int = 0, **fields: Any) -> Packet:
    return Packet(**{"time_ns": START * SECOND + ns, "src": A, "dst": B, **fields})


def back(packet: Packet, ns: int = 0, **fields: Any) -> Packet:
    return replace(
        packet,
        time_ns=START * SECOND + ns,
        src=packet.dst,
        dst=packet.src,
        src_port=packet.dst_port,
        dst_port=packet.src_port,
        direction=1 - packet.direction,
        **fields,
    )


def test_both_directions_become_one_flow() -> None:
    packet = there(bytes=100, tcp_flags=SYN)
    (flow,) = flows([packet, back(packet, 2000, bytes=50, tcp_flags=SYN_ACK), replace(packet, tcp_flags=ACK | FIN)])
    assert (flow["src"], flow["dst"], flow["direction"]) == (A, B, 0)
    assert (flow["packets"], flow["bytes"], flow["packets_rev"], flow["bytes_rev"]) == (2, 200, 1, 50)
    assert (flow["tcp_flags"], flow["tcp_flags_rev"]) == (SYN | ACK | FIN, SYN_ACK)
    assert (flow["first_offset_us"], flow["last_offset_us"]) == (0, 2)


def test_each_direction_has_its_own_ttl_dscp_and_packet_sizes() -> None:
    first = there(5, ttl=60, tos=0xB9, bytes=100)
    packets = [
        there(9, ttl=64, tos=0, bytes=1500),
        first,
        there(7, ttl=61, bytes=4300, packets=3, segment_bytes=1500),
        back(first, 8, ttl=255, tos=0x20, bytes=60),
    ]
    (flow,) = flows(packets)
    assert [flow[name] for name in OF_A_DIRECTION] == [60, 64, 46, 100, 1500]
    assert [flow[name + "_rev"] for name in OF_A_DIRECTION] == [255, 255, 8, 60, 60]


def test_a_direction_without_packets_has_zeros() -> None:
    (flow,) = flows([there(ttl=1, tos=4, bytes=60)])
    assert [flow[name] for name in OF_A_DIRECTION] == [1, 1, 1, 60, 60]
    assert [flow[name + "_rev"] for name in OF_A_DIRECTION] == [0] * 5


@pytest.mark.parametrize(
    ("packets", "size", "segment", "found"),
    [
        (1, 1514, 0, (1514, 1514)),
        (3, 3100, 1500, (100, 1500)),
        (2, 3000, 1500, (1500, 1500)),
        (3, 3100, 0, (1033, 1034)),  # not known: taken to be equal
        (3, 2000, 1500, (666, 667)),  # cannot be: likewise
        (1, 2**40, 0, (2**32 - 1, 2**32 - 1)),
    ],
)
def test_sizes_within_a_super_packet(packets: int, size: int, segment: int, found: tuple[int, int]) -> None:
    (flow,) = flows([there(packets=packets, bytes=size, segment_bytes=segment)])
    assert (flow["min_packet_bytes"], flow["max_packet_bytes"]) == found


def test_primary_packets_and_others_stay_apart_with_the_same_ends() -> None:
    ask = there(0, src_port=9000, dst_port=5000, tcp_flags=SYN, primary=1)
    answer = back(ask, 5, tcp_flags=SYN_ACK, bytes=90, primary=0)
    found = flows([answer, ask, back(ask, 6, tcp_flags=SYN, primary=0)])
    assert [(f["src"], f["src_port"], f["direction"]) for f in found] == [(A, 9000, 0)] * 2
    assert sorted((f["packets"], f["packets_rev"]) for f in found) == [(0, 2), (1, 0)]


def test_the_sender_of_a_syn_is_the_source_whatever_the_ports_and_the_order() -> None:
    packet = there(100, src_port=80, dst_port=50000, tcp_flags=SYN)
    (flow,) = flows([back(packet, 0, tcp_flags=SYN_ACK), packet])
    assert (flow["src"], flow["src_port"]) == (A, 80)


def test_of_two_syns_the_earlier_counts() -> None:
    packet = there(100, tcp_flags=SYN)
    (flow,) = flows([packet, back(packet, 50, tcp_flags=SYN)])
    assert (flow["src"], flow["src_port"], flow["direction"]) == (B, 443, 1)


@pytest.mark.parametrize(
    ("low", "high", "source"),
    [
        (53, 1024, "high"),
        (1023, 1024, "high"),
        (8080, 40000, "high"),
        (32767, 32768, "high"),
        (775, 2049, "low"),
        (2049, 775, "high"),
        (5000, 6000, "low"),
        (40000, 50000, "low"),
        (50000, 40000, "low"),
        (53, 123, "low"),
        (0, 0, "low"),
    ],
)
@pytest.mark.parametrize("protocol", [6, 17, 132])
def test_without_a_syn_the_ports_or_the_addresses_decide_and_never_who_sends_first(
    low: int, high: int, source: str, protocol: int
) -> None:
    from_low = there(10, protocol=protocol, src_port=low, dst_port=high, tcp_flags=ACK)
    for packets in ([from_low, back(from_low, 20)], [back(from_low, 0), from_low], [from_low], [back(from_low)]):
        (flow,) = flows(packets)
        assert flow["src"] == (B if source == "high" else A)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"interface": "eth1"},
        {"direction": 1},
        {"vlan_id": 7},
        {"primary": 0},
        {"tunnel_type": 1, "tunnel_id": 77, "outer_src": "10.9.0.2", "outer_dst": "2001:db8:9::1"},
    ],
)
def test_a_connection_has_one_source_on_all_interfaces_in_and_outside_of_tunnels(elsewhere: dict[str, Any]) -> None:
    syn = there(0, src_port=22, dst_port=50000, tcp_flags=SYN)
    answer = back(syn, 5, tcp_flags=SYN_ACK)
    found = flows([syn, replace(answer, **elsewhere)])
    assert [(flow["src"], flow["src_port"]) for flow in found] == [(A, 22)] * len(found)
    assert sum(flow["packets"] + flow["packets_rev"] for flow in found) == 2


@pytest.mark.parametrize(("protocol", "ask", "answer"), [(1, 8, 0), (1, 13, 14), (58, 128, 129), (58, 135, 136)])
def test_a_question_and_its_answer_are_one_flow_from_the_side_that_asks(protocol: int, ask: int, answer: int) -> None:
    question = there(10, protocol=protocol, src_port=0, dst_port=0, icmp_type=ask)
    reply = back(question, 0, icmp_type=answer)
    (flow,) = flows([reply, question])
    assert (flow["src"], flow["icmp_type"], flow["packets"], flow["packets_rev"]) == (A, ask, 1, 1)
    (flow,) = flows([reply])
    assert (flow["src"], flow["icmp_type"], flow["packets"], flow["packets_rev"]) == (A, ask, 0, 1)


def test_two_pings_that_cross_stay_apart() -> None:
    question = there(0, protocol=1, src_port=0, dst_port=0, icmp_type=8)
    other = back(question, 1)
    found = flows([question, other, back(question, 2, icmp_type=0), back(other, 3, icmp_type=0)])
    assert [(flow["src"], flow["packets"], flow["packets_rev"]) for flow in found] == [(A, 1, 1), (B, 1, 1)]


def test_icmp_without_an_answer_is_never_merged_with_its_mirror_image() -> None:
    error = there(0, protocol=1, src_port=0, dst_port=0, icmp_type=3, icmp_code=1)
    found = flows([error, back(error, 1)])
    assert [(flow["src"], flow["packets"], flow["packets_rev"], flow["icmp_code"]) for flow in found] == [
        (A, 1, 0, 1),
        (B, 1, 0, 1),
    ]


@pytest.mark.parametrize("protocol", [1, 58])
def test_icmp_without_a_type_is_one_flow_both_ways_by_the_rule_of_addresses_and_no_ping(protocol: int) -> None:
    fragment = there(0, protocol=protocol, src_port=0, dst_port=0, icmp_type=-1)
    expected = [(A, -1, 1, 1)]
    for some in ([fragment, back(fragment, 1)], [back(fragment, 0), replace(fragment, time_ns=fragment.time_ns + 9)]):
        found = flows(some)
        assert [(f["src"], f["icmp_type"], f["packets"], f["packets_rev"]) for f in found] == expected
    reply = replace(fragment, icmp_type=0 if protocol == 1 else 129)
    last = replace(fragment, icmp_type=255)
    assert sorted(f["icmp_type"] for f in flows([fragment, reply, last])) == [-1, 8 if protocol == 1 else 128, 255]


def test_a_forwarded_packet_is_two_flows_on_one_interface() -> None:
    packet = there(0)
    found = flows([packet, replace(packet, direction=1)])
    assert [flow["direction"] for flow in found] == [0, 1]


def test_vlan_interface_and_protocol_tell_flows_apart() -> None:
    packet = there(0)
    assert (
        len(
            flows([packet, replace(packet, vlan_id=5), replace(packet, interface="eth1"), replace(packet, protocol=17)])
        )
        == 4
    )


def test_a_connection_with_itself_is_one_flow_for_each_direction() -> None:
    packet = there(0, dst=A, src_port=5, dst_port=5)
    assert [(f["direction"], f["packets"]) for f in flows([packet, replace(packet, direction=1)])] == [(0, 1), (1, 1)]


VIA: dict[str, Any] = {"tunnel_type": 1, "tunnel_id": 77, "outer_src": "10.9.0.2", "outer_dst": "2001:db8:9::1"}
BACK_VIA = VIA | {"outer_src": VIA["outer_dst"], "outer_dst": VIA["outer_src"]}


@pytest.mark.parametrize("first", ["10.0.0.1", "10.0.0.3"])  # below and above the other end
def test_both_directions_through_a_tunnel_are_one_flow_with_the_tunnel_of_the_packets_from_src(first: str) -> None:
    ask = there(0, src=first, **VIA)
    (flow,) = flows([ask, replace(back(ask, 5), **BACK_VIA)])
    assert (flow["src"], flow["packets"], flow["packets_rev"]) == (first, 1, 1)
    assert {name: flow[name] for name in VIA} == VIA


def test_a_tunnel_between_an_address_and_itself_has_no_direction() -> None:
    loop = VIA | {"outer_src": "10.9.0.2", "outer_dst": "10.9.0.2"}
    ask = there(0, **loop)
    (flow,) = flows([ask, replace(back(ask, 5), **loop)])
    assert {name: flow[name] for name in loop} == loop


@pytest.mark.parametrize(
    "other",
    [
        {},
        VIA | {"tunnel_type": 2},
        VIA | {"tunnel_id": 78},
        VIA | {"outer_src": "10.9.0.3"},
        VIA | {"outer_dst": "::2"},
    ],
)
def test_what_another_tunnel_carries_is_another_flow(other: dict[str, Any]) -> None:
    ask = there(0, **VIA)
    answer = replace(back(ask, 5), tunnel_type=0, tunnel_id=0, outer_src="::", outer_dst="::")
    turned = other | {"outer_src": other["outer_dst"], "outer_dst": other["outer_src"]} if other else {}
    found = flows([ask, replace(answer, **turned)])
    assert sorted((flow["packets"], flow["packets_rev"]) for flow in found) == [(0, 1), (1, 0)]


addresses = st.sampled_from([A, B, "10.0.0.3", "2001:db8::1", "ff02::1"])
packets = st.builds(
    Packet,
    time_ns=st.integers(0, 3_599_999).map(lambda ms: START * SECOND + ms * 1_000_000),
    src=addresses,
    dst=addresses,
    src_port=st.sampled_from([0, 22, 53, 5000, 40000, 50000]),
    dst_port=st.sampled_from([0, 22, 53, 5000, 40000, 50000]),
    protocol=st.sampled_from([1, 6, 17, 58]),
    direction=st.integers(0, 1),
    primary=st.integers(0, 1),
    vlan_id=st.integers(0, 1),
    icmp_type=st.sampled_from([-1, 0, 3, 8, 128, 129, 255]),
    packets=st.integers(1, 100),
    bytes=st.integers(0, 2**40),
    ttl=st.integers(0, 255),
    tos=st.integers(0, 255),
    segment_bytes=st.sampled_from([0, 60, 1514]),
    tcp_flags=st.sampled_from([0, SYN, SYN_ACK, ACK, FIN]),
    interface=st.sampled_from(["eth0", "eth1"]),
    tunnel_type=st.integers(0, 2),
    tunnel_id=st.integers(0, 1),
    outer_src=st.sampled_from(["10.9.0.1", "2001:db8:9::1"]),
    outer_dst=st.sampled_from(["10.9.0.1", "2001:db8:9::1"]),
).map(lambda p: p if p.tunnel_type else replace(p, tunnel_id=0, outer_src="::", outer_dst="::"))


@given(st.lists(packets, max_size=40), st.randoms(use_true_random=False))
def test_merging_keeps_all_totals_and_does_not_depend_on_the_order(some: list[Packet], random: Any) -> None:
    found = flows(some)
    for direction in (0, 1):
        for what in ("packets", "bytes"):
            own = sum(f[what] for f in found if f["direction"] == direction)
            reverse = sum(f[f"{what}_rev"] for f in found if f["direction"] != direction)
            assert own + reverse == sum(getattr(p, what) for p in some if p.direction == direction)
    ends = [
        (
            f["src"],
            f["dst"],
            f["src_port"],
            f["dst_port"],
            f["protocol"],
            f["vlan_id"],
            f["interface"],
            f["direction"],
            f["primary"],
            f["icmp_type"],
            f["icmp_code"],
            f["tunnel_type"],
            f["tunnel_id"],
            f["outer_src"],
            f["outer_dst"],
        )
        for f in found
    ]
    assert len(set(ends)) == len(ends)
    shuffled = random.sample(some, len(some))
    names = tuple(sorted({p.interface for p in some}))
    assert _by_name(flows(shuffled), names) == _by_name(found, names)


def _by_name(found: list[dict[str, Any]], _: tuple[str, ...]) -> set[tuple[Any, ...]]:
    return {tuple(sorted(flow.items())) for flow in found}


@given(st.lists(packets, max_size=30))
def test_compacting_before_merging_changes_nothing(some: list[Packet]) -> None:
    tunnels = Tunnels()

    def merged(these: Rows) -> list[tuple[Any, ...]]:
        made = merge(
            these,
            window_begin=START,
            window_seconds=3600,
            node_names=("n1",),
            interface_names=("a", "b"),
            tunnels=tunnels.table(),
            initiators=Initiators(),
        )
        columns = (
            made.interface,
            made.direction,
            made.primary,
            made.protocol,
            made.src_port,
            made.dst_port,
            made.packets,
            made.bytes,
            made.packets_rev,
            made.bytes_rev,
            made.tcp_flags,
            made.tcp_flags_rev,
            *(getattr(made, name + way) for name in OF_A_DIRECTION for way in ("", "_rev")),
            made.first_offset_us,
            made.tunnel_id,
        )
        return sorted(zip(to_text(made.src_addr), to_text(made.dst_addr), *(c.tolist() for c in columns), strict=True))

    assert merged(compact(rows(some, tunnels))) == merged(rows(some, tunnels))
