"""Network namespaces that have a name in /run/netns."""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from producer.interfaces.names import shown

RUN_NETNS = Path("/run/netns")
OWN = "/proc/self/ns/net"
_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def named(directory: Path = RUN_NETNS) -> dict[str, tuple[int, int]]:
    """Names, and what tells one namespace from another of the same name: its device and inode. Raises OSError."""
    found = {}
    own = Path(OWN).stat()
    nsfs = own.st_dev
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                # before it is mounted there, it is an empty file; and our own is watched as such
                if status.st_dev == nsfs and status.st_ino != own.st_ino:
                    found[entry.name] = (status.st_dev, status.st_ino)
    return found


def path_of(name: str) -> Path:
    """The file of a namespace with a name. Raises ValueError for what can be none."""
    if "/" in name or name in {"", ".", ".."}:
        raise ValueError(f"no name of a network namespace: {name!r}")
    return RUN_NETNS / name


def interfaces() -> dict[int, str]:
    """Those of this thread's namespace: as they are shown, by ifindex."""
    return {ifindex: shown(os.fsencode(name)) for ifindex, name in socket.if_nameindex()}


@contextlib.contextmanager
def entered(path: str | None) -> Iterator[None]:
    """Be, with this thread, in the namespace of a file such as /run/netns/NAME; None: where we are. Raises OSError."""
    if path is None:
        yield
        return
    here = os.open(OWN.replace("self", f"self/task/{_thread_id()}"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path)
        try:
            yield
        finally:
            _setns(here)
    finally:
        os.close(here)


def enter(path: str) -> None:
    """Be, with this thread and those that it starts, in the namespace of a file, and stay there. Raises OSError."""
    there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(there)
    finally:
        os.close(there)


def _thread_id() -> int:
    import threading

    return threading.get_native_id()


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
