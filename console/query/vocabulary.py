"""The fields of a flow record as people name them in filters, columns and output."""

import socket
from dataclasses import dataclass

from schemas import fields as table
from schemas.fields import Kind, Role

_EXPECTED = {
    Kind.ADDRESS: "an IP address or network, such as 10.0.0.1 or 2001:db8::/32",
    Kind.NUMBER: "a number",
    Kind.PORT: "a port, such as 443 or https",
    Kind.PROTOCOL: "a protocol: tcp, udp, icmp, icmp6, sctp or an IANA number",
    Kind.TEXT: "a name",
    Kind.DOMAIN: "a domain, such as www.example.org, or .example.org for it and all below it",
}
_AS = {Kind.NAME: Kind.TEXT, Kind.FLAG: Kind.NUMBER}
"""How a filter takes kinds that it does not know."""
NOT_STORED = "reverse"
"""A source of names that the console puts beside flows when it shows them: no filter sees it."""
_SQL_TYPES = {Kind.NAME: "String", Kind.CHOICE: "String", Kind.FLAG: "UInt8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. `columns` has two entries where the field stands for either side of the flow."""

    name: str
    kind: Kind  # ADDRESS, NUMBER, PORT, PROTOCOL, CHOICE, DOMAIN or TEXT
    doc: str
    columns: tuple[str, ...]
    sql_type: str  # ClickHouse type of a parameter compared with it
    choices: tuple[str, ...] = ()
    smallest: int = 0  # of a NUMBER, PORT or PROTOCOL
    largest: int = 0  # likewise
    measure: bool = False  # merged over revisions: compared after the merge
    raw: bool = False  # only the raw windows have it, not the rollups
    live: bool = True  # connections of the live view have it

    @property
    def either(self) -> bool:
        """Whether it stands for either side."""
        return len(self.columns) > 1

    @property
    def expected(self) -> str:
        """What its values are, for people."""
        if not self.choices:
            return _EXPECTED[self.kind]
        *most, last = (choice or '""' for choice in self.choices)
        return f"{', '.join(most)} or {last}"

    @property
    def dimension(self) -> bool:
        """Whether flows may be grouped by it."""
        return not self.measure or self.kind is not Kind.NUMBER

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators that filters may use with it."""
        match self.kind:
            case Kind.NUMBER | Kind.PORT:
                return "=", "!=", "<", "<=", ">", ">=", "in", "not in"
            case Kind.TEXT | Kind.DOMAIN:
                return "=", "!=", "~", "!~", "in", "not in"
        return "=", "!=", "in", "not in"


def _words(field: table.Field) -> list[Field]:
    """The words for a field of the table: one, or one for each direction."""
    sides = (" from src to dst", " from dst to src") if field.both_ways else ("",)
    measure = field.role is Role.MEASURE
    return [
        Field(
            name=name,
            kind=_AS.get(field.kind, field.kind),
            doc=field.doc + side,
            columns=(name,),
            sql_type=_SQL_TYPES.get(field.kind, field.type.clickhouse),
            choices=tuple(choice for choice in field.choices if choice != NOT_STORED),
            smallest=field.smallest,
            largest=field.largest,
            measure=measure,
            raw=measure or not field.in_rollups,
            live=field.live,
        )
        for name, side in zip(field.names, sides, strict=True)
    ]


def _either(name: str, doc: str, one: Field, other: Field) -> Field:
    return Field(
        name=name,
        kind=one.kind,
        doc=doc,
        columns=(one.name, other.name),
        sql_type=one.sql_type,
        largest=one.largest,
        raw=one.raw or other.raw,
        live=one.live,
    )


def _all() -> dict[str, Field]:
    fields = {word.name: word for field in table.FIELDS if field.filterable for word in _words(field)}
    for name, doc, pair in (
        ("addr", "Address of either side", ("src_addr", "dst_addr")),
        ("port", "Port of either side", ("src_port", "dst_port")),
        ("outer_addr", "Address of either end of the tunnel", ("outer_src_addr", "outer_dst_addr")),
    ):
        fields[name] = _either(name, doc, *(fields[side] for side in pair))
    return fields


FIELDS = _all()
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
