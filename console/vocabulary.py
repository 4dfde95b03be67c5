"""The fields of a flow record as people name them in filters, columns and output. Pure."""

import socket
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What the values of a field are."""

    ADDRESS = "an IP address or network, such as 10.0.0.1 or 2001:db8::/32"
    NUMBER = "a number"
    PROTOCOL = "a protocol: tcp, udp, icmp, icmp6, sctp or an IANA number"
    DIRECTION = "ingress or egress"
    TEXT = "a name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `columns` has two entries where the field stands for either side of the flow."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    sql_type: str               # ClickHouse type of a parameter compared with it
    largest: int = 0            # of a NUMBER or PROTOCOL
    measure: bool = False       # summed over revisions: compared after the sum


def _field(
    name: str, kind: Kind, sql_type: str, *columns: str, largest: int = 0, measure: bool = False
) -> Field:
    return Field(
        name=name, kind=kind, columns=columns or (name,), sql_type=sql_type, largest=largest, measure=measure
    )


FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        _field("node", Kind.TEXT, "String"),
        _field("interface", Kind.TEXT, "String"),
        _field("direction", Kind.DIRECTION, "String"),
        _field("protocol", Kind.PROTOCOL, "UInt8", largest=255),
        _field("addr", Kind.ADDRESS, "IPv6", "src_addr", "dst_addr"),
        _field("src_addr", Kind.ADDRESS, "IPv6"),
        _field("dst_addr", Kind.ADDRESS, "IPv6"),
        _field("port", Kind.NUMBER, "UInt16", "src_port", "dst_port", largest=65_535),
        _field("src_port", Kind.NUMBER, "UInt16", largest=65_535),
        _field("dst_port", Kind.NUMBER, "UInt16", largest=65_535),
        _field("vlan_id", Kind.NUMBER, "UInt16", largest=4_095),
        _field("icmp_type", Kind.NUMBER, "UInt8", largest=255),
        _field("icmp_code", Kind.NUMBER, "UInt8", largest=255),
        _field("community_id", Kind.TEXT, "String"),
        _field("window_seconds", Kind.NUMBER, "UInt16", largest=3_600),
        _field("packets", Kind.NUMBER, "UInt64", largest=2**64 - 1, measure=True),
        _field("bytes", Kind.NUMBER, "UInt64", largest=2**64 - 1, measure=True),
        _field("packets_rev", Kind.NUMBER, "UInt64", largest=2**64 - 1, measure=True),
        _field("bytes_rev", Kind.NUMBER, "UInt64", largest=2**64 - 1, measure=True),
        _field("tcp_flags", Kind.NUMBER, "UInt16", largest=511, measure=True),
        _field("tcp_flags_rev", Kind.NUMBER, "UInt16", largest=511, measure=True),
    )
}

_PROTOCOLS = {
    "tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132, "udplite": 136,
    "igmp": 2, "gre": 47, "esp": 50, "ah": 51, "dccp": 33, "ospf": 89, "vrrp": 112, "ipip": 4,
}
_SHORT = {number: name for name, number in reversed(_PROTOCOLS.items())}


def protocol_number(name: str) -> int | None:
    """The IANA number of a protocol's name (ours, then the system's /etc/protocols); None when unknown."""
    known = _PROTOCOLS.get(name.lower())
    if known is not None:
        return known
    try:
        return socket.getprotobyname(name)
    except OSError:
        return None


def protocol_name(number: int) -> str:
    """A short name for people; the number where there is none."""
    return _SHORT.get(number, str(number))


def protocol_names() -> list[str]:
    """The names that always work."""
    return list(_PROTOCOLS)


_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")


def tcp_flag_names(flags: int) -> str:
    """TCP flags by name, in the order of their bits; empty for 0."""
    return " ".join(name for bit, name in enumerate(_FLAGS) if flags >> bit & 1)
