"""The kernel's side of a run: what an earlier run has left is gone on with, or else a program is loaded."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from common.settings import CaptureSettings
from producer.kernel import bpfsys, child, pins
from producer.kernel.layout import Layout, layout_of
from producer.kernel.run import OpenPin, PinnedRun, begin_run, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a run works with."""

    kernel: PinnedRun
    adopted: bool  # an earlier run has made it
    old: tuple[PinnedRun, ...]  # of other versions or settings: to be sent to their ends when our hooks are there

    def close(self) -> None:
        """Close the maps; what is pinned stays."""
        for kernel in (self.kernel, *self.old):
            kernel.close()


def begin(
    capture: CaptureSettings,
    *,
    directory: Path,
    logs: Path,
    call: child.Call = child.run,
    open_pin: OpenPin = bpfsys.obj_get,
) -> Begun:
    """Adopt or load, in the node's pin folder. `logs`: for the child. Raises EnvironmentProblem, OSError."""
    wanted = layout_of(capture)
    found = open_run(directory, wanted, open_pin=open_pin)
    adopted = found is not None and found.layout == wanted
    if found is not None and not adopted:
        pins.set_aside(directory, str(found.state.ring_id))
        found.close()
    aside = [open_run(folder, wanted, open_pin=open_pin) for folder in pins.set_aside_runs(directory)]
    old = tuple(run for run in aside if run is not None)
    if found is not None and adopted:
        return Begun(kernel=found, adopted=True, old=old)
    if not old:  # else the node's hooks stay until ours take their places
        call("detach", {"node": pins.node_of(directory)}, log=logs / f"kernel-{pins.node_of(directory)}.detach.log")
        pins.remove_hooks(directory)  # also those on interfaces that have moved to where nobody looks
    opened_ns = _load(capture, wanted, directory, logs, call)
    run = begin_run(directory, wanted, ring_id=time.time_ns() // 1000, opened_ns=opened_ns, open_pin=open_pin)
    return Begun(kernel=run, adopted=False, old=old)


def _load(capture: CaptureSettings, layout: Layout, directory: Path, logs: Path, call: child.Call) -> int:
    """Returns when the first epoch was opened, on the monotonic clock."""
    pins.remove_files(directory)
    request = {
        "loader": capture.loader,
        "pin_directory": str(directory),
        "ring_pages": layout.ring_bytes // os.sysconf("SC_PAGE_SIZE"),
        "flow_entries": layout.flow_entries,
        "decapsulate": capture.decapsulate,
        "inspect": capture.inspected_bytes,
        "copy_pages": layout.copies_bytes // os.sysconf("SC_PAGE_SIZE"),
    }
    answer = call("load", request, log=logs / f"kernel-{pins.node_of(directory)}.log")
    return int(answer.values["opened_ns"])
