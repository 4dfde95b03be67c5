"""Whether the kernel lets us use bpf(2), and, where it does not, who forbids it."""

import errno
import os
from pathlib import Path

from common.errors import EnvironmentProblem
from producer.kernel import bpfsys
from producer.kernel.environment import OLDEST_KERNEL

_PROC = Path("/proc")
_WHOLE_MACHINE = ["0", "0", "4294967295"]  # uid_map of who is in no user namespace of its own
_SECCOMP_FILTER = "2"


def check_bpf() -> None:
    """Make a map of four octets, and throw it away. Raises EnvironmentProblem when that is forbidden."""
    try:
        os.close(bpfsys.map_create("ayaflow_try", 4, 1))
    except OSError as error:
        raise EnvironmentProblem(refusal("a map", error)) from error


def refusal(what: str, error: OSError) -> str:
    """The kernel has not taken something: a sentence that says what to do."""
    said = f"kernel {os.uname().release} refused {what} ({error.strerror or error})"
    if error.errno == errno.EPERM:
        return f"{said}: {forbidden()}"
    if error.errno == errno.ENOSYS:
        return f"{said}: it has no bpf(2), or a seccomp profile hides it; see docs/operations.md"
    return f"{said}. ayaflow needs Linux {OLDEST_KERNEL} or newer"


def forbidden(proc: Path = _PROC) -> str:
    """Why bpf(2) is forbidden to this process, which has the capabilities for it. `proc`: /proc."""
    if (proc / "self/uid_map").read_text("ascii").split() != _WHOLE_MACHINE:
        return (
            "this process is in a user namespace, whose capabilities do not count for BPF; run it outside: not in a "
            "rootless container"
        )
    if _status(proc).get("Seccomp") == _SECCOMP_FILTER:
        return (
            "a seccomp profile forbids bpf(2), as those of container engines do; give the container one that allows "
            "bpf (docs/operations.md), or seccomp=unconfined"
        )
    return "a security module forbids it (SELinux, AppArmor: its log says which rule), or capabilities are missing"


def surroundings(
    proc: Path = _PROC, security: Path = Path("/sys/kernel/security"), btf: Path = Path("/sys/kernel/btf/vmlinux")
) -> str:
    """What a machine restricts or lacks that people ask about, for `doctor`: none of it keeps us from working."""
    try:
        unprivileged = (proc / "sys/kernel/unprivileged_bpf_disabled").read_text("ascii").strip()
    except OSError:
        unprivileged = "unknown"
    said = "bpf(2) is allowed"
    if unprivileged == "0":
        said += " to every user: sysctl kernel.unprivileged_bpf_disabled=2 leaves it to those with CAP_BPF"
    if not btf.exists():
        said += "; the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which ayaflow does not need"
    try:
        lockdown = (security / "lockdown").read_text("ascii")
    except OSError:
        return said
    mode = lockdown.partition("[")[2].partition("]")[0]
    if mode not in {"", "none"}:
        said += f"; the kernel is locked down ({mode}), which does not touch programs that only read packets"
    return said


def _status(proc: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in (proc / "self/status").read_text("ascii", "replace").splitlines())
    return {name: value.strip() for name, _, value in lines}
