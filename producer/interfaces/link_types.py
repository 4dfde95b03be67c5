"""What a device is: what stands before the IP header of its packets, and what its own counters count. Pure.

The header follows from the type that the kernel gives the device (ARPHRD_…). A device of a type that is in neither set
has one that the kernel program does not know (InfiniBand, IEEE 802.15.4, CAN, monitors of WLAN, netlink, …): to read it
as Ethernet would give addresses that were never on the wire.
"""

from producer.kernel.abi import NO_ETHERNET, UNKNOWN_LINK

_ETHERNET = frozenset({1, 772})  # ETHER, LOOPBACK
_NOTHING = frozenset(
    {
        *(256, 257, 258, 259),  # SLIP, CSLIP, SLIP6, CSLIP6
        512,  # PPP: its header is put before the packet later
        519,  # RAWIP: modems
        *(768, 769, 776),  # TUNNEL (ipip), TUNNEL6, SIT
        *(778, 823),  # IPGRE, IP6GRE; with an outer header before it where the device is made without a remote end
        821,  # PHONET_PIPE
        65534,  # NONE: tun, wireguard
    }
)

_COUNTED = frozenset(
    {
        "",  # hardware, loopback
        *("veth", "bridge", "tun", "vlan", "macvlan", "dummy"),
        *("gre", "gretap", "ipip", "sit", "ip6tnl", "ip6gre", "ip6gretap"),
    }
)


def link_flags(link_type: int) -> int:
    """Of struct interface: how packets of a device of this type are to be read."""
    if link_type in _ETHERNET:
        return 0
    return NO_ETHERNET if link_type in _NOTHING else UNKNOWN_LINK


def counts_what_passes(kind: str) -> bool:
    """Whether a device of this kind counts, in either direction, no more than what passes its hooks.

    A bond counts what its idle ports receive, wireguard its keep-alives, vxlan each copy of a flooded packet; what ifb
    and vrf receive passes no ingress hook of theirs. Of kinds that nobody has looked at, nothing is said.
    """
    return kind in _COUNTED
