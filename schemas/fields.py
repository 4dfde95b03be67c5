"""The table of fields: what is known of a flow, one row a field. Pure.

What a field is called, how it is typed in memory, in Avro and in ClickHouse, how it is merged, and who may see it,
stands here and nowhere else: the columns of records, the codec, windows, the flows table's rows, merged reads and the
words of filters are made from it. The .avsc and .sql files are written by hand; tests hold them to this table.
docs/internals.md, "How to add a field", lists what else a new one touches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np

DIRECTIONS = ("ingress", "egress")
"""The texts in Avro, and the symbols of ClickHouse's Enum8, by value."""
DOMAIN_SOURCES = ("", "sni", "http", "quic", "dns", "reverse")
"""Likewise: where a flow's domain is from; empty: it has none."""
DOMAIN_RANKS = (0, 4, 3, 4, 2, 1)
"""How good each of these is: what a client says beats what it asked for before, and both what an address is called."""
TUNNEL_TYPES = ("none", "vxlan", "geneve", "gre", "ipip", "gtpu")
"""Likewise; bpf/event.h has the same numbers."""
NO_ICMP_TYPE = -1
"""The icmp_type of ICMP and ICMPv6 packets that have none: 0 is an Echo Reply's, and any octet may be on the wire.
The flows of other protocols have 0, as those without ports have ports of 0."""
MOST_NAME = 512
"""Characters of a node's or an interface's name; Linux gives an interface 15, and its namespace as many as a file."""


class Role(Enum):
    """What a field is to a flow."""

    KEY = auto()  # tells flows apart
    WINDOW = auto()  # tells the records of a flow apart
    MEASURE = auto()  # is merged over packets, and over the records of a flow
    DERIVED = auto()  # follows from others; made when it is shown
    RECORD = auto()  # likewise, and is that of one record of a flow


class Kind(Enum):
    """What its values are."""

    NAME = auto()  # a text of which there are few: an index into a list of names
    TEXT = auto()
    DOMAIN = auto()  # a DNS name in lower case, without its last dot
    ADDRESS = auto()  # 16 octets, IPv4 as ::ffff:a.b.c.d
    PORT = auto()
    PROTOCOL = auto()
    NUMBER = auto()
    FLAG = auto()  # 0 or 1
    CHOICE = auto()  # a place in `choices`
    TIME = auto()  # UTC, microseconds where it is shown


class Merge(Enum):
    """How two values of a measure become one."""

    SUM = auto()
    OR = auto()
    MIN = auto()  # 0 where there is no packet in that direction
    MAX = auto()
    FIRST = auto()  # that of the earliest packet; of several, the lowest
    BEST = auto()  # that of the highest rank of domain_source; of equals, of the last packet
    NEWEST = auto()  # that of the last packet that has one


@dataclass(frozen=True, slots=True)
class Type:
    """A type at each place."""

    avro: str
    numpy: str  # of the column in memory; an address is 16 of them
    clickhouse: str


NAME = Type("string", "<i4", "LowCardinality(String)")
TEXT = Type("string", "O", "String")
ADDRESS = Type("string", "u1", "IPv6")
FLAG = Type("boolean", "u1", "Bool")
U8 = Type("int", "u1", "UInt8")
U16 = Type("int", "<u2", "UInt16")
I16 = Type("int", "<i2", "Int16")
U32 = Type("long", "<u4", "UInt32")
COUNT = Type("long", "<i8", "UInt64")
OFFSET = Type("long", "<i8", "UInt32")  # microseconds after window_begin
SECOND = Type("timestamp-millis", "<u4", "DateTime('UTC')")
MICROS = Type("timestamp-millis", "<i8", "DateTime64(6, 'UTC')")  # engines take micros for millis, and say nothing


def _choice(symbols: tuple[str, ...]) -> Type:
    numbered = ", ".join(f"'{symbol}' = {number}" for number, symbol in enumerate(symbols))
    return Type("string", "u1", f"Enum8({numbered})")


