"""What a process gives up of its powers, for good."""

import contextlib
import ctypes
import os
import signal
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CAPBSET_READ, _CAPBSET_DROP, _NO_NEW_PRIVS, _AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR = 23, 24, 38, 47, 2, 4
_KEEPCAPS = 8
_SET_PDEATHSIG, _GET_PDEATHSIG = 1, 2
_VERSION_3 = 0x20080522

NUMBERS = {
    "CAP_CHOWN": 0,  # these three: bcc unpacks the kernel's headers, data_dir may be somebody else's
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,  # these three: to become somebody who may do nothing
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,  # attach
    "CAP_IPC_LOCK": 14,  # these two: maps of kernels that count them as locked memory
    "CAP_SYS_RESOURCE": 24,
    "CAP_SYS_PTRACE": 19,  # these two: network namespaces of others, /sys/fs/bpf, and BPF before Linux 5.8
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,  # these two: load
    "CAP_BPF": 39,
}
"""All that anything of the producer ever asks for."""


def give_up() -> None:
    """Keep no more than NUMBERS of what this process, and whatever it starts, may do. Of who is not root: nothing."""
    if os.geteuid() == 0:
        keep(NUMBERS)


def keep(names: Collection[str]) -> None:
    """Keep of our capabilities no more than these, and gain none by any program that is started. Raises OSError.

    Of who is not root they go to the programs that are started, too, as root's do by themselves. This thread's only:
    to be called while there is no other.
    """
    wanted = sum(1 << NUMBERS[name] for name in names)
    held = held_bits("CapPrm")
    for bit in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text("ascii")) + 1):
        if not wanted >> bit & 1 and _LIBC.prctl(_CAPBSET_READ, bit, 0, 0, 0) == 1:
            _LIBC.prctl(_CAPBSET_DROP, bit, 0, 0, 0)  # fails without CAP_SETPCAP: then NO_NEW_PRIVS must do
    passed = 0 if os.geteuid() == 0 else held & wanted
    _capset(effective=held & wanted, permitted=held & wanted, inheritable=passed)
    _LIBC.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    for bit in range(passed.bit_length()):
        if passed >> bit & 1:
            _checked(_LIBC.prctl(_AMBIENT, _AMBIENT_RAISE, bit, 0, 0))
    _checked(_LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))


def become(uid: int, gid: int, names: Iterable[str] = ()) -> None:
    """Be another user, without groups, with no capabilities but these: of root, in its only thread. Raises OSError."""
    kept = tuple(names)
    with dying_with_parent():
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        _checked(_LIBC.prctl(_KEEPCAPS, 1, 0, 0, 0))
        for bit in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text("ascii")) + 1):
            _LIBC.prctl(_CAPBSET_DROP, bit, 0, 0, 0)
        os.setresuid(uid, uid, uid)
        keep(kept)


@contextlib.contextmanager
def dying_with_parent() -> Iterator[None]:
    """Who changes to another user in here gets the signal of its parent's death as before: the kernel forgets it."""
    parent, number = os.getppid(), ctypes.c_int()
    _checked(_LIBC.prctl(_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0))
    try:
        yield
    finally:
        if number.value:
            _checked(_LIBC.prctl(_SET_PDEATHSIG, number.value, 0, 0, 0))
            if os.getppid() != parent:
                os.kill(os.getpid(), number.value)


def kill_with_parent(parent: int) -> None:
    """Be killed when the parent is, which had this process id. Raises OSError."""
    _checked(_LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def held() -> set[str]:
    """Those of NUMBERS that we have."""
    effective = held_bits("CapEff")
    return {name for name, bit in NUMBERS.items() if effective >> bit & 1}


def held_bits(name: str) -> int:
    """A set of this process's capabilities, as /proc says."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(f"{name}:"))


def _capset(*, effective: int, permitted: int, inheritable: int) -> None:
    words = (part >> shift & 0xFFFFFFFF for shift in (0, 32) for part in (effective, permitted, inheritable))
    _checked(_LIBC.capset(struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *words)))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
