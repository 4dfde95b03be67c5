"""The short-lived child that compiles the kernel program for replay and hands its maps over, so that LLVM goes with it.

    python -m producer.replay.compile SOCKET [TUNNEL]...   sends one JSON object, and the file descriptors that it names

Nothing is attached and nothing is pinned: when the last descriptor is closed, all is gone.
"""

import array
import ctypes
import json
import secrets
import socket
import struct
import sys
from typing import Any

from common.errors import AyaflowError, EnvironmentProblem
from producer.kernel import bpfsys, environment, loader

RING_PAGES = 1024  # more than a block's events
MAPS = ("events", "counters_a", "interfaces", "replay_frames", "replay_block", "replay_state")
PROGRAM = "program"


def _load(decapsulate: list[str]) -> tuple[dict[str, Any], list[int], Any]:
    bcc = environment.import_bcc()
    environment.check_headers()
    flags = [*loader.compiler_flags(RING_PAGES, 1, decapsulate), "-DREPLAY"]
    try:
        module = bcc.BPF(src_file=str(loader.SOURCE), cflags=flags)
        program = module.load_func("ayaflow_replay", bcc.BPF.SCHED_CLS).fd
    except Exception as error:
        raise EnvironmentProblem(
            f"the kernel program for replay could not be made ({error}); LOG says why. "
            "Usually the kernel headers do not fit: run make setup, or install linux-headers for this kernel"
        ) from error
    _fill(module)
    names = [PROGRAM, *MAPS]
    return {"names": names}, [program, *(module[name].map_fd for name in MAPS)], module


def _fill(module: Any) -> None:
    """What does not change: the open epoch's map, and a key for the flow hash."""
    zero = bytes(4)
    bpfsys.map_update(module["open_epoch"].map_fd, zero, struct.pack("=I", module["counters_a"].map_fd))
    key = secrets.token_bytes(16)
    bpfsys.map_update(module["config"].map_fd, zero, key.ljust(ctypes.sizeof(module["config"].Leaf), b"\0"))


def main() -> int:
    """The child."""
    fds: list[int] = []
    try:
        answer, fds, _module = _load(sys.argv[2:])
    except AyaflowError as error:
        answer = {"error": str(error)}
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        parent.sendmsg([json.dumps(answer).encode()], rights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
