"""Compiles and loads the kernel program with bcc. Runs in the short-lived child only."""

import os
import secrets
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import EnvironmentProblem
from producer.kernel import bpfsys, environment, pins
from producer.kernel.abi import CONFIG, SOURCES, UNLIMITED, tunnel_mask
from producer.kernel.child import SeeLogError

SOURCE = SOURCES / "ayaflow.bpf.c"


def load(
    pin_directory: Path,
    *,
    ring_pages: int,
    flow_entries: int,
    decapsulate: Collection[str] = (),
    inspect: int = 0,
    copy_pages: int = 0,
) -> None:
    """Compile, load, fill the maps, pin everything into `pin_directory`.

    `decapsulate`: tunnels to be opened, of schemas.fields.TUNNEL_TYPES. `inspect`: octets of payload to be copied where
    there may be a name, into a ring of `copy_pages`. The open epoch counts in counters_a; no slot is set up.
    Raises EnvironmentProblem.
    """
    module = _compiled(compiler_flags(ring_pages, flow_entries, decapsulate, inspect, copy_pages))
    programs = {hook: _verified(module, hook) for hook in pins.PROGRAMS}
    fill(module)
    for direction, hook in enumerate(pins.PROGRAMS):
        _put(module, "programs", direction, struct.pack("=I", programs[hook]))
    try:
        for name in (*pins.MAPS, *([pins.COPIES] if inspect else [])):
            bpfsys.obj_pin(module[name].map_fd, pin_directory / name)
        for hook, fd in programs.items():
            bpfsys.obj_pin(fd, pin_directory / hook)
    except OSError as error:
        raise EnvironmentProblem(f"cannot pin the kernel program in {pin_directory}: {error.strerror}") from error


def load_for_replay(
    program: str,
    maps: Collection[str],
    *,
    ring_pages: int,
    decapsulate: Collection[str] = (),
    inspect: int = 0,
    copy_pages: int = 0,
) -> dict[str, int]:
    """Compile and load with bpf/replay.h -> descriptors of the program and the maps. Raises EnvironmentProblem.

    See `load`. Nothing is attached and nothing is pinned: when the last descriptor is closed, all is gone.
    """
    module = _compiled([*compiler_flags(ring_pages, 1, decapsulate, inspect, copy_pages), "-DREPLAY"])
    fds = {program: _verified(module, program)} | {name: module[name].map_fd for name in maps}
    _open(module)
    return {name: os.dup(fd) for name, fd in fds.items()}  # bcc closes its own


def compiler_flags(
    ring_pages: int, flow_entries: int, decapsulate: Collection[str], inspect: int = 0, copy_pages: int = 0
) -> list[str]:
    """What the C files are to be told."""
    return [
        f"-I{SOURCE.parent}",
        f"-DRING_PAGES={ring_pages}",
        f"-DFLOW_ENTRIES={flow_entries}",
        f"-DDECAPSULATE={tunnel_mask(decapsulate)}",
        f"-DINSPECT={inspect}",
        f"-DCOPY_PAGES={copy_pages}",
    ]


def fill(module: Any) -> None:
    """Say which maps are open, and draw the key of the flow hash."""
    _open(module)
    for parity, name in enumerate(("flows_b", "flows_a")):
        _put(module, "flow_tables", parity, struct.pack("=I", module[name].map_fd))


def _open(module: Any) -> None:
    _put(module, "open_epoch", 0, struct.pack("=I", module["counters_a"].map_fd))
    config = np.zeros(1, CONFIG)
    config["hash_key"] = np.frombuffer(secrets.token_bytes(16), "=u8")
    config["copies"] = UNLIMITED
    _put(module, "config", 0, config.tobytes())


def _put(module: Any, name: str, key: int, value: bytes) -> None:
    bpfsys.map_update(module[name].map_fd, struct.pack("=I", key), value)


def _compiled(flags: list[str]) -> Any:
    bcc = environment.import_bcc()
    environment.check_headers()
    try:
        return bcc.BPF(src_file=str(SOURCE), cflags=flags)
    except Exception as error:
        raise SeeLogError(
            f"bcc could not compile the kernel program ({error}). Usually the kernel headers do not fit: "
            "run make setup, or install linux-headers for this kernel"
        ) from error


def _verified(module: Any, name: str) -> int:
    """Descriptor of a program that the kernel took."""
    try:
        fd: int = module.load_func(f"ayaflow_{name}", module.SCHED_CLS).fd
    except Exception as error:
        raise SeeLogError(
            f"kernel {os.uname().release} refused the {name} program ({error}). ayaflow needs "
            f"Linux {environment.OLDEST_KERNEL} or newer"
        ) from error
    return fd
