import communityid
import numpy as np
from hypothesis import given

from schemas.addresses import to_text
from schemas.community_id import community_ids
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
            ports = (int(flows.icmp_type[i]), int(flows.icmp_code[i]))
        elif protocol in (6, 17, 132):
            ports = (int(flows.src_port[i]), int(flows.dst_port[i]))
        expected.append(reference.calc(communityid.FlowTuple(protocol, src, dst, *ports)))
    assert ids(flows) == expected


@given(flow_columns())
def test_both_directions_have_one_id(flows: FlowColumns) -> None:
    no_icmp = ~np.isin(flows.protocol, (1, 58))
    here, there = np.array(ids(flows)), np.array(ids(flows, reverse=True))
    assert (here[no_icmp] == there[no_icmp]).all()
