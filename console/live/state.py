"""What the nodes are doing now, put together from their LiveStats messages. Pure: the clock is given.

Messages count in the order in which they come, and what is active, or silent, is so by our clock: a node's own may be
wrong, and set at any time.

LiveStats lists a node's top connections with what they have in its open windows. Here a connection stays until it
has been without a packet for the timeout, and its counts go on when a window closes: what the closed window had is
taken from the message before, with a share of the second in which the next window began. So counts of a connection
are estimates of what passed since it was first listed here; the exact ones are in the flows table.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import nlargest
from typing import Any

from common.recent import Recent
from common.times import iso
from console.query.vocabulary import protocol_name
from schemas.fields import LIVE_KEYS, NAMED, names

KEY = names(LIVE_KEYS)
NAMES = names(field for field in NAMED if field.live)
COUNTS = ("packets", "bytes", "packets_rev", "bytes_rev")
COUNTED = (
    "non_ip_packets",
    "malformed_packets",
    "unknown_link_packets",
    "ring_full_packets",
    "coalesced_packets",
    "copied_packets",
)
PASSED = ("packets", "bytes", "primary_packets", "primary_bytes", *COUNTED)
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
ALL_CONNECTIONS_KEPT = 200_000  # of all nodes; those of the node that has new ones go first
PASSED_KEPT = 20_000  # interfaces and directions, those that were told of last
PASSED_KEPT_SECONDS = 600.0  # without a message that tells of it, an interface has gone
LAG_MESSAGES = 100  # so many wait: what a node says is old, and its clock not wrong
_STEP = timedelta(days=1)
Counts = tuple[int, int, int, int]
Place = tuple[str, str, str]
"""Node, interface, direction."""
_NONE: Counts = (0, 0, 0, 0)


@dataclass(slots=True)
class Connection:
    """One connection of a node. Times are the node's, but `active` and `listed`, monotonic seconds of ours."""

    node: str
    flow: Mapping[str, Any]  # KEY and values of the newest message
    first_seen: datetime
    last_seen: datetime
    window_first: datetime  # first_seen of the newest message: of the open windows
    open: Counts  # of the newest message
    active: float = 0.0  # its last packet
    listed: float = 0.0  # when the newest message that lists it came
    total: Counts = _NONE
    heard: deque[tuple[datetime, Counts, Counts]] = field(default_factory=lambda: deque(maxlen=64))
    """Message's time, counts in it, and the total then."""

    def add(self, time: datetime, flow: Mapping[str, Any], now: float, *, stepped: bool) -> None:
        """The next message that lists it. `stepped`: the node's clock was set since the one before."""
        if stepped:
            self.heard.clear()
        self.listed = now
        self.active = now - max(0.0, (time - flow["last_seen"]).total_seconds())
        counts: Counts = (flow["packets"], flow["bytes"], flow["packets_rev"], flow["bytes_rev"])
        closed = self._closed(flow["first_seen"])
        # counts of the windows that are still open never fall
        grown = [max(0, now - (before - gone)) for now, before, gone in zip(counts, self.open, closed, strict=True)]
        a, b, c, d = self.total
        self.total = (a + grown[0], b + grown[1], c + grown[2], d + grown[3])
        self.open, self.flow = counts, flow
        self.window_first, self.last_seen = flow["first_seen"], flow["last_seen"]
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
            **{name: self.flow[name] for name in NAMES},
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
    recent: deque[tuple[float, Mapping[str, Any]]] = field(default_factory=lambda: deque(maxlen=64))
    """When they came, and the newest messages, of PASSED_SECONDS."""
    connections: dict[tuple[Any, ...], Connection] = field(default_factory=dict)

    def add(self, stats: Mapping[str, Any], now: float) -> bool:
        """The next message. Returns whether the node's clock was set since the one before."""
        passed: timedelta = stats["time"] - self.stats["time"]
        self.stats, self.heard = stats, now
        self.recent.append((now, stats))
        while now - self.recent[0][0] >= PASSED_SECONDS - 0.5:
            self.recent.popleft()
        return not timedelta(0) < passed <= _STEP

    def delay(self, now: float, wall: datetime) -> float:
        """How old is what it says, in seconds: since it came, and how long it waited to be read."""
        waited = (wall - self.stats["time"]).total_seconds() if self.stats["lag_messages"] >= LAG_MESSAGES else 0.0
        return max(0.0, now - self.heard, waited)

    def rates(self) -> tuple[float, float]:
        """Packets and bytes a second of the last seconds, each packet once."""
        seconds = self._seconds()
        rows = [one for _, stats in self.recent for one in stats["interfaces"]]
        return (
            sum(one["primary_packets"] for one in rows) / seconds,
            sum(one["primary_bytes"] for one in rows) / seconds,
        )

    def _seconds(self) -> float:
        """That the recent messages are of."""
        return max(1, sum(int(stats["interval_ms"]) for _, stats in self.recent)) / 1000

    def interfaces(self) -> list[dict[str, Any]]:
        """Each interface and direction of the newest message: rates of the last seconds, its other counts."""
        seconds = self._seconds()
        sums: dict[tuple[str, str], list[int]] = {}
        for _, stats in self.recent:
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
                **{count: one.get(count, 0) for count in COUNTED},
            }
            for one in self.stats["interfaces"]
            for name, direction in [(one["interface"], one["direction"])]
            for packets, octets in [sums[name, direction]]
        ]


