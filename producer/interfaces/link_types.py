"""What stands before the IP header of a device's packets, by the type that the kernel gives it (ARPHRD_…). Pure.

A device of a type that is in neither set has a header that the kernel program does not know (InfiniBand, IEEE 802.15.4,
CAN, monitors of WLAN, netlink, …): to read it as Ethernet would give addresses that were never on the wire.
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


def link_flags(link_type: int) -> int:
    """Of struct interface: how packets of a device of this type are to be read."""
    if link_type in _ETHERNET:
        return 0
    return NO_ETHERNET if link_type in _NOTHING else UNKNOWN_LINK