DIRECTION = _choice(DIRECTIONS)
SOURCE = _choice(DOMAIN_SOURCES)
TUNNEL = _choice(TUNNEL_TYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a flow record."""

    name: str
    doc: str  # for people; of a measure of both directions without "from src to dst"
    role: Role
    kind: Kind
    type: Type
    choices: tuple[str, ...] = ()
    smallest: int = 0  # of a number, port or protocol
    largest: int = 0  # likewise
    merge: Merge | None = None  # of a measure
    packet: str = ""  # the column of PacketBatch that a measure is made of; see streams.windowing.windows
    both_ways: bool = False  # there is a NAME_rev, for packets from dst to src
    tunnel: bool = False  # says nothing without a tunnel: 0, :: or an empty text
    in_rollups: bool = False  # flows_1h has it, and more rollups (schemas.clickhouse.rollups)
    filterable: bool = True
    live: bool = False  # LiveStats has it
    stored: bool = True  # a column of the flows table, not an ALIAS

    @property
    def listed(self) -> bool:
        """Whether its column in memory has places in a list of texts, NAME_names."""
        return self.type == NAME

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns: one, or with that of the other direction."""
        return (self.name, f"{self.name}_rev") if self.both_ways else (self.name,)


def _largest(kind: Kind, type_: Type) -> int:
    if kind is Kind.FLAG:
        return 1
    return int(np.iinfo(type_.numpy).max) if kind in {Kind.NUMBER, Kind.PORT, Kind.PROTOCOL} else 0


def _key(name: str, kind: Kind, type_: Type, doc: str, **more: Any) -> Field:
    defaults = {"largest": _largest(kind, type_), "in_rollups": True, "live": True}
    return Field(name=name, kind=kind, type=type_, doc=doc, role=Role.KEY, **{**defaults, **more})


def _window(name: str, kind: Kind, type_: Type, doc: str, **more: Any) -> Field:
    return Field(name=name, kind=kind, type=type_, doc=doc, role=Role.WINDOW, **more)


def _measure(name: str, merge: Merge, packet: str, type_: Type, doc: str, **more: Any) -> Field:
    defaults = {"largest": _largest(Kind.NUMBER, type_), "both_ways": True}
    return Field(
        name=name, kind=Kind.NUMBER, type=type_, doc=doc, role=Role.MEASURE, merge=merge, packet=packet,
        **{**defaults, **more},
    )  # fmt: skip


def _named(name: str, kind: Kind, type_: Type, merge: Merge, doc: str, **more: Any) -> Field:
    defaults = {"largest": _largest(kind, type_)}
    return Field(name=name, kind=kind, type=type_, doc=doc, role=Role.MEASURE, merge=merge, **{**defaults, **more})


def _derived(name: str, kind: Kind, type_: Type, doc: str, **more: Any) -> Field:
    return Field(name=name, kind=kind, type=type_, doc=doc, role=Role.DERIVED, stored=False, **more)


_RAW = {"in_rollups": False}
_ICMP_TYPE = {"smallest": NO_ICMP_TYPE, "largest": 255}
_IN_TUNNEL = {"in_rollups": False, "tunnel": True}
_ROLLED_UP = {"in_rollups": True, "live": True, "largest": 2**64 - 1}
_IN_RECORD = {"both_ways": False, "filterable": False}
_LIVE_TIME = {"filterable": False, "live": True}

FIELDS = (
    _key("node", Kind.NAME, NAME, "Node that saw the flow"),
    _key("interface", Kind.NAME, NAME, "Interface on which it was seen"),
    _key("direction", Kind.CHOICE, DIRECTION, "Direction in which packets from src to dst passed", choices=DIRECTIONS),
    _key("primary", Kind.FLAG, FLAG, "1: totals count it; 0: the packets are on another interface too", live=False),
    _window("window_begin", Kind.TIME, SECOND, "Start of the window", filterable=False),
    _window("window_seconds", Kind.NUMBER, U16, "Length of the window", largest=3_600),
    _key("protocol", Kind.PROTOCOL, U8, "IANA protocol, by name or number"),
    _key("src_addr", Kind.ADDRESS, ADDRESS, "Address of the initiator"),
    _key("dst_addr", Kind.ADDRESS, ADDRESS, "Address of the responder"),
    _key("src_port", Kind.PORT, U16, "Port of the initiator, or 0", **_RAW),
    _key("dst_port", Kind.PORT, U16, "Port of the responder, or 0"),
    _key("vlan_id", Kind.NUMBER, U16, "Outer 802.1Q tag, or 0", largest=4_095),
    _key("icmp_type", Kind.NUMBER, I16, "ICMP type from src to dst; -1: none, as in later fragments", **_ICMP_TYPE),
    _key("icmp_code", Kind.NUMBER, U8, "ICMP code from src to dst, or 0"),
    _key("tunnel_type", Kind.CHOICE, TUNNEL, "Tunnel that the packets were in, or none", choices=TUNNEL_TYPES, **_RAW),
    _key("tunnel_id", Kind.NUMBER, U32, "VNI, GRE key or TEID of the tunnel, or 0", **_IN_TUNNEL),
    _key("outer_src_addr", Kind.ADDRESS, ADDRESS, "Source address of the tunnel, from src to dst", **_IN_TUNNEL),
    _key("outer_dst_addr", Kind.ADDRESS, ADDRESS, "Destination address of the tunnel, from src to dst", **_IN_TUNNEL),
    _measure("packets", Merge.SUM, "packets", COUNT, "Packets", **_ROLLED_UP),
    _measure("bytes", Merge.SUM, "bytes", COUNT, "Bytes", **_ROLLED_UP),
    _measure("tcp_flags", Merge.OR, "tcp_flags", U16, "All TCP flags", largest=0x1FF, in_rollups=True),
    _measure("min_ttl", Merge.MIN, "ttl", U8, "Lowest TTL or hop limit"),
    _measure("max_ttl", Merge.MAX, "max_ttl", U8, "Highest TTL or hop limit"),
    _measure("dscp", Merge.FIRST, "tos", U8, "DSCP of the first packet", largest=63),
    _measure("min_packet_bytes", Merge.MIN, "min_packet_bytes", U32, "Smallest packet"),
    _measure("max_packet_bytes", Merge.MAX, "max_packet_bytes", U32, "Largest packet"),
    _measure("first_offset_us", Merge.MIN, "", OFFSET, "First packet, microseconds after window_begin", **_IN_RECORD),
    _measure("last_offset_us", Merge.MAX, "", OFFSET, "Last packet, microseconds after window_begin", **_IN_RECORD),
    _named("domain", Kind.DOMAIN, NAME, Merge.BEST, "Name that the client asked for, or empty", live=True),
    _named("domain_source", Kind.CHOICE, SOURCE, Merge.BEST, "Where it was read", choices=DOMAIN_SOURCES, live=True),
    _named("domain_count", Kind.NUMBER, U16, Merge.BEST, "Names that the address had for this client, or 0"),
    _named("ja4", Kind.TEXT, NAME, Merge.NEWEST, "JA4 fingerprint of the client's TLS, or empty"),
    _named("alpn", Kind.TEXT, NAME, Merge.NEWEST, "First protocol that the client offered by ALPN, or empty"),
    _derived("first_seen", Kind.TIME, MICROS, "First packet in the window", **_LIVE_TIME),
    _derived("last_seen", Kind.TIME, MICROS, "Last packet in the window", **_LIVE_TIME),
    _derived("community_id", Kind.TEXT, TEXT, "Community ID v1, seed 0"),
    Field(
        name="record_id", kind=Kind.TEXT, type=TEXT, role=Role.RECORD, stored=False, filterable=False,
        doc="Identity of the record: equal where it comes twice, different for any two others",
    ),
)  # fmt: skip
"""All fields."""


def names(fields: Iterable[Field]) -> tuple[str, ...]:
    """The columns of some fields, in order; a measure of both directions has two."""
    return tuple(name for field in fields for name in field.names)


KEYS = tuple(field for field in FIELDS if field.role is Role.KEY)
MEASURES = tuple(field for field in FIELDS if field.role is Role.MEASURE and field.both_ways)
"""Those that each direction has."""
NAMED = tuple(field for field in FIELDS if field.merge in {Merge.BEST, Merge.NEWEST})
"""Those that say what a flow is about, for both directions together."""
SUMS = tuple(field for field in MEASURES if field.merge is Merge.SUM)
LIVE_KEYS = tuple(field for field in KEYS if field.live and field.name != "node")
"""What tells the connections of a node apart in LiveStats."""
STORED = tuple(field for field in FIELDS if field.stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketColumn:
    """A column of PacketBatch that has a value an entry; schemas/avro/PacketBatch.N.avsc says what it means."""

    name: str
    numpy: str
    may_be_empty: bool = False  # it follows from others then: see schemas.defaults


PACKET_COLUMNS = (
    PacketColumn(name="packets", numpy="<i4"),
    PacketColumn(name="bytes", numpy="<i8"),
    PacketColumn(name="tcp_flags", numpy="<i4"),
    PacketColumn(name="ttl", numpy="u1"),
    PacketColumn(name="tos", numpy="u1"),
    PacketColumn(name="segment_bytes", numpy="<i4"),
    PacketColumn(name="duration_ns", numpy="<i8", may_be_empty=True),
    PacketColumn(name="max_ttl", numpy="u1", may_be_empty=True),
    PacketColumn(name="min_packet_bytes", numpy="<u4", may_be_empty=True),
    PacketColumn(name="max_packet_bytes", numpy="<u4", may_be_empty=True),
)
"""Besides `flow` and `time_offset_ns`. One that the kernel's event has under the same name needs nothing else."""
