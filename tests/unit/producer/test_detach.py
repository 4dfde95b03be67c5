"""`ayaflow detach` says what it removes, and what is lost with it."""

import mmap
from pathlib import Path

import pytest

from common.settings import CaptureSettings
from producer.detach import detach
from producer.kernel import pins
from producer.kernel.begin import begin
from producer.kernel.testing import MemoryCall, open_file

RING_BYTES = 1 << 16


@pytest.fixture
def capture(tmp_path: Path) -> CaptureSettings:
    return CaptureSettings(bpffs=tmp_path / "bpf", ring_bytes=RING_BYTES)


def said(capture: CaptureSettings, call: MemoryCall) -> list[str]:
    lines: list[str] = []
    detach(capture, logs=capture.bpffs, say=lines.append, call=call, open_pin=open_file)
    return lines


def run_of(capture: CaptureSettings, node: str, events: int = 0) -> Path:
    """A run that a producer has left, with events that it had not sent."""
    directory = pins.node_directory(capture.bpffs, node)
    directory.mkdir(parents=True, exist_ok=True)
    begun = begin(capture, directory=directory, logs=directory, call=MemoryCall(), open_pin=open_file)
    stride = begun.kernel.ring.stride
    begun.close()
    with (directory / "events").open("r+b") as ring:  # the producer's page is the second
        ring.seek(mmap.PAGESIZE)
        ring.write((events * stride).to_bytes(8, "little"))
    return directory


def test_where_there_is_nothing_it_says_so(capture: CaptureSettings) -> None:
    call = MemoryCall()
    assert said(capture, call) == ["nothing of ayaflow was attached or pinned here\n"]
    assert call.asked == [("detach", {"node": None})]


def test_hooks_and_pins_of_all_nodes_go(capture: CaptureSettings) -> None:
    directories = [run_of(capture, "one"), run_of(capture, "two.b")]
    call = MemoryCall()
    call.attached = ["filter ayaflow:one:ingress@1 on eth0 ingress"]
    lines = said(capture, call)
    assert lines[0] == "removed filter ayaflow:one:ingress@1 on eth0 ingress\n"
    assert [f"removed pin {directory / 'events'}\n" in lines for directory in directories] == [True, True]
    assert not any("warning" in line for line in lines)
    assert not (capture.bpffs / pins.TOP).exists()


def test_events_that_were_not_sent_are_lost_with_a_warning(capture: CaptureSettings) -> None:
    run_of(capture, "one", events=3)
    run_of(CaptureSettings(bpffs=capture.bpffs, ring_bytes=2 * RING_BYTES), "one", events=4)  # sets the first aside
    (warning,) = [line for line in said(capture, MemoryCall()) if "warning" in line]
    assert warning.startswith("warning: 7 events of node one had not been sent and are lost")


def test_a_producer_that_runs_is_told_of(capture: CaptureSettings) -> None:
    directory = run_of(capture, "one")
    with pins.locked(directory):
        lines = said(capture, MemoryCall())
    assert lines[0] == "warning: a producer for node one is running; it will see no more packets\n"
