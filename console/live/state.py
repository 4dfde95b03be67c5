"""What the nodes are doing now, put together from their LiveStats messages. Pure: the clock is given.

LiveStats lists a node's top connections with what they have in its open windows. Here a connection stays until it
has been without a packet for the timeout, and its counts go on when a window closes: what the closed window had is
taken from the message before, with a share of the second in which the next window began. So counts of a connection
are estimates of what passed since it was first listed here; the exact ones are in the flows table.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from common.times import iso
from console.query.vocabulary import protocol_name
from schemas.fields import LIVE_KEYS, names

KEY = names(LIVE_KEYS)
COUNTS = ("packets", "bytes", "packets_rev", "bytes_rev")
PASSED = (
    "packets",
    "bytes",
    "non_ip_packets",
    "malformed_packets",
    "unknown_link_packets",
    "ring_full_packets",
    "coalesced_packets",
)
"""Counts of an interface; a message of an older streams lacks some."""
SORTS: dict[str, Callable[["Connection"], float]] = {
    "bytes": lambda one: one.total[1] + one.total[3],
    "packets": lambda one: one.total[0] + one.total[2],
    "rate": lambda one: one.rates()[1],
}
RATE_SECONDS = 5
PASSED_SECONDS = 3
"""What passed an interface is averaged over so long: a message has whole batches, and so more or less than its time."""
NODES_KEPT = 1_000
CONNECTIONS_KEPT = 20_000  # of a node; those longest without a packet go first
Counts = tuple[int, int, int, int]
_NONE: Counts = (0, 0, 0, 0)


@dataclass(slots=True)
class Connection:
    """One connection of a node. Times are the node's."""

    node: str
    flow: Mapping[str, Any]  # KEY and values of the newest message
    first_seen: datetime
    last_seen: datetime
    window_first: datetime  # first_seen of the newest message: of the open windows
    open: Counts  # of the newest message
    total: Counts = _NONE
    heard: deque[tuple[datetime, Counts, Counts]] = field(default_factory=lambda: deque(maxlen=64))
    """Message's time, counts in it, and the total then."""

    def add(self, time: datetime, flow: Mapping[str, Any]) -> None:
        """The next message that lists it."""
        counts: Counts = (flow["packets"], flow["bytes"], flow["packets_rev"], flow["bytes_rev"])
        closed = self._closed(flow["first_seen"])
        # counts of the windows that are still open never fall
        grown = [max(0, now - (before - gone)) for now, before, gone in zip(counts, self.open, closed, strict=True)]
        a, b, c, d = self.total
        self.total = (a + grown[0], b + grown[1], c + grown[2], d + grown[3])
        self.open, self.flow = counts, flow
        self.window_first, self.last_seen = flow["first_seen"], max(self.last_seen, flow["last_seen"])
        self.heard.append((time, counts, self.total))
        # two are kept whatever their age, for the rate
        while len(self.heard) > 2 and (time - self.heard[1][0]).total_seconds() > max(RATE_SECONDS, 2):
            self.heard.popleft()

    def _closed(self, first: datetime) -> Sequence[int]:
        """What of `open` was in windows that have closed since, when the open ones now begin with `first`."""
        if first <= self.window_first:
            return _NONE
        if first > self.last_seen or not self.heard:
            return self.open
        before = [one for one in self.heard if one[0] <= first]
        after = [one for one in self.heard if one[0] > first]
        if not before:
            return _NONE
        if not after:
            return self.open
        (t0, low, _), (t1, high, _) = before[-1], after[0]
        share = (first - t0) / (t1 - t0)
        return [one + int(max(0, two - one) * share) for one, two in zip(low, high, strict=True)]

    def rates(self) -> tuple[float, float]:
        """Packets and bytes a second, both directions, over the last RATE_SECONDS of messages."""
        if len(self.heard) < 2:
            seconds = max(1.0, (self.last_seen - self.first_seen).total_seconds())
            return (self.open[0] + self.open[2]) / seconds, (self.open[1] + self.open[3]) / seconds
        (first, _, low), (last, _, high) = self.heard[0], self.heard[-1]
        seconds = max(0.001, (last - first).total_seconds())
        more = [two - one for one, two in zip(low, high, strict=True)]
        return (more[0] + more[2]) / seconds, (more[1] + more[3]) / seconds

    def shown(self, *, quiet: bool) -> dict[str, Any]:
        """As JSON. `quiet`: the newest message of the node does not list it."""
        packets, octets = (0.0, 0.0) if quiet else self.rates()
        return {
            "node": self.node,
            **{name: self.flow[name] for name in KEY},
            "protocol_name": protocol_name(self.flow["protocol"]),
            **dict(zip(COUNTS, self.total, strict=True)),
            "bytes_per_second": round(octets, 1),
            "packets_per_second": round(packets, 1),
            "first_seen": iso(self.first_seen, digits=6),
            "last_seen": iso(self.last_seen, digits=6),
        }


