"""Which passage of a packet is primary."""

from producer.interfaces.rtnetlink import Link
from producer.interfaces.topology import Place, World, elsewhere

BOTH = 3


def link(ifindex: int, kind: str = "", **fields: int | bool | None) -> Link:
    known = {"ifindex": ifindex, "name": f"i{ifindex}", "type": 1, "loopback": False, "kind": kind}
    return Link(**(known | fields))  # type: ignore[arg-type]


def flags(
    links: dict[Place, Link], *watched: Place, numbers: dict[tuple[int, int], int] | None = None
) -> dict[Place, int]:
    found = elsewhere(World(links=links, namespaces=numbers or {}), watched or links)
    return {place: directions for place, directions in found.items() if directions}


def by_index(*links: Link, namespace: int = 0) -> dict[Place, Link]:
    return {(namespace, each.ifindex): each for each in links}


def test_interfaces_that_stand_side_by_side_are_all_primary() -> None:
    assert not flags(by_index(link(2), link(3), link(4, "wireguard"), link(5, "vxlan", link=2)))


def test_a_bridge_yields_to_its_ports_when_all_are_watched() -> None:
    world = by_index(link(2, master=9), link(3, master=9), link(9, "bridge"))
    assert flags(world) == {(0, 9): BOTH}
    assert not flags(world, (0, 9))
    assert not flags(world, (0, 9), (0, 2))


def test_a_bridge_without_ports_is_primary() -> None:
    assert not flags(by_index(link(9, "bridge")))


def test_a_stack_yields_down_to_its_lowest() -> None:
    ports = link(2, master=5), link(3, master=5)
    world = by_index(*ports, link(5, "bond"), link(6, "vlan", link=5), link(7, "vlan", link=6))
    assert flags(world) == {(0, 5): BOTH, (0, 6): BOTH, (0, 7): BOTH}
    assert flags(world, (0, 6), (0, 7)) == {(0, 7): BOTH}


def test_ports_of_the_same_index_in_another_namespace_are_not_the_bridges() -> None:
    world = by_index(link(9, "bridge")) | by_index(link(2, master=9), namespace=1)
    assert not flags(world)


def test_of_a_pair_one_end_yields_and_only_when_both_are_watched() -> None:
    world = by_index(link(2, "veth", link=3), link(3, "veth", link=2))
    assert flags(world) == {(0, 3): BOTH}
    assert not flags(world, (0, 3))


def test_of_a_pair_between_namespaces_ours_stays_primary() -> None:
    world = by_index(link(7, "veth", link=2, link_nsid=0)) | by_index(link(2, "veth", link=7, link_nsid=4), namespace=1)
    assert flags(world, numbers={(0, 0): 1, (1, 4): 0}) == {(1, 2): BOTH}
    assert not flags(world)  # who the other end is, is not known


def test_loopback_counts_what_it_sends() -> None:
    assert flags(by_index(link(1, loopback=True))) == {(0, 1): 1}
