"""Children that do not outlive us, and directories that only one process may use."""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import EnvironmentProblem

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """For Popen's preexec_fn: the kernel sends `death_signal` to the child when its parent ends, even by kill -9.

    The parent is the *thread* that starts the child: start children from a thread that lives as long as they.
    """
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def stop(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Ask with SIGTERM, wait, then SIGKILL. Returns whether it stopped by itself in time."""
    if child.poll() is not None:
        return True
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False
    return True


def rss_mb(pid: int) -> int:
    """Resident memory of a process and its children, MB; 0 when it is gone."""
    total = 0
    with contextlib.suppress(OSError, IndexError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        total = pages * os.sysconf("SC_PAGE_SIZE") >> 20
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += rss_mb(int(child))
    return total


def make_directory(path: Path) -> None:
    """Create a directory of ours, for its owner only, with its parents. Raises EnvironmentProblem."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write to {path}: {error.strerror}. Make room or change its owner, or set data_dir"
        ) from error


def write_private(path: Path, text: str, *, group: int | None = None) -> None:
    """Write a file that its owner may read alone, and a group if one is given; also anew. Raises OSError."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if group is not None:
            os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), 0o640)
        file.write(text)


def _lock(data_dir: Path, part: str) -> Path:
    return data_dir / "run" / part / "lock"


def is_held(data_dir: Path, part: str) -> bool:
    """Whether a process is `only_one`."""
    try:
        with _lock(data_dir, part).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def only_one(data_dir: Path, part: str, what: str) -> Iterator[None]:
    """Be the only `part` on a data directory. Raises EnvironmentProblem when another process is; kill -9 frees it."""
    path = _lock(data_dir, part)
    make_directory(path.parent)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            who = file.read().strip()
            raise EnvironmentProblem(
                f"{what} already runs on {data_dir}"
                + (f" as process {who}" if who else "")
                + ". Stop it first, or set another data_dir"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
