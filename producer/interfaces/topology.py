"""Which of several passages of a packet on a node is the one that totals count (`primary`). Pure.

A packet passes several interfaces of a node when one stands on another, when it is forwarded, or when two namespaces
are joined. The rules, each of which leaves one passage primary:

1. An interface that stands on others (bridge, bond, team, VLAN, macvlan, ipvlan) is not primary when all of those are
   watched: what passes it passes one of them. When only some are watched it stays primary: better twice than never.
2. Of the two ends of a veth pair, both watched, one is primary: the one in our own namespace; else, or when both
   are, the one with the lower namespace and ifindex.
3. What is received by a loopback interface was sent by it: only egress is primary.
4. A packet that leaves and that has come in by a watched interface of the same namespace is not primary where it
   leaves. The kernel program sees this for each packet; the rules above are for interfaces.

What a tunnel carries is another packet than the one that carries it: both are primary.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from producer.interfaces.rtnetlink import Link
from schemas.packets import EGRESS, INGRESS

_RECEIVED = 1 << INGRESS
_BOTH = _RECEIVED | 1 << EGRESS
_ON_PORTS = {"bridge", "bond", "team"}
_ON_ONE = {"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"}

Place = tuple[int, int]
"""Namespace (a number of ours, 0: our own) and ifindex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All interfaces that are known, watched or not."""

    links: Mapping[Place, Link]
    namespaces: Mapping[tuple[int, int], int]  # (a namespace, its number for another) -> our number for the other

    def stands_on(self, place: Place) -> list[Place]:
        """The interfaces through which all passes that passes this one."""
        namespace, ifindex = place
        link = self.links[place]
        if link.kind in _ON_PORTS:
            return [
                (other, i) for (other, i), port in self.links.items() if other == namespace and port.master == ifindex
            ]
        below = self.linked(place) if link.kind in _ON_ONE else None
        return [below] if below else []

    def linked(self, place: Place) -> Place | None:
        """What `link` points to; None: nothing that we know."""
        link = self.links[place]
        if not link.link:
            return None
        namespace = place[0]
        if link.link_nsid is not None:
            other = self.namespaces.get((namespace, link.link_nsid))
            if other is None:
                return None
            namespace = other
        return (namespace, link.link) if (namespace, link.link) in self.links else None


def elsewhere(world: World, watched: Iterable[Place]) -> dict[Place, int]:
    """Of each watched interface, the directions in which nothing is primary: 1 << INGRESS | 1 << EGRESS."""
    watched = set(watched)
    found = {}
    for place in watched:
        link = world.links[place]
        below = world.stands_on(place)
        if below and all(each in watched for each in below):
            found[place] = _BOTH
        elif link.loopback:
            found[place] = _RECEIVED
        else:
            other = world.linked(place) if link.kind == "veth" else None
            found[place] = _BOTH if other in watched and other is not None and other < place else 0
    return found
