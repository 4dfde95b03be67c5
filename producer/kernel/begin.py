"""The kernel's side of a run: what an earlier run has left is gone on with, or else a program is loaded."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from common import logs
from common.settings import Settings
from producer.kernel import child, pins
from producer.kernel.layout import Layout, layout_of
from producer.kernel.run import PinnedRun, begin_run, open_run

log = logs.get("producer")


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


def begin(settings: Settings, directory: Path) -> Begun:
    """Adopt or load, in the node's pin folder. Raises EnvironmentProblem, OSError."""
    wanted = layout_of(settings.capture)
    found = open_run(directory, wanted)
    adopted = found is not None and found.layout == wanted
    if found is not None and not adopted:
        pins.set_aside(directory, str(found.state.ring_id))
        found.close()
    old = tuple(run for folder in pins.set_aside_runs(directory) if (run := open_run(folder, wanted)) is not None)
    if found is not None and adopted:
        return Begun(kernel=found, adopted=True, old=old)
    return Begun(kernel=_load(settings, directory, wanted, sweep=not old), adopted=False, old=old)


def _load(settings: Settings, directory: Path, layout: Layout, *, sweep: bool) -> PinnedRun:
    """`sweep`: remove the node's hooks first; else they stay until ours take their places."""
    logs_directory = settings.data_dir / "logs"
    if sweep:
        child.run("detach", {"node": settings.node}, log=logs_directory / f"kernel-{settings.node}.detach.log")
    pins.remove_files(directory)
    ring_id = time.time_ns()
    request = {
        "node": settings.node,
        "pin_directory": str(directory),
        "ring_pages": layout.ring_bytes // os.sysconf("SC_PAGE_SIZE"),
        "flow_entries": layout.flow_entries,
        "decapsulate": settings.capture.decapsulate,
    }
    answer = child.run("load", request, log=logs_directory / f"kernel-{settings.node}.log")
    return begin_run(directory, layout, ring_id=ring_id, opened_ns=answer["opened_ns"])
