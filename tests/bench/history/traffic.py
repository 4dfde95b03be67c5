"""Flow rows as a small fleet has them, by the day, for measuring the tables.

Five nodes of 110 pods talk with each other, with 100,000 servers and 600,000 clients outside (Zipf), a fifth of it by
IPv6, with a day and a week in its rate: DNS, HTTPS in and out, QUIC, databases that stay connected, scans, ICMP. A
connection has a start, a life and a rate, both with heavy tails, and is a row a window of ten seconds that it is in.
crosses nodes is seen on both; some of it is inside of a VXLAN. One row in five has a domain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Octets = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Random = np.random.Generator

BEGIN = 1_790_553_600 // 86_400 * 86_400
"""Midnight before the first day, seconds since the Unix epoch."""
DAY, WINDOW = 86_400, 10
_WINDOW_US, _WINDOWS = WINDOW * 1_000_000, DAY // WINDOW
_NODES, _PODS, _PARTITIONS = 5, 110, 4
_INTERFACES = ("eth0", "eth1", "cni0")
_SCANNED = np.array([22, 23, 3389, 445, 8080, 5900])
_SERVICES = np.array([5432, 6379, 9092, 8080, 3306, 8443, 9000, 50051])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of connection."""

    share: float  # of the rows
    windows: float  # that it is in, in the mean
    to: str  # resolvers, servers, own or pods; those of `own` come from clients outside
    protocol: int = 6
    port: int = 443
    rate: float = 0.8  # packets a second, in the median
    all_day: bool = False


KINDS = {
    "dns": Kind(share=0.22, windows=1, to="resolvers", protocol=17, port=53),
    "https_out": Kind(share=0.18, windows=2.2, to="servers"),
    "quic_out": Kind(share=0.04, windows=2.5, to="servers", protocol=17),
    "https_in": Kind(share=0.21, windows=1.7, to="own"),
    "internal": Kind(share=0.10, windows=1.2, to="pods", rate=3.2),
    "internal_long": Kind(share=0.09, windows=300, to="pods", rate=3.2, all_day=True),
    "ssh_long": Kind(share=0.02, windows=90, to="pods", port=22, rate=3.2, all_day=True),
    "ntp": Kind(share=0.01, windows=1, to="servers", protocol=17, port=123),
    "icmp": Kind(share=0.03, windows=400, to="servers", protocol=1, port=0, rate=1, all_day=True),
    "scan": Kind(share=0.07, windows=1, to="own"),
    "udp": Kind(share=0.03, windows=3, to="servers", protocol=17, port=0),
}


def _mapped(addresses: npt.NDArray[np.uint32]) -> Octets:
    found = np.zeros((len(addresses), 16), np.uint8)
    found[:, 10:12] = 255
    found[:, 12:] = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
    return found


