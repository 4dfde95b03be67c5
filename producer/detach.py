"""`ayaflow detach`: removes all that ayaflow attached or pinned on this machine, whoever left it."""

import sys
from collections.abc import Callable
from pathlib import Path

from common.settings import CaptureSettings, Settings
from producer.kernel import bpfsys, child, pins
from producer.kernel.environment import check_privileges
from producer.kernel.layout import layout_of
from producer.kernel.run import OpenPin, open_run


def run(settings: Settings) -> int:
    """Remove the filters and pins of all nodes, and say what was removed -> 0. Raises AyaflowError."""
    check_privileges()
    detach(settings.capture, logs=settings.data_dir / "logs", say=sys.stdout.write)
    return 0


def detach(
    capture: CaptureSettings,
    *,
    logs: Path,
    say: Callable[[str], object],
    call: child.Call = child.run,
    open_pin: OpenPin = bpfsys.obj_get,
) -> None:
    """`say` gets lines of what was removed and what is lost with it. Raises AyaflowError."""
    directories = pins.node_directories(capture.bpffs)
    for directory in directories:
        if pins.is_locked(directory):
            say(f"warning: a producer for node {pins.node_of(directory)} is running; it will see no more packets\n")
    removed = list(call("detach", {"node": None}, log=logs / "detach.log").values["removed"])
    for directory in directories:
        runs = (directory, *pins.set_aside_runs(directory))
        if left := sum(_unsent(run, capture, open_pin) for run in runs):
            say(
                f"warning: {left} events of node {pins.node_of(directory)} had not been sent and are lost; "
                "a producer that is started before detaching sends them\n"
            )
        removed += [f"pin {directory / name}" for name in pins.remove(directory)]
    for line in removed:
        say(f"removed {line}\n")
    if not removed:
        say("nothing of ayaflow was attached or pinned here\n")


def _unsent(directory: Path, capture: CaptureSettings, open_pin: OpenPin) -> int:
    """Events in the ring that are not known to be in Kafka, or on disk."""
    kernel = open_run(directory, layout_of(capture), open_pin=open_pin)
    if kernel is None:
        return 0
    try:
        ring = kernel.ring
        return (ring.producer_position() - ring.consumer_position()) // ring.stride
    finally:
        kernel.close()
