"""`ayaflow detach`: removes all that ayaflow attached or pinned on this machine, whoever left it."""

import sys
from pathlib import Path

from common.settings import Settings
from producer.kernel import child, pins
from producer.kernel.environment import check_privileges
from producer.kernel.layout import layout_of
from producer.kernel.run import open_run


def run(settings: Settings) -> int:
    """Remove the filters and pins of all nodes, and say what was removed -> 0. Raises AyaflowError."""
    check_privileges()
    say = sys.stdout.write
    bpffs = settings.capture.bpffs
    directories = pins.node_directories(bpffs)
    for directory in directories:
        if pins.is_locked(directory):
            say(f"warning: a producer for node {pins.node_of(directory)} is running; it will see no more packets\n")
    answer = child.run("detach", {"node": None}, log=settings.data_dir / "logs" / "detach.log")
    removed = list(answer["removed"])
    for directory in directories:
        if left := sum(_unsent(run, settings) for run in (directory, *pins.set_aside_runs(directory))):
            say(
                f"warning: {left} events of node {pins.node_of(directory)} had not been sent and are lost; "
                "a producer that is started before detaching sends them\n"
            )
        removed += [f"pin {directory / name}" for name in pins.remove(directory)]
    for line in removed:
        say(f"removed {line}\n")
    if not removed:
        say("nothing of ayaflow was attached or pinned here\n")
    return 0


def _unsent(directory: Path, settings: Settings) -> int:
    """Events in the ring that are not known to be in Kafka, or on disk."""
    kernel = open_run(directory, layout_of(settings.capture))
    if kernel is None:
        return 0
    try:
        ring = kernel.ring
        return (ring.producer_position() - ring.consumer_position()) // ring.stride
    finally:
        kernel.close()
