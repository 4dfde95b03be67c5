import communityid
import numpy as np
from hypothesis import given

from schemas.addresses import from_text, to_text
from schemas.community_id import ICMP, community_ids
from schemas.fields import NO_ICMP_TYPE
from schemas.flows import FlowColumns
from tests.unit.schemas.strategies import flow_columns


def ids(flows: FlowColumns, *, reverse: bool = False) -> list[str]:
    src, dst = ("dst", "src") if reverse else ("src", "dst")
    return community_ids(
        protocol=flows.protocol,
        src_addr=getattr(flows, f"{src}_addr"),
        dst_addr=getattr(flows, f"{dst}_addr"),
        src_port=getattr(flows, f"{src}_port"),
        dst_port=getattr(flows, f"{dst}_port"),
        icmp_type=flows.icmp_type,
        icmp_code=flows.icmp_code,
    )


@given(flow_columns())
def test_the_ids_are_those_of_the_reference_package(flows: FlowColumns) -> None:
    reference, expected = communityid.CommunityID(), []
    for i, (src, dst) in enumerate(zip(to_text(flows.src_addr), to_text(flows.dst_addr), strict=True)):
        protocol = int(flows.protocol[i])
        ports: tuple[int, ...] = ()
        if protocol in (1, 58):
            flows.icmp_type[i] = max(0, flows.icmp_type[i])  # without a type, the package takes none
            ports = (int(flows.icmp_type[i]), int(flows.icmp_code[i]))
        elif protocol in (6, 17, 132):
            ports = (int(flows.src_port[i]), int(flows.dst_port[i]))
        expected.append(reference.calc(communityid.FlowTuple(protocol, src, dst, *ports)))
    assert ids(flows) == expected


@given(flow_columns())
def test_both_directions_have_one_id(flows: FlowColumns) -> None:
    no_icmp = ~np.isin(flows.protocol, (1, 58)) | (flows.icmp_type == NO_ICMP_TYPE)
    here, there = np.array(ids(flows)), np.array(ids(flows, reverse=True))
    assert (here[no_icmp] == there[no_icmp]).all()


def test_icmp_without_a_type_has_the_id_that_wireshark_gives_its_fragments() -> None:
    ends, nothing = from_text(["10.0.0.1", "10.0.0.2"]), np.zeros(2, np.uint16)
    found = community_ids(
        protocol=np.full(2, ICMP, np.uint8),
        src_addr=ends,
        dst_addr=ends[::-1],
        src_port=nothing,
        dst_port=nothing,
        icmp_type=np.full(2, NO_ICMP_TYPE, np.int16),
        icmp_code=np.zeros(2, np.uint8),
    )
    assert found == ["1:47NQm4XrelhIqVCgeZCTGUPhJyo="] * 2
