"""The fields of a flow record as people name them in filters, columns and output."""

import socket
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What the values of a field are."""

    ADDRESS = "an IP address or network, such as 10.0.0.1 or 2001:db8::/32"
    NUMBER = "a number"
    PORT = "a port, such as 443 or https"
    PROTOCOL = "a protocol: tcp, udp, icmp, icmp6, sctp or an IANA number"
    DIRECTION = "ingress or egress"
    TUNNEL = "none, vxlan, geneve, gre, ipip or gtpu"
    TEXT = "a name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `columns` has two entries where the field stands for either side of the flow."""

    name: str
    kind: Kind
    doc: str
    columns: tuple[str, ...]
    sql_type: str  # ClickHouse type of a parameter compared with it
    largest: int = 0  # of a NUMBER, PORT or PROTOCOL
    measure: bool = False  # summed over revisions: compared after the sum
    raw: bool = False  # only the raw windows have it, not the rollups
    live: bool = True  # connections of the live view have it

    @property
    def either(self) -> bool:
        """Whether it stands for either side."""
        return len(self.columns) > 1

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that filters may use with it."""
        match self.kind:
            case Kind.NUMBER | Kind.PORT:
                return "=", "!=", "<", "<=", ">", ">=", "in", "not in"
            case Kind.TEXT:
                return "=", "!=", "~", "!~", "in", "not in"
        return "=", "!=", "in", "not in"


def _field(
    name: str,
    kind: Kind,
    sql_type: str,
    doc: str,
    *columns: str,
    largest: int = 0,
    measure: bool = False,
    raw: bool = False,
    live: bool = True,
) -> Field:
    return Field(
        name=name,
        kind=kind,
        doc=doc,
        columns=columns or (name,),
        sql_type=sql_type,
        largest=largest,
        measure=measure,
        raw=raw or measure,
        live=live,
    )


_COUNT = 2**64 - 1
FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        _field("node", Kind.TEXT, "String", "Node that saw the flow"),
        _field("interface", Kind.TEXT, "String", "Interface on which it was seen"),
        _field("direction", Kind.DIRECTION, "String", "Direction in which packets from src to dst passed"),
        _field(
            "primary",
            Kind.NUMBER,
            "UInt8",
            "1: totals count it; 0: the packets are on another interface too",
            largest=1,
            live=False,
        ),
        _field("protocol", Kind.PROTOCOL, "UInt8", "IANA protocol, by name or number", largest=255),
        _field("addr", Kind.ADDRESS, "IPv6", "Address of either side", "src_addr", "dst_addr"),
        _field("src_addr", Kind.ADDRESS, "IPv6", "Address of the initiator"),
        _field("dst_addr", Kind.ADDRESS, "IPv6", "Address of the responder"),
        _field("port", Kind.PORT, "UInt16", "Port of either side", "src_port", "dst_port", largest=65_535, raw=True),
        _field("src_port", Kind.PORT, "UInt16", "Port of the initiator, or 0", largest=65_535, raw=True),
        _field("dst_port", Kind.PORT, "UInt16", "Port of the responder, or 0", largest=65_535),
        _field("vlan_id", Kind.NUMBER, "UInt16", "Outer 802.1Q tag, or 0", largest=4_095),
        _field("icmp_type", Kind.NUMBER, "UInt8", "ICMP type from src to dst", largest=255),
        _field("icmp_code", Kind.NUMBER, "UInt8", "ICMP code from src to dst", largest=255),
        _field("tunnel_type", Kind.TUNNEL, "String", "Tunnel that the packets were taken out of, or none", raw=True),
        _field(
            "tunnel_id", Kind.NUMBER, "UInt32", "VNI, GRE key or TEID of the tunnel, or 0", largest=2**32 - 1, raw=True
        ),
        _field(
            "outer_addr",
            Kind.ADDRESS,
            "IPv6",
            "Address of either end of the tunnel",
            "outer_src_addr",
            "outer_dst_addr",
            raw=True,
        ),
        _field("outer_src_addr", Kind.ADDRESS, "IPv6", "Source address of the tunnel, from src to dst", raw=True),
        _field("outer_dst_addr", Kind.ADDRESS, "IPv6", "Destination address of the tunnel, from src to dst", raw=True),
        _field("community_id", Kind.TEXT, "String", "Community ID v1, seed 0", raw=True, live=False),
        _field("window_seconds", Kind.NUMBER, "UInt16", "Length of the window", largest=3_600, raw=True, live=False),
        _field("packets", Kind.NUMBER, "UInt64", "Packets from src to dst", largest=_COUNT, measure=True),
        _field("bytes", Kind.NUMBER, "UInt64", "Bytes from src to dst", largest=_COUNT, measure=True),
        _field("packets_rev", Kind.NUMBER, "UInt64", "Packets from dst to src", largest=_COUNT, measure=True),
        _field("bytes_rev", Kind.NUMBER, "UInt64", "Bytes from dst to src", largest=_COUNT, measure=True),
        _field(
            "tcp_flags", Kind.NUMBER, "UInt16", "All TCP flags from src to dst", largest=511, measure=True, live=False
        ),
        _field(
            "tcp_flags_rev",
            Kind.NUMBER,
            "UInt16",
            "All TCP flags from dst to src",
            largest=511,
            measure=True,
            live=False,
        ),
        *(
            _field(name + way, Kind.NUMBER, kind, f"{doc} {side}", largest=largest, measure=True, live=False)
            for name, kind, largest, doc in (
                ("min_ttl", "UInt8", 255, "Lowest TTL or hop limit"),
                ("max_ttl", "UInt8", 255, "Highest TTL or hop limit"),
                ("dscp", "UInt8", 63, "DSCP of the first packet"),
                ("min_packet_bytes", "UInt32", 2**32 - 1, "Smallest packet"),
                ("max_packet_bytes", "UInt32", 2**32 - 1, "Largest packet"),
            )
            for way, side in (("", "from src to dst"), ("_rev", "from dst to src"))
        ),
    )
}
ALIASES = {"ip": "addr"}
"""Other words for a field."""

_PROTOCOLS = {
    "tcp": 6,
    "udp": 17,
    "icmp": 1,
    "icmp6": 58,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "sctp": 132,
    "udplite": 136,
    "igmp": 2,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "dccp": 33,
    "ospf": 89,
    "vrrp": 112,
    "ipip": 4,
}
_SHORT = {number: name for name, number in reversed(_PROTOCOLS.items())}
_SERVICES = {
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "dns": 53,
    "domain": 53,
    "dhcp": 67,
    "tftp": 69,
    "http": 80,
    "kerberos": 88,
    "pop3": 110,
    "ntp": 123,
    "imap": 143,
    "snmp": 161,
    "bgp": 179,
    "ldap": 389,
    "https": 443,
    "smb": 445,
    "syslog": 514,
    "submission": 587,
    "ldaps": 636,
    "imaps": 993,
    "pop3s": 995,
    "mqtt": 1883,
    "nfs": 2049,
    "mysql": 3306,
    "rdp": 3389,
    "vxlan": 4789,
    "sip": 5060,
    "mdns": 5353,
    "postgresql": 5432,
    "amqp": 5672,
    "redis": 6379,
    "http-alt": 8080,
    "clickhouse": 8123,
    "kafka": 9092,
    "elasticsearch": 9200,
    "wireguard": 51820,
}


def protocol_number(name: str) -> int | None:
    """The IANA number of a protocol's name (ours, then the system's /etc/protocols); None when unknown."""
    known = _PROTOCOLS.get(name.lower())
    if known is not None:
        return known
    try:
        return socket.getprotobyname(name)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def protocol_name(number: int) -> str:
    """A short name for people; the number where there is none."""
    return _SHORT.get(number, str(number))


def protocol_names() -> list[str]:
    """The names that always work."""
    return list(_PROTOCOLS)


def service_port(name: str) -> int | None:
    """The port of a service's name (ours, then the system's /etc/services); None when unknown."""
    known = _SERVICES.get(name.lower())
    if known is not None:
        return known
    try:
        return socket.getservbyname(name)
    except (OSError, ValueError):
        return None


def service_names() -> dict[str, int]:
    """The services that always work, with their ports."""
    return dict(_SERVICES)


_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE")


def tcp_flag_names(flags: int) -> str:
    """TCP flags by name, in the order of their bits; empty for 0."""
    return " ".join(name for bit, name in enumerate(_FLAGS) if flags >> bit & 1)
