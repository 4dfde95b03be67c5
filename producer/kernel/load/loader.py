"""Loads the kernel program, fills its maps and pins them. Runs in the short-lived child only."""

import os
import secrets
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from common.errors import EnvironmentProblem
from producer.kernel import bpfsys, pins
from producer.kernel.abi import CONFIG, UNLIMITED
from producer.kernel.load.choice import chosen
from producer.kernel.load.wanted import Module, Wanted


def load(pin_directory: Path, wanted: Wanted, loader: str) -> None:
    """Load, fill the maps, pin everything into `pin_directory`.

    `loader`: capture.loader. The open epoch counts in counters_a; no slot is set up. Raises EnvironmentProblem.
    """
    module = _module(wanted, loader)
    programs = {hook: module.load(f"ayaflow_{hook}") for hook in pins.PROGRAMS}
    fill(module.maps)
    for direction, hook in enumerate(pins.PROGRAMS):
        _put(module.maps["programs"], direction, programs[hook])
    try:
        for name in (*pins.MAPS, *([pins.COPIES] if wanted.inspect else [])):
            bpfsys.obj_pin(module.maps[name], pin_directory / name)
        for hook, fd in programs.items():
            bpfsys.obj_pin(fd, pin_directory / hook)
    except OSError as error:
        raise EnvironmentProblem(f"cannot pin the kernel program in {pin_directory}: {error.strerror}") from error


def load_for_replay(program: str, maps: Collection[str], wanted: Wanted, loader: str) -> dict[str, int]:
    """Load the program of bpf/replay.h -> descriptors of it and of the maps. Raises EnvironmentProblem.

    Nothing is attached and nothing is pinned: when the last descriptor is closed, all is gone.
    """
    module = _module(wanted, loader)
    fds = {program: module.load(f"ayaflow_{program}")} | {name: module.maps[name] for name in maps}
    _open(module.maps)
    return {name: os.dup(fd) for name, fd in fds.items()}  # bcc closes its own


def _module(wanted: Wanted, loader: str) -> Module:
    if chosen(loader) == "object":
        from producer.kernel.load import by_object

        return by_object.loaded(wanted)
    from producer.kernel.load import by_bcc

    return by_bcc.compiled(wanted)


def fill(maps: Mapping[str, int]) -> None:
    """Say which maps are open, and draw the key of the flow hash. `maps`: descriptors by name."""
    _open(maps)
    for parity, name in enumerate(("flows_b", "flows_a")):
        _put(maps["flow_tables"], parity, maps[name])


def _open(maps: Mapping[str, int]) -> None:
    _put(maps["open_epoch"], 0, maps["counters_a"])
    config = np.zeros(1, CONFIG)
    config["hash_key"] = np.frombuffer(secrets.token_bytes(16), "=u8")
    config["copies"] = UNLIMITED
    bpfsys.map_update(maps["config"], bytes(4), config.tobytes())


def _put(array: int, key: int, fd: int) -> None:
    bpfsys.map_update(array, struct.pack("=I", key), struct.pack("=I", fd))
