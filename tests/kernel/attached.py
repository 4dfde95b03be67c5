"""What is attached to an interface: TCX programs, and filters."""

import os
import socket
import subprocess

from producer.interfaces.attach import entry
from producer.kernel import tcx
from producer.kernel.pins import PROGRAMS


def programs(interface: str, direction: int) -> list[str]:
    """Names of the TCX programs, in the order in which they run."""
    there = tcx.query(socket.if_nametoindex(interface), tcx.TCX[direction])
    return [entry.name_and_label(number)[0] for number in there.programs]


def hooks(interface: str, node: str = "") -> set[str]:
    """Where ayaflow is attached, and how: `tcx ingress`, `clsact egress`. `node`: by this one only; empty: by any."""
    found = set[str]()
    if interface not in {name for _, name in socket.if_nameindex()}:
        return found
    for direction, name in enumerate(PROGRAMS):
        if tcx.is_known():
            there = tcx.query(socket.if_nametoindex(interface), tcx.TCX[direction])
            labels = [entry.name_and_label(number)[1] for number in there.programs]
            if any(label is not None and node in {"", label.node} for label in labels):
                found.add(f"tcx {name}")
        if f"ayaflow:{node}" in filters(interface, name):
            found.add(f"clsact {name}")
    return found


def filters(interface: str, hook: str) -> str:
    """As tc shows them; there may be no qdisc for any."""
    command = ["tc", "filter", "show", "dev", interface, hook]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def detach(interface: str, direction: int) -> None:
    """Detach ayaflow's TCX programs, as somebody else would."""
    there = tcx.query(socket.if_nametoindex(interface), tcx.TCX[direction])
    for program, link in zip(there.programs, there.links, strict=True):
        if entry.name_and_label(program)[1] is not None:
            fd = tcx.link_by_id(link)
            tcx.detach(fd)
            os.close(fd)
