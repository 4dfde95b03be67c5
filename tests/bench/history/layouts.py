"""The same rows in layouts as other systems have them, for figures side by side.

None of it is another system's code: each is what its documentation says of keys and codecs, with our rows.
"""

from dataclasses import dataclass, field

COLUMNS = {
    "window_begin": "DateTime('UTC')",
    "node": "LowCardinality(String)",
    "interface": "LowCardinality(String)",
    "protocol": "UInt8",
    "src_addr": "IPv6",
    "dst_addr": "IPv6",
    "src_port": "UInt16",
    "dst_port": "UInt16",
    "packets": "UInt64",
    "bytes": "UInt64",
    "packets_rev": "UInt64",
    "bytes_rev": "UInt64",
    "tcp_flags": "UInt16",
}
"""What all of them have."""
_COUNTERS = ("packets", "bytes", "packets_rev", "bytes_rev")
_ZSTD = {name: "ZSTD(1)" for name in COLUMNS if COLUMNS[name][0] != "L"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A table, partitioned by day as ours is."""

    name: str
    key: str
    codecs: dict[str, str] = field(default_factory=dict)  # LZ4 where nothing is said

    @property
    def columns(self) -> str:
        """For CREATE TABLE."""
        return ", ".join(
            f"{name} {kind}{f' CODEC({self.codecs[name]})' if name in self.codecs else ''}"
            for name, kind in COLUMNS.items()
        )


LAYOUTS = (
    Layout(
        name="time bucket, then exporter and interface (as Akvorado)",
        key="toStartOfFiveMinutes(window_begin), node, interface, window_begin",
        codecs={"window_begin": "DoubleDelta, LZ4"},
    ),
    Layout(name="address first (as tools that sort captures)", key="src_addr, dst_addr, dst_port, window_begin"),
    Layout(
        name="window, then service (as ours was)",
        key="window_begin, node, protocol, dst_port, dst_addr, src_addr",
        codecs=_ZSTD
        | dict.fromkeys((*_COUNTERS, "src_port", "dst_port", "tcp_flags"), "T64, ZSTD(1)")
        | {"window_begin": "Delta, ZSTD(1)"},
    ),
)
_SUM = "sum(bytes + bytes_rev) AS size"
QUESTIONS = {
    "a rare address, all days": "SELECT sum(bytes), sum(bytes_rev) FROM {table} "
    "WHERE src_addr = toIPv6('{addr}') OR dst_addr = toIPv6('{addr}')",
    "top sources, all days": f"SELECT src_addr, {_SUM} FROM {{table}} GROUP BY 1 ORDER BY size DESC LIMIT 40",
    "5-minute series, all days": f"SELECT toStartOfFiveMinutes(window_begin) AS time, {_SUM} FROM {{table}} GROUP BY 1",
}

SAMPLE = "cityHash64(src_addr, dst_addr, src_port, dst_port, protocol) % 40 = 0"
"""Of the connections, those that are made a row a packet: all of them would be fifty rows for each of flows."""
PACKET_COLUMNS = {
    "time": "DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))",
    "node": "LowCardinality(String)",
    "interface": "LowCardinality(String)",
    "protocol": "UInt8 CODEC(ZSTD(1))",
    "src_addr": "IPv6 CODEC(ZSTD(1))",
    "dst_addr": "IPv6 CODEC(ZSTD(1))",
    "src_port": "UInt16 CODEC(ZSTD(1))",
    "dst_port": "UInt16 CODEC(ZSTD(1))",
    "back": "Bool CODEC(ZSTD(1))",
    "bytes": "UInt64 CODEC(T64, ZSTD(1))",
    "tcp_flags": "UInt16 CODEC(ZSTD(1))",
}
"""Of a row a packet, in the codecs of our table packets. src is the initiator, as in flows; `back`: dst sent it."""
PACKET_KEY = "toStartOfMinute(time), dst_addr, src_addr, dst_port, src_port, time"
"""That of our own table of packets."""
_FIRST = "toUnixTimestamp(window_begin) * 1000000 + first_offset_us"
_GAP = "intDiv(last_offset_us - first_offset_us, packet.2)"
PACKETS = f"""
SELECT fromUnixTimestamp64Micro(toInt64({_FIRST} + {_GAP} * packet.1
           + cityHash64(packet.1, packet.4, src_port, first_offset_us) % ({_GAP} + 1)), 'UTC') AS time,
       node, interface, protocol, src_addr, dst_addr, src_port, dst_port, packet.4 AS back,
       intDiv(packet.3, packet.2) + (packet.1 < packet.3 % packet.2) AS size, tcp_flags
FROM {{table}}
ARRAY JOIN arrayConcat(arrayMap(i -> (i, packets, bytes, false), range(packets)),
                       arrayMap(i -> (i, packets_rev, bytes_rev, true), range(packets_rev))) AS packet
"""
"""A row for each packet of flows, spread over its time in the window; all of a flow are of one size."""
OF_PACKETS = {
    "a rare address, all days": "SELECT sumIf(bytes, NOT back), sumIf(bytes, back) FROM {table} "
    "WHERE src_addr = toIPv6('{addr}') OR dst_addr = toIPv6('{addr}')",
    "top sources, all days": "SELECT src_addr, sum(bytes) AS size FROM {table} GROUP BY 1 ORDER BY size DESC LIMIT 40",
    "5-minute series, all days": "SELECT toStartOfFiveMinutes(time) AS time, sum(bytes) FROM {table} GROUP BY 1",
}
"""QUESTIONS, of a row a packet."""
