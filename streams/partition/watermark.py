"""The watermark of a partition: up to when all packets of its nodes have been read.

Pure; the wall clock is an argument.
"""

from dataclasses import dataclass

_LAGGARD_NS = 60_000_000_000


@dataclass(slots=True)
class _Node:
    clock_ns: int  # 0: not known yet
    heard: float  # wall clock of the last message, seconds


class Watermark:
    """The lowest clock of the nodes that live; it never goes back.

    A node lives from its first message until it has been silent for `timeout_seconds` of wall time. When none lives,
    everything is complete. A node whose clock is more than a minute (or two windows) behind the others, a replayed
    capture or a wrong clock, does not hold them back: what it sends counts as late, and late packets are stored too.
    """

    def __init__(self, *, timeout_seconds: float, window_seconds: int) -> None:
        self._timeout = timeout_seconds
        self._laggard = max(_LAGGARD_NS, 2 * window_seconds * 1_000_000_000, int(timeout_seconds * 1e9))
        self._nodes: dict[str, _Node] = {}
        self._value = 0
        self._highest = 0  # of all packets and clocks: what is complete when all nodes are silent

    def hear(self, node: str, clock_ns: int, latest_packet_ns: int, now: float) -> None:
        """A message of a node came. `clock_ns` 0: its clock is not known."""
        known = self._nodes.setdefault(node, _Node(clock_ns=clock_ns, heard=now))
        known.heard = now
        known.clock_ns = max(known.clock_ns, clock_ns)
        self._highest = max(self._highest, clock_ns, latest_packet_ns + 1)

    def advance(self, now: float, window_seconds: int) -> int:
        """The watermark at wall time `now`, in nanoseconds since the Unix epoch; 0: none yet."""
        for name in [name for name, node in self._nodes.items() if now - node.heard > self._timeout]:
            del self._nodes[name]
        if not self._nodes:
            if self._highest:  # nobody will add to any window: close up to the end of the last one
                length = window_seconds * 1_000_000_000
                self._value = max(self._value, -(-self._highest // length) * length)
            return self._value
        clocks = [node.clock_ns for node in self._nodes.values() if node.clock_ns]
        if clocks:
            ahead = min(max(clocks), int(now * 1e9))  # a clock in the future is no measure of the others
            in_step = [clock for clock in clocks if clock >= ahead - self._laggard]
            self._value = max(self._value, min(in_step))
        return self._value

    @property
    def value(self) -> int:
        """As of the last `advance`."""
        return self._value

    @property
    def nodes(self) -> int:
        """Nodes that live."""
        return len(self._nodes)