@dataclass(slots=True)
class _Passed:
    """What passed an interface in one direction."""

    heard: float  # when it was told of last; monotonic seconds
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PASSED, 0))


class LiveState:
    """All nodes. Not safe for two threads at once."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._nodes: Recent[str, Node] = Recent(NODES_KEPT)
        self._passed: Recent[Place, _Passed] = Recent(PASSED_KEPT)
        self._totals = dict.fromkeys(PASSED, 0)
        self.version = 0  # grows with each message
        self.named = 0  # connections that messages brought a name for, ever

    def add(self, stats: Mapping[str, Any], now: float) -> None:
        """A LiveStats message, as console.live.message lets it through. `now`: monotonic seconds."""
        name, time = str(stats["node"]), stats["time"]
        node = self._nodes.get(name) or Node(stats=stats, heard=now)
        self._nodes.use(name, node)
        self.version += 1
        stepped = node.add(stats, now)
        for one in stats["interfaces"]:
            self._count((name, one["interface"], one["direction"]), one, now)
        for flow in stats["top"]:
            key = tuple(flow[part] for part in KEY)
            known = node.connections.get(key)
            self.named += bool(flow["domain"]) and (known is None or not known.flow["domain"])
            if known is None:
                known = node.connections[key] = Connection(
                    node=name,
                    flow=flow,
                    first_seen=flow["first_seen"],
                    last_seen=flow["last_seen"],
                    window_first=flow["first_seen"],
                    open=_NONE,
                )
            known.add(time, flow, now, stepped=stepped)
        self._forget(node, now)

    def _count(self, place: Place, interface: Mapping[str, Any], now: float) -> None:
        passed = self._passed.get(place) or _Passed(now)
        self._passed.use(place, passed)
        passed.heard = now
        for count in PASSED:
            more = interface.get(count, 0)
            passed.sums[count] += more
            self._totals[count] += more

    def _forget(self, node: Node, now: float) -> None:
        """What has been without a packet for too long, and interfaces and nodes that have gone."""
        gone = [key for key, one in node.connections.items() if one.active < now - self._timeout]
        all_of_them = sum(len(each.connections) for _, each in self._nodes.newest_first())
        rest = max(len(node.connections) - CONNECTIONS_KEPT, all_of_them - ALL_CONNECTIONS_KEPT) - len(gone)
        if rest > 0:
            gone += sorted(node.connections, key=lambda key: node.connections[key].active)[: rest + len(gone)]
        for key in gone:
            node.connections.pop(key, None)
        while (oldest := self._nodes.oldest()) and now - oldest[1].heard > max(self._timeout, PASSED_KEPT_SECONDS):
            self._nodes.forget(oldest[0])
        while (first := self._passed.oldest()) and now - first[1].heard > PASSED_KEPT_SECONDS:
            self._passed.forget(first[0])

    @property
    def passed(self) -> dict[Place, dict[str, int]]:
        """Sums of PASSED since the start, of each node, interface and direction that is told of now."""
        return {place: dict(passed.sums) for place, passed in self._passed.items()}

    def nodes(self, now: float) -> dict[str, Node]:
        """The nodes that were heard of within the timeout."""
        heard = {name: node for name, node in self._nodes.items() if now - node.heard <= self._timeout}
        return dict(sorted(heard.items()))

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
            for one in node.connections.values():
                if now - one.active <= self._timeout:
                    # a connection that fell out of the top list has no rate that is known
                    quiet = one.listed < node.heard
                    found.append((0.0 if sort == "rate" and quiet else value(one), one, quiet))
        if chosen is None:
            largest = nlargest(limit, found, key=lambda entry: entry[0])
            return [one.shown(quiet=quiet) for _, one, quiet in largest]
        found.sort(key=lambda entry: entry[0], reverse=True)
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
                "delay_seconds": round(node.delay(now, wall), 3),
                "interfaces": node.interfaces(),
                "active_flows": node.stats["active_flows"],
                "open_windows": node.stats["open_windows"],
                "lag_messages": node.stats["lag_messages"],
            }
            for name, node in self.nodes(now).items()
        ]

    def totals(self) -> dict[str, int]:
        """Sums of PASSED over everything, since the start."""
        return dict(self._totals)

    def rates(self, now: float, fresh_seconds: float) -> tuple[float, float]:
        """Packets and bytes a second of all nodes that were heard of just now, each packet once a node."""
        each = [node.rates() for node in self.nodes(now).values() if now - node.heard <= fresh_seconds]
        return sum(packets for packets, _ in each), sum(octets for _, octets in each)
