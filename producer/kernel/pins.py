"""The node's folder in bpffs: what the kernel keeps of us has a name there, so that nothing can be forgotten."""

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import EnvironmentProblem

TOP = "ayaflow"
MAPS = (
    "events",
    "counters_a",
    "counters_b",
    "open_epoch",
    "flows_a",
    "flows_b",
    "interfaces",
    "watched",
    "config",
    "state",
    "entered",
    "programs",
)
COPIES = "copies"
"""The ring of a program that inspects payload."""
OLD = "old"
"""Folder in the node's, with a folder for each run of another version that is not sent to its end."""
_HOOKS = "hooks-"
PROGRAMS = ("ingress", "egress")
"""By direction."""


def mount(bpffs: Path) -> None:
    """Mount the BPF file system if it is not mounted. Raises EnvironmentProblem."""
    if is_mounted(bpffs):
        return
    try:
        bpffs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot create {bpffs} to mount the BPF file system: {error.strerror}. "
            "Set capture.bpffs to a folder that can be written"
        ) from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bpf", os.fsencode(bpffs), b"bpf", 0, None) != 0:
        raise EnvironmentProblem(
            f"cannot mount the BPF file system on {bpffs}: {os.strerror(ctypes.get_errno())}. "
            f"Run as root, or mount it: sudo mount -t bpf bpf {bpffs}"
        )


def is_mounted(bpffs: Path) -> bool:
    """Whether `bpffs` is, or lies in, a mounted BPF file system."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()]
    above = {str(path) for path in (bpffs.absolute(), *bpffs.absolute().parents)}
    holding = [fields for fields in mounts if fields[1].replace("\\040", " ") in above]
    return bool(holding) and max(holding, key=lambda fields: len(fields[1]))[2] == "bpf"


def node_directory(bpffs: Path, node: str) -> Path:
    """The node's folder. bpffs keeps names with dots for itself; `~` cannot be in a node's name."""
    return bpffs / TOP / node.replace(".", "~")


def node_of(directory: Path) -> str:
    """The node whose folder it is."""
    return directory.name.replace("~", ".")


def node_directories(bpffs: Path) -> list[Path]:
    """The folders of all nodes."""
    try:
        return sorted(path for path in (bpffs / TOP).iterdir() if path.is_dir())
    except OSError:
        return []


def orphans(bpffs: Path) -> list[str]:
    """Nodes that have left something in the kernel, and have no producer that runs. Raises PermissionError."""
    top = bpffs / TOP
    if not os.access(bpffs, os.X_OK) or (top.exists() and not os.access(top, os.W_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(top))
    return [node_of(directory) for directory in node_directories(bpffs) if not is_locked(directory)]


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the node's folder and hold it, so that no second producer of the node runs. Raises EnvironmentProblem."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise EnvironmentProblem(
                f"a producer for node {node_of(directory)} is running on this machine already; "
                "stop it, or give this one another --node"
            ) from error
        if _same(fd, directory):  # else its last owner has removed it in the meantime
            break
        os.close(fd)
    try:
        yield
    finally:
        os.close(fd)


def is_locked(directory: Path) -> bool:
    """Whether a live producer holds the folder."""
    try:
        with locked(directory):
            return False
    except EnvironmentProblem:
        return True


def set_aside(directory: Path, name: str) -> None:
    """Move the pins of the node's run to those of other versions. Raises OSError."""
    aside = directory / OLD / name
    aside.mkdir(parents=True, exist_ok=True)
    for path in directory.iterdir():
        if not path.is_dir():
            path.rename(aside / path.name)


def set_aside_runs(directory: Path) -> list[Path]:
    """The folders of runs that were set aside, oldest first."""
    try:
        return sorted((directory / OLD).iterdir(), key=lambda path: int(path.name))
    except FileNotFoundError:
        return []


def hooks_directory(directory: Path, run: str) -> Path:
    """Folder of the node for links of a run (see interfaces/attach/links.py). It stays when the run is set aside."""
    return directory / f"{_HOOKS}{run}"


def hooks_directories(directory: Path) -> list[Path]:
    """Those of all runs of the node."""
    return sorted(directory.glob(f"{_HOOKS}*"))


def remove_files(directory: Path) -> None:
    """Unlink the pins of the node's run, but not those that were set aside."""
    for path in directory.iterdir():
        if not path.is_dir():
            path.unlink()


def remove(directory: Path) -> list[str]:
    """Unlink all pins of a node and its folder. Returns their names. What is not there is no error."""
    removed = _remove(directory)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()  # when no other node is left
    return removed


def remove_hooks(directory: Path, run: str | None = None) -> None:
    """Unlink the links of a run of the node, or of all: what is attached goes with them."""
    for folder in hooks_directories(directory):
        if run is None or folder == hooks_directory(directory, run):
            _remove(folder)


def remove_slot(directory: Path, run: str, slot: int) -> None:
    """Unlink the links of a slot: what is attached goes with them, wherever the interface is now."""
    for path in slot_pins(directory, run, slot):
        path.unlink(missing_ok=True)


def slot_pins(directory: Path, run: str, slot: int) -> list[Path]:
    """Where the links of a slot are pinned, by direction."""
    return [hooks_directory(directory, run) / f"{slot}-{name}" for name in PROGRAMS]


def _remove(directory: Path) -> list[str]:
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            if path.is_dir():
                removed += [f"{path.name}/{name}" for name in _remove(path)]
            else:
                path.unlink()
                removed.append(path.name)
        directory.rmdir()
    return removed


def _same(fd: int, directory: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), directory.stat())
    except FileNotFoundError:
        return False