@dataclass(slots=True)
class Node:
    """One node."""

    stats: Mapping[str, Any]  # the newest message
    heard: float  # when it came; monotonic seconds
    recent: deque[Mapping[str, Any]] = field(default_factory=deque)  # the newest, of PASSED_SECONDS
    connections: dict[tuple[Any, ...], Connection] = field(default_factory=dict)

    def clock(self, now: float) -> datetime:
        """The node's time."""
        moment: datetime = self.stats["time"]
        return moment + timedelta(seconds=max(0.0, now - self.heard))

    def add(self, stats: Mapping[str, Any], now: float) -> None:
        """The next message."""
        self.stats, self.heard = stats, now
        self.recent.append(stats)
        while (stats["time"] - self.recent[0]["time"]).total_seconds() >= PASSED_SECONDS - 0.5:
            self.recent.popleft()

    def interfaces(self) -> list[dict[str, Any]]:
        """Each interface and direction of the newest message: rates of the last seconds, its other counts."""
        seconds = max(1, sum(stats["interval_ms"] for stats in self.recent)) / 1000
        sums: dict[tuple[str, str], list[int]] = {}
        for stats in self.recent:
            for one in stats["interfaces"]:
                both = sums.setdefault((one["interface"], one["direction"]), [0, 0])
                both[0] += one["packets"]
                both[1] += one["bytes"]
        return [
            {
                "interface": name,
                "direction": direction,
                "packets_per_second": round(packets / seconds, 1),
                "bytes_per_second": round(octets / seconds, 1),
                **{count: one.get(count, 0) for count in PASSED[2:]},
            }
            for one in self.stats["interfaces"]
            for name, direction in [(one["interface"], one["direction"])]
            for packets, octets in [sums[name, direction]]
        ]


class LiveState:
    """All nodes. Not safe for two threads at once."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._nodes: dict[str, Node] = {}
        self.passed: dict[tuple[str, str, str], dict[str, int]] = {}
        """(node, interface, direction) -> sums of PASSED since the start."""
        self.version = 0  # grows with each message

    def add(self, stats: Mapping[str, Any], now: float) -> None:
        """A LiveStats message, as the codec decodes it. `now`: monotonic seconds."""
        name, time = str(stats["node"]), stats["time"]
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(stats=stats, heard=now)
        if time < node.stats["time"] - timedelta(seconds=1):  # a message of before the start, read late
            return
        self.version += 1
        node.add(stats, now)
        for one in stats["interfaces"]:
            sums = self.passed.setdefault((name, one["interface"], one["direction"]), dict.fromkeys(PASSED, 0))
            for count in PASSED:
                sums[count] += one.get(count, 0)
        for flow in stats["top"]:
            key = tuple(flow[part] for part in KEY)
            known = node.connections.get(key)
            if known is None:
                known = node.connections[key] = Connection(
                    node=name,
                    flow=flow,
                    first_seen=flow["first_seen"],
                    last_seen=flow["last_seen"],
                    window_first=flow["first_seen"],
                    open=_NONE,
                )
            known.add(time, flow)
        self._forget(node, time)

    def _forget(self, node: Node, time: datetime) -> None:
        """What has been without a packet for too long."""
        oldest = time - timedelta(seconds=self._timeout)
        gone = [key for key, one in node.connections.items() if one.last_seen < oldest]
        rest = len(node.connections) - len(gone) - CONNECTIONS_KEPT
        if rest > 0:
            gone += sorted(node.connections, key=lambda key: node.connections[key].last_seen)[:rest]
        for key in gone:
            node.connections.pop(key, None)
        if len(self._nodes) > NODES_KEPT:
            del self._nodes[min(self._nodes, key=lambda name: self._nodes[name].heard)]

    def nodes(self, now: float) -> dict[str, Node]:
        """The nodes that were heard of within the timeout."""
        return {name: node for name, node in sorted(self._nodes.items()) if now - node.heard <= self._timeout}

    def connections(
        self,
        now: float,
        *,
        sort: str = "bytes",
        limit: int = 50,
        chosen: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> list[dict[str, Any]]:
        """The active connections, the largest first. `chosen` is asked with a row as it will be shown."""
        found: list[tuple[float, Connection, bool]] = []
        value = SORTS[sort]
        for node in self.nodes(now).values():
            clock, newest = node.clock(now), node.stats["time"]
            for one in node.connections.values():
                if (clock - one.last_seen).total_seconds() <= self._timeout:
                    # a connection that fell out of the top list has no rate that is known
                    quiet = not one.heard or one.heard[-1][0] < newest
                    found.append((0.0 if sort == "rate" and quiet else value(one), one, quiet))
        found.sort(key=lambda entry: entry[0], reverse=True)
        if chosen is None:
            return [one.shown(quiet=quiet) for _, one, quiet in found[:limit]]
        rows: list[dict[str, Any]] = []
        for _, one, quiet in found:
            if len(rows) == limit:
                break
            if chosen(row := one.shown(quiet=quiet)):
                rows.append(row)
        return rows

    def active_connections(self, now: float) -> dict[str, int]:
        """Flows in the open windows, by node."""
        return {name: int(node.stats["active_flows"]) for name, node in self.nodes(now).items()}

    def node_rows(self, now: float, wall: datetime) -> list[dict[str, Any]]:
        """Each node for /api/stream. `wall`: this machine's time."""
        return [
            {
                "node": name,
                "time": iso(node.stats["time"], digits=6),
                "delay_seconds": round(max(0.0, (wall - node.stats["time"]).total_seconds()), 3),
                "interfaces": node.interfaces(),
                "active_flows": node.stats["active_flows"],
                "open_windows": node.stats["open_windows"],
                "lag_messages": node.stats["lag_messages"],
            }
            for name, node in self.nodes(now).items()
        ]

    def totals(self) -> dict[str, int]:
        """Sums of PASSED over everything."""
        return {name: sum(one[name] for one in self.passed.values()) for name in PASSED}

    def rates(self, now: float, fresh_seconds: float) -> tuple[float, float]:
        """Packets and bytes a second of all nodes that were heard of just now."""
        rows = [
            one for node in self.nodes(now).values() if now - node.heard <= fresh_seconds for one in node.interfaces()
        ]
        return sum(row["packets_per_second"] for row in rows), sum(row["bytes_per_second"] for row in rows)
