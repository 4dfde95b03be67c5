"""A folder and a mount namespace of the demo's own: what is mounted there nobody else sees, and it goes with it."""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import EnvironmentProblem
from producer.interfaces.namespaces import RUN_NETNS

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MNT_DETACH = 2
_GUARD_SECONDS = 10
_LIBC = ctypes.CDLL(None, use_errno=True)
BPFFS = "bpf"
"""Below the folder: a BPF file system of its own, so that not even a producer that is killed leaves a pin."""


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder that is gone afterwards, also when we are killed; named namespaces and pins of this process and its
    children are theirs alone from here on, until they end. Call it from the main thread. Raises EnvironmentProblem.
    """
    folder = Path(tempfile.mkdtemp(prefix="ayaflow-demo-", dir=os.environ.get("TMPDIR") or "/var/tmp"))  # noqa: S108
    try:
        made = not RUN_NETNS.exists()
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "deploy.local.demo.guard", folder, RUN_NETNS if made else ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert guard.stdin is not None
        with guard.stdin:
            _separate(folder)
            guard.stdin.write(f"{Path('/proc/thread-self/ns/mnt').readlink()}\n".encode())
            guard.stdin.flush()
            try:
                yield folder
            finally:
                for mounted in (folder / BPFFS, RUN_NETNS):
                    _LIBC.umount2(os.fsencode(mounted), _MNT_DETACH)
                shutil.rmtree(folder, ignore_errors=True)
        guard.wait(_GUARD_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _separate(folder: Path) -> None:
    RUN_NETNS.mkdir(mode=0o755, parents=True, exist_ok=True)
    (folder / BPFFS).mkdir()
    _done("unshare", _LIBC.unshare(_CLONE_NEWNS))
    _mount("none", Path("/"), "none", _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", RUN_NETNS, "tmpfs")
    _mount("bpf", folder / BPFFS, "bpf")


def _mount(what: str, where: Path, kind: str, flags: int = 0) -> None:
    _done(f"mount {where}", _LIBC.mount(what.encode(), os.fsencode(where), kind.encode(), ctypes.c_ulong(flags), None))


def _done(what: str, code: int) -> None:
    if code:
        why = os.strerror(ctypes.get_errno())
        raise EnvironmentProblem(
            f"{what}: {why}. The demo makes namespaces of its own, which needs root with CAP_SYS_ADMIN"
        )
