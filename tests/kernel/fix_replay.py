"""Captures through the kernel program and the windows, as `ayaflow replay --output` takes them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.stopping import Stop
from producer.replay.feed import Block, Feed, Totals
from producer.replay.program import ReplayProgram
from producer.replay.run import Pace, Replay
from schemas.avro.flow_encoder import arrow_rows
from streams.windowing.offline import OfflineWindows
from streams.windowing.spill import Spill


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of captures."""

    flows: list[dict[str, Any]]  # FlowRecords
    totals: Totals
    broken: list[str]


class Replayer:
    """Replays captures with one loaded program."""

    def __init__(self, program: ReplayProgram) -> None:
        self.program = program
        self.runs = 0

    def __call__(self, *paths: Path, window_seconds: int = 10, interface: str | None = None) -> Replayed:
        self.runs += 1
        feed = Feed(self.program, node="test", ring_id=self.runs)
        windows = OfflineWindows(window_seconds=window_seconds, store=Spill())

        class Sink:
            def take(self, block: Block) -> None:
                windows.add(feed.batch(block).batch)

            def idle(self, seconds: float, clock_ns: int) -> None:
                raise AssertionError("at full speed nothing waits")

        with closing(Stop()) as stop:
            replay = Replay(
                feed=feed, sink=Sink(), pace=Pace(None), tell=lambda _octets: None, stop=stop, interface=interface
            )
            broken = replay.run([str(path) for path in paths])
        feed.totals.check()
        flows = [row for window in windows.flows() for row in arrow_rows(window).to_pylist()]
        return Replayed(flows=flows, totals=feed.totals, broken=[str(error) for error in broken])


@pytest.fixture(scope="session")
def replay(root_and_bcc: None, tmp_path_factory: pytest.TempPathFactory, loader: str) -> Iterator[Replayer]:
    """Replays captures; the program is loaded once."""
    with ReplayProgram(tmp_path_factory.mktemp("replay") / "kernel.log", loader=loader) as program:
        yield Replayer(program)


Directed = dict[tuple[Any, ...], list[int]]
"""(protocol, source, its port, destination, its port, VLAN) -> packets, bytes, TCP flags."""


def directed(flows: Sequence[dict[str, Any]]) -> Directed:
    """Each direction of flows on its own, all windows added up."""
    sums: Directed = {}
    for flow in flows:
        there = (flow["src_addr"], flow["src_port"]), (flow["dst_addr"], flow["dst_port"])
        for (source, target), suffix in ((there, ""), (there[::-1], "_rev")):
            if not flow[f"packets{suffix}"]:
                continue
            into = sums.setdefault((flow["protocol"], *source, *target, flow["vlan_id"]), [0, 0, 0])
            into[0] += flow[f"packets{suffix}"]
            into[1] += flow[f"bytes{suffix}"]
            into[2] |= flow[f"tcp_flags{suffix}"]
    return sums