def _outside(count: int, share_of_ipv6: float, rng: Random) -> Octets:
    """IPv4 clustered in /16s; IPv6 of 400 providers, with random or low interface identifiers."""
    networks = rng.integers(0x0100_0000, 0xDF00_0000, count // 40 + 1, dtype=np.uint32) & np.uint32(0xFFFF_0000)
    found = _mapped(networks[rng.integers(0, len(networks), count)] | rng.integers(0, 1 << 16, count, dtype=np.uint32))
    six = rng.random(count) < share_of_ipv6
    many = int(six.sum())
    providers = rng.integers(0, 256, (400, 6), dtype=np.uint8)
    providers[:, 0] = rng.choice([0x20, 0x24, 0x26, 0x2A], 400)
    addresses = np.zeros((many, 16), np.uint8)
    addresses[:, :6] = providers[rng.integers(0, 400, many)]
    addresses[:, 6:8] = rng.integers(0, 256, (many, 2), dtype=np.uint8)
    is_random = rng.random(many) < 0.6
    addresses[is_random, 8:] = rng.integers(0, 256, (int(is_random.sum()), 8), dtype=np.uint8)
    addresses[~is_random, 14:] = rng.integers(0, 256, (int((~is_random).sum()), 2), dtype=np.uint8)
    found[six] = addresses
    return found


def _zipf(rng: Random, exponent: float, count: int, size: int) -> Numbers:
    """Numbers below `count`, the low ones most often: a bounded power law, by its inverse."""
    power = 1 - exponent
    found: Numbers = ((rng.random(size) * ((count + 1.0) ** power - 1) + 1) ** (1 / power) - 1).astype(np.int64)
    found[found >= count] = count - 1
    return found


class Fleet:
    """The addresses, the same in each run."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        every = np.arange(_NODES * _PODS)
        self.servers = _outside(100_000, 0.2, rng)
        self.clients = _outside(600_000, 0.25, rng)
        self.pods = _mapped((0x0AF4_0002 + every // _PODS * 256 + every % _PODS).astype(np.uint32))
        self.pods6 = np.zeros((len(every), 16), np.uint8)
        self.pods6[:, :6] = (0xFD, 0, 0, 0x10, 2, 0x44)
        self.pods6[:, 7], self.pods6[:, 15] = every // _PODS, 2 + every % _PODS
        own = _mapped((0xC633_6400 + np.arange(40)).astype(np.uint32))  # 198.51.100.0/24
        self.own = np.concatenate([own, self.pods6[:10]])
        self.resolvers = _mapped(np.array([0x0A60_000A, 0x0A60_000B, 0x0808_0808], np.uint32))
        self.nodes = _mapped((0x0A00_0001 + np.arange(_NODES)).astype(np.uint32))

    def day(self, number: int, rows: int, *, names: bool = False) -> pa.Table:
        """About so many rows of the flows table, of the day `number` behind BEGIN. `names`: with domains."""
        rng = np.random.default_rng(7000 + number)
        made = [
            part
            for name, kind in KINDS.items()
            for part in _windows(name, self._connections(name, kind, number, rows, rng), rng)
        ]
        columns = {name: np.concatenate([part[name] for part in made]) for name in made[0]}
        order = np.lexsort((columns["node"], columns["window"]))
        return _table(number, {name: column[order] for name, column in columns.items()}, self.nodes, names=names)

    def _connections(self, name: str, kind: Kind, number: int, rows: int, rng: Random) -> dict[str, Any]:
        count = max(5, int(rows * kind.share / kind.windows))
        weight = 1 + 0.65 * np.sin((np.arange(_WINDOWS) / _WINDOWS - 0.35) * 2 * np.pi)
        at = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(count))
        if kind.all_day:
            at = rng.integers(0, _WINDOWS - int(kind.windows / 2), count)
        start = at * _WINDOW_US + rng.integers(0, _WINDOW_US, count)
        if kind.windows == 1:
            lasts = (rng.pareto(1.5, count) * 2000).astype(np.int64) % 3_000_000
        else:
            usual = np.log(max(kind.windows - 1, 0.15) * _WINDOW_US) - 0.98
            lasts = rng.lognormal(usual, 1.4, count).astype(np.int64)
        node = rng.integers(0, _NODES, count)
        pod = node * _PODS + _zipf(rng, 0.9, _PODS, count)
        six = rng.random(count) < 0.2
        found: dict[str, Any] = {
            "start": start,
            "end": np.minimum(start + (0 if name == "scan" else lasts), DAY * 1_000_000 - 1),
            "node": node,
            "peer": node,
            "protocol": np.full(count, kind.protocol),
            "src_addr": np.where(six[:, None], self.pods6[pod], self.pods[pod]),
            "src_port": rng.integers(32_768, 61_000, count),
            "dst_port": np.full(count, kind.port),
            "icmp_type": np.zeros(count, np.int64),
            "direction": np.ones(count, np.int64),
            "interface": np.where((pod % 11 == 0) & (name == "https_out"), 1, 0),
            "rate": np.exp(rng.normal(np.log(kind.rate), 1.3, count)) + rng.pareto(1.3, count) * 0.5,
            "size": rng.integers(60, 400, count),
            "size_rev": np.minimum(1514, 80 + rng.pareto(1.1, count) * 150).astype(np.int64),
            "ratio": rng.uniform(0.6, 1.4, count),
            "ttl": np.full(count, 64),
            "ttl_rev": 64 - rng.integers(4, 22, count),
            "site": np.full(count, -1),
            "tunnel": np.zeros(count, np.int64),
        }
        return found | self._far_side(name, kind, number, found, pod, six, rng)

    def _far_side(
        self, name: str, kind: Kind, number: int, near: Mapping[str, Any], pod: Numbers, six: Any, rng: Random
    ) -> dict[str, Any]:
        """What differs by whom is talked to."""
        count = len(pod)
        if kind.to == "resolvers":
            return {
                "dst_addr": self.resolvers[_zipf(rng, 1.1, 3, count)],
                "size": rng.integers(70, 100, count),
                "size_rev": rng.integers(90, 320, count),
                "ratio": np.ones(count),
                "interface": np.full(count, 2),
            }
        if kind.to == "servers":
            server = _zipf(rng, 0.8, 300, count) if name == "icmp" else _zipf(rng, 1.15, len(self.servers), count)
            more: dict[str, Any] = {"dst_addr": self.servers[server], "ttl_rev": 50 + server % 14}
            if name == "https_out":
                more |= {"dst_port": np.where(rng.random(count) < 0.08, 80, 443), "site": server % 20_000}
            if name == "udp":
                more |= {"dst_port": rng.integers(1024, 1 << 16, count)}
            if name == "icmp":
                more |= {"protocol": np.where(six, 58, 1), "icmp_type": np.where(six, 128, 8)}
                more |= {"src_port": np.zeros(count, np.int64), "ratio": np.ones(count)}
                more |= {"size": np.full(count, 98), "size_rev": np.full(count, 98), "rate": np.ones(count)}
            return more
        if kind.to == "own":
            client = (_zipf(rng, 1.05, len(self.clients), count) + number * 4000) % len(self.clients)
            more = {
                "src_addr": self.clients[client],
                "dst_addr": self.own[_zipf(rng, 1.1, len(self.own), count)],
                "direction": np.zeros(count, np.int64),
                "src_port": rng.integers(1024, 1 << 16, count),
                "dst_port": np.where(rng.random(count) < 0.1, 80, 443),
                "ttl": 45 + client % 17,
                "ttl_rev": np.full(count, 64),
            }
            if name == "scan":
                known = _SCANNED[rng.integers(0, len(_SCANNED), count)]
                more |= {
                    "src_addr": self.clients[rng.integers(0, 30_000, count)],
                    "dst_port": np.where(rng.random(count) < 0.5, known, rng.integers(1, 1 << 16, count)),
                    "ratio": (rng.random(count) < 0.4).astype(float),
                    "size": np.full(count, 60),
                    "size_rev": np.full(count, 60),
                }
            return more
        service = _zipf(rng, 0.99, 40, count)
        other = (service * 37 + _zipf(rng, 0.99, 4, count) * 111) % len(self.pods)
        return {
            "dst_addr": np.where(six[:, None], self.pods6[other], self.pods[other]),
            "dst_port": near["dst_port"] if kind.port == 22 else _SERVICES[service % len(_SERVICES)],
            "ttl_rev": np.full(count, 63),
            "interface": np.full(count, 2),
            "peer": other // _PODS,
            "tunnel": (near["node"] != other // _PODS) & (service % 3 == 0),
        }


def _windows(name: str, of: Mapping[str, Any], rng: Random) -> list[dict[str, Any]]:
    """A row for each window that each connection is in; what another node sees of it is a part of its own."""
    first_window, last_window = of["start"] // _WINDOW_US, of["end"] // _WINDOW_US
    count = last_window - first_window + 1
    r = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(r)) - np.repeat(np.cumsum(count) - count, count)
    window = first_window[r] + nth
    begins, ends = nth == 0, window == last_window[r]
    rate, tcp = of["rate"][r], of["protocol"][r] == 6
    gap = np.minimum(_WINDOW_US * 0.45, 1e6 / np.maximum(rate, 0.05))
    margin = np.minimum(rng.exponential(np.tile(gap, (2, 1))), _WINDOW_US * 0.49).astype(np.int64)
    first = np.where(begins, of["start"][r] % _WINDOW_US, margin[0])
    last = np.maximum(first, np.where(ends, of["end"][r] % _WINDOW_US, _WINDOW_US - 1 - margin[1]))
    packets = 1 + rng.poisson(np.minimum(rate * (last - first) / 1e6, 1e7)) + np.where(begins & tcp, 3, 0)
    if name in {"dns", "ntp", "scan"}:
        packets = np.where(rng.random(len(r)) < 0.06, 2, 1)
    back = np.rint(packets * of["ratio"][r]).astype(np.int64)
    sides: dict[str, Any] = {}
    for way, packets_of in (("", packets), ("_rev", back)):
        size = of[f"size{way}"][r]
        least = np.where(packets_of > 0, np.where(tcp & (packets_of > 2), np.minimum(66, size), size), 0)
        most = np.where(packets_of > 1, np.minimum(1514, size * np.where(packets_of > 4, 3, 1)), size)
        flags = 0x10 | np.where(begins, 2, 0) | np.where(ends, 1, 0) | np.where(packets_of > 2, 8, 0)
        ttl = np.where(packets_of > 0, of[f"ttl{way}"][r], 0)
        sides |= {
            f"packets{way}": packets_of,
            f"bytes{way}": packets_of * size + np.where(packets_of > 2, rng.integers(0, 60, len(r)), 0),
            f"tcp_flags{way}": np.where(tcp & (packets_of > 0), 2 if name == "scan" else flags, 0),
            f"min_ttl{way}": ttl,
            f"max_ttl{way}": ttl,
            f"min_packet_bytes{way}": least,
            f"max_packet_bytes{way}": np.where(packets_of > 0, np.maximum(most, least), 0),
        }
    kept = ("node", "interface", "direction", "protocol", "src_addr", "dst_addr", "src_port", "dst_port", "icmp_type")
    rows = {column: of[column][r] for column in (*kept, "peer", "site", "tunnel")}
    rows |= sides | {"window": window, "first_offset_us": first, "last_offset_us": last}
    crosses = rows["peer"] != rows["node"]
    other = {column: values[crosses].copy() for column, values in rows.items()}
    other["node"], other["peer"] = other["peer"], other["node"]
    other["direction"] = 1 - other["direction"]
    other["max_ttl"] -= 1
    other["min_ttl"] -= 1
    return [rows, other]


_TYPES = {
    "src_port": np.uint16, "dst_port": np.uint16, "protocol": np.uint8, "icmp_type": np.int16,
    "first_offset_us": np.uint32, "last_offset_us": np.uint32,
    **{f"{name}{way}": kind for way in ("", "_rev") for name, kind in (
        ("packets", np.uint64), ("bytes", np.uint64), ("tcp_flags", np.uint16), ("min_ttl", np.uint8),
        ("max_ttl", np.uint8), ("min_packet_bytes", np.uint32), ("max_packet_bytes", np.uint32),
    )},
}  # fmt: skip


def _table(number: int, of: Mapping[str, Any], nodes: Octets, *, names: bool) -> pa.Table:
    count = len(of["window"])
    tunnel = of["tunnel"].astype(bool)

    def octets(values: Octets) -> pa.Array:
        buffer = pa.py_buffer(np.ascontiguousarray(values))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, buffer])

    def listed(places: Numbers, texts: Any) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array(texts))

    window = of["window"] + number * _WINDOWS
    partition = of["node"] % _PARTITIONS
    new = np.ones(count, bool)  # first of an insert: a window and partition of Kafka
    insert = np.unique(window * _PARTITIONS + partition, return_index=True)[1]
    new[:] = False
    new[insert] = True
    columns: dict[str, Any] = {
        "window_begin": pa.array((BEGIN + window * WINDOW).astype(np.uint32)),
        "window_seconds": pa.array(np.full(count, WINDOW, np.uint16)),
        "node": listed(of["node"], [f"node-{i}" for i in range(_NODES)]),
        "interface": listed(of["interface"], list(_INTERFACES)),
        "direction": pa.array(of["direction"].astype(np.int8)),
        "src_addr": octets(of["src_addr"]),
        "dst_addr": octets(of["dst_addr"]),
        **{name: pa.array(of[name].astype(kind)) for name, kind in _TYPES.items()},
        "tunnel_type": pa.array(tunnel.astype(np.int8)),
        "tunnel_id": pa.array((tunnel * 4096).astype(np.uint32)),
        "outer_src_addr": octets(np.where(tunnel[:, None], nodes[of["node"]], 0).astype(np.uint8)),
        "outer_dst_addr": octets(np.where(tunnel[:, None], nodes[of["peer"]], 0).astype(np.uint8)),
        "topic_id": pa.array(np.full(count, 0x1234_5678_90AB_CDEF, np.uint64)),
        "kafka_partition": pa.array(partition.astype(np.int32)),
        "kafka_offset_end": pa.array(np.where(new, 1 + window * 23 + partition * 7, 0).astype(np.int64)),
        "revision": pa.array(np.zeros(count, np.uint32)),
    }
    if names:
        site = of["site"]
        texts = ["", *(f"w{i % 6}.site-{i // 6}.example" for i in range(20_000))]
        columns["domain"] = listed(np.where(site >= 0, 1 + site, 0), texts)
        columns["domain_source"] = pa.array((site >= 0).astype(np.int8))
    return pa.table(columns)
