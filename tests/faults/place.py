"""Where a fault run lives: a network namespace without a name, and small disks; all gone afterwards.

In a namespace of its own it has all ports to itself, and `ayaflow detach` of somebody else does not reach it.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_PAGE = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@contextlib.contextmanager
def network_namespace() -> Iterator[None]:
    """Be, with this thread and what it starts, in a new network namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


class SmallDisk:
    """A file system in memory that can be filled."""

    def __init__(self, path: Path, megabytes: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", path], check=True)
        self.path = path

    def fill(self) -> None:
        """Leave no room."""
        with (self.path / ".ballast").open("wb") as file:
            size, step = 0, 1 << 26
            while step >= _PAGE:
                try:
                    os.posix_fallocate(file.fileno(), size, step)  # all of it or nothing
                    size += step
                except OSError:
                    step //= 2
        assert os.statvfs(self.path).f_bavail < 16

    def empty(self) -> None:
        """Give the room back."""
        (self.path / ".ballast").unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)
