"""What the producer gives up of root's powers, for good: whatever capturing does not ask for."""

import ctypes
import os
import struct
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CAPBSET_DROP, _NO_NEW_PRIVS = 24, 38
_VERSION_3 = 0x20080522

KEPT = {
    "CAP_CHOWN": 0,  # these three: bcc unpacks the kernel's headers, data_dir may be somebody else's
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,  # attach
    "CAP_IPC_LOCK": 14,  # these two: maps of kernels that count them as locked memory
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_PTRACE": 19,  # these two: network namespaces of others, /sys/fs/bpf, and BPF before Linux 5.8
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,  # these two: load
    "CAP_BPF": 39,
}


def give_up() -> None:
    """Keep no more than KEPT of what this process, and whatever it starts, may do. Of who is not root: nothing."""
    if os.geteuid() != 0:
        return
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text("ascii"))
    kept = sum(1 << bit for bit in KEPT.values())
    for bit in range(last + 1):
        if not kept >> bit & 1:
            _LIBC.prctl(_CAPBSET_DROP, bit, 0, 0, 0)  # fails without CAP_SETPCAP, where a container took it away
    effective, permitted = (_held(name) & kept for name in ("CapEff", "CapPrm"))
    words = (part >> shift & 0xFFFFFFFF for shift in (0, 32) for part in (effective, permitted, 0))
    if _LIBC.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *words)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)


def _held(name: str) -> int:
    """A set of this process's capabilities, as /proc says."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))
