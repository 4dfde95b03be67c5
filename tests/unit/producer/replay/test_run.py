"""What becomes of a replay that is ended by something else than its captures."""

import contextlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import EnvironmentProblem
from common.stopping import Stop
from producer.capture.batch import Span
from producer.kernel.abi import COUNTERS, RECORD
from producer.replay.feed import Block, Feed
from producer.replay.files.frames import Frames
from producer.replay.program import Ran
from producer.replay.run import Pace, Replay
from tests.unit.producer.replay.captures import Frame, pcap

FRAMES = [Frame(octets=bytes(80), wire=80, time_ns=i) for i in range(10)]


class FailingProgram:
    """Obeys feed.Program; refuses the second block."""

    def __init__(self) -> None:
        self.blocks = 0

    def set_interface(self, slot: int, *, no_ethernet: bool) -> None:
        pass

    def run(self, frames: Frames, rows: slice, slots: npt.NDArray[np.uint32], epoch: int) -> Ran:
        self.blocks += 1
        if self.blocks == 2:
            raise EnvironmentProblem("the kernel would not run the program")
        count = rows.stop - rows.start
        counted = dict.fromkeys((name for name in COUNTERS.names or () if name != "epoch"), 0)
        counted |= {"seen_packets": count, "non_ip_packets": count}
        return Ran(span=Span(start=0, end=0, records=np.zeros(0, RECORD)), counters={(0, 0, True): counted})


class Sink:
    """Obeys run.Sink."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def take(self, block: Block) -> None:
        self.blocks.append(block)

    def idle(self, seconds: float, clock_ns: int) -> None:
        raise AssertionError


def test_what_was_played_before_a_failure_stays_and_is_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap(FRAMES))
    feed, sink = Feed(FailingProgram(), node="n", ring_id=1), Sink()
    with contextlib.closing(Stop()) as stop:
        replay = Replay(feed=feed, sink=sink, pace=Pace(None), tell=lambda _: None, stop=stop, batch_packets=4)
        broken = replay.run([str(path), str(path)])
    assert [str(error) for error in broken] == ["the kernel would not run the program"]
    assert len(sink.blocks) == 1
    assert feed.totals.frames == 4
    feed.totals.check()
