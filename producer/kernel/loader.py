"""Compiles and loads the kernel program with bcc, and pins it. Runs in the short-lived child only."""

import ctypes
import os
import secrets
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.errors import EnvironmentProblem
from producer.kernel import bpfsys, environment, pins
from producer.kernel.abi import tunnel_mask

SOURCE = Path(__file__).parents[2] / "bpf" / "ayaflow.bpf.c"


def load(
    pin_directory: Path, *, ring_pages: int, flow_entries: int, decapsulate: Collection[str] = ()
) -> tuple[dict[str, int], Any]:
    """Compile, load, fill the maps, pin everything into `pin_directory`.

    `decapsulate`: tunnels to be opened, of schemas.packets.TUNNEL_TYPES.
    Returns the programs' file descriptors by hook, and bcc's object, with which they are closed. The open epoch counts
    in counters_a; no slot is set up. Raises EnvironmentProblem.
    """
    bcc = environment.import_bcc()
    environment.check_headers()
    try:
        module = bcc.BPF(src_file=str(SOURCE), cflags=compiler_flags(ring_pages, flow_entries, decapsulate))
    except Exception as error:
        raise EnvironmentProblem(
            f"bcc could not compile the kernel program ({error}); its messages are in LOG. "
            "Usually the kernel headers do not fit: run make setup, or install linux-headers for this kernel"
        ) from error
    programs = {}
    for hook in pins.PROGRAMS:
        try:
            programs[hook] = module.load_func(f"ayaflow_{hook}", bcc.BPF.SCHED_CLS).fd
        except Exception as error:
            raise EnvironmentProblem(
                f"kernel {os.uname().release} refused the {hook} program ({error}); the verifier's reasons are in LOG. "
                f"ayaflow needs Linux {environment.OLDEST_KERNEL} or newer"
            ) from error
    fill(module)
    try:
        for name in pins.MAPS:
            bpfsys.obj_pin(module[name].map_fd, pin_directory / name)
        for hook, fd in programs.items():
            bpfsys.obj_pin(fd, pin_directory / hook)
    except OSError as error:
        raise EnvironmentProblem(f"cannot pin the kernel program in {pin_directory}: {error.strerror}") from error
    return programs, module


def compiler_flags(ring_pages: int, flow_entries: int, decapsulate: Collection[str]) -> list[str]:
    """What the C files are to be told."""
    return [
        f"-I{SOURCE.parent}",
        f"-DRING_PAGES={ring_pages}",
        f"-DFLOW_ENTRIES={flow_entries}",
        f"-DDECAPSULATE={tunnel_mask(decapsulate)}",
    ]


def fill(module: Any) -> None:
    """Say which maps are open, and draw the key of the flow hash."""
    bpfsys.map_update(module["open_epoch"].map_fd, bytes(4), struct.pack("=I", module["counters_a"].map_fd))
    for parity, name in enumerate(("flows_b", "flows_a")):
        table = struct.pack("=I", module[name].map_fd)
        bpfsys.map_update(module["flow_tables"].map_fd, struct.pack("=I", parity), table)
    config = secrets.token_bytes(16).ljust(ctypes.sizeof(module["config"].Leaf), b"\0")
    bpfsys.map_update(module["config"].map_fd, bytes(4), config)
