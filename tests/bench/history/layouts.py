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
    "a rare address, all days": "SELECT sum(bytes), sum(bytes_rev), count() FROM {table} "
    "WHERE src_addr = toIPv6('{addr}') OR dst_addr = toIPv6('{addr}')",
    "top sources, all days": f"SELECT src_addr, {_SUM} FROM {{table}} GROUP BY 1 ORDER BY size DESC LIMIT 40",
    "5-minute series, all days": f"SELECT toStartOfFiveMinutes(window_begin) AS time, {_SUM} FROM {{table}} GROUP BY 1",
}
