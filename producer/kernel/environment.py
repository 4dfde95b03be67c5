"""What this machine must have for the kernel program: each check once, with the sentence that says what to do."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import EnvironmentProblem
from producer.kernel import tcx

OLDEST_KERNEL = "5.12"
"""The first with the atomic instructions of bpf/coalesce.h. Distributions bring them to older ones, so nothing is
refused by its version: the verifier says whether it knows them."""

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
_CAP_SYS_ADMIN = 21  # stands for the last two
_BCC_SECONDS = 30
_INSTALL_BCC = (
    "run make setup, or: sudo apt-get install python3-bpfcc (PyPI's bcc is another program); the virtual environment "
    "must be made from /usr/bin/python3 with --system-site-packages"
)


def check_privileges(status: str | None = None) -> None:
    """Raise EnvironmentProblem unless we may load and attach. `status`: the text of /proc/self/status."""
    text = status if status is not None else Path("/proc/self/status").read_text("ascii")
    effective = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:")), 0)
    everything = effective >> _CAP_SYS_ADMIN & 1
    lacking = [
        name
        for name, bit in _CAPABILITIES.items()
        if not effective >> bit & 1 and not (everything and name != "CAP_NET_ADMIN")
    ]
    if lacking:
        raise EnvironmentProblem(
            f"ayaflow loads a program into the kernel and lacks {', '.join(lacking)}: run it as root (sudo)"
        )


def check_kernel(filesystems: str | None = None) -> None:
    """Raise EnvironmentProblem unless the kernel has BPF, on a machine that the kernel program is written for.

    `filesystems`: the text of /proc/filesystems.
    """
    check_byte_order(sys.byteorder)
    text = filesystems if filesystems is not None else Path("/proc/filesystems").read_text("ascii")
    if "bpf" not in text.split():
        raise EnvironmentProblem(
            f"kernel {os.uname().release} has no BPF file system (CONFIG_BPF_SYSCALL): use a distribution's kernel, "
            f"Linux {OLDEST_KERNEL} or newer"
        )


def check_byte_order(order: str) -> None:
    """Raise EnvironmentProblem unless it is that of the addresses that the kernel program puts together."""
    if order != "little":
        raise EnvironmentProblem(
            f"{os.uname().machine} is a big-endian machine, on which addresses would be read wrong: ayaflow watches "
            "and replays on little-endian machines only (x86-64, ARM, RISC-V, ppc64le)"
        )


def attaches_by() -> str:
    """How programs are attached to interfaces on this kernel, for people."""
    try:
        if tcx.is_known():
            return "attaches by TCX, beside any qdisc"
    except PermissionError:
        return "only root can see how it attaches to interfaces"
    return (
        "attaches by clsact, since it has no TCX (Linux 6.6): nobody can add an `ingress` qdisc to the interfaces that "
        "are watched, and where one is already, what leaves is not seen"
    )


def check_headers(
    environ: Mapping[str, str] = os.environ,
    modules: Path | None = None,
    kheaders: Path = Path("/sys/kernel/kheaders.tar.xz"),
) -> None:
    """Raise EnvironmentProblem unless there are headers for this kernel that bcc can find.

    `modules`: the kernel's folder in /lib/modules. Where BCC_KERNEL_SOURCE is set, bcc looks there only.
    """
    release = os.uname().release
    directory = modules or Path("/lib/modules", release)
    trees = [directory / name / "include/linux/kconfig.h" for name in ("build", "source")]
    if not environ.get("BCC_KERNEL_SOURCE") and not any(path.exists() for path in (*trees, kheaders)):
        raise EnvironmentProblem(
            f"there are no kernel headers for {release} in {directory}, which bcc needs to compile; run make setup, "
            f"or: sudo apt-get install linux-headers-{release}"
        )


def import_bcc() -> Any:
    """The module: it brings LLVM (100 MB), so only in a short-lived child. Raises EnvironmentProblem."""
    try:
        import bcc
    except ImportError as error:
        raise EnvironmentProblem(f"bcc is not installed ({error}); {_INSTALL_BCC}") from error
    if not hasattr(bcc, "BPF"):
        raise EnvironmentProblem(
            f"{bcc.__file__} is not the BPF compiler collection but PyPI's bcc; remove it, and {_INSTALL_BCC}"
        )
    return bcc


def bcc_version() -> str:
    """Of bcc, as a child can load it: a broken binding may take its process with it. Raises EnvironmentProblem."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "producer.kernel.environment"],
            capture_output=True,
            text=True,
            timeout=_BCC_SECONDS,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"loading bcc takes more than {_BCC_SECONDS} s: is this machine overloaded?"
        ) from error
    if done.returncode == EnvironmentProblem.exit_code:
        raise EnvironmentProblem(done.stderr.strip())
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"code {done.returncode}"]
        raise EnvironmentProblem(f"bcc cannot be loaded ({said[0]}); {_INSTALL_BCC}")
    return done.stdout.strip()


def _main() -> int:
    """The child of `bcc_version`."""
    try:
        sys.stdout.write(f"{import_bcc().__version__}\n")
    except EnvironmentProblem as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
