"""What the kernel says that a producer and its helper may do."""

from collections.abc import Callable
from pathlib import Path

SETS = ("CapEff", "CapPrm", "CapInh", "CapAmb")
ATTACHES = 1 << 12 | 1 << 39  # CAP_NET_ADMIN, CAP_BPF


def here(path: str) -> str:
    """A file of /proc as we see it."""
    return Path(path).read_text()


def status(pid: int | str, read: Callable[[str], str] = here) -> dict[str, str]:
    """/proc/PID/status."""
    lines = read(f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def may_do_nothing(pid: int | str, read: Callable[[str], str] = here) -> None:
    """A producer has no capability and no way to one, is not root, and its helper may attach and no more.

    `read`: reads files of the /proc that knows it by this id.
    """
    said = status(pid, read)
    assert {name: int(said[name], 16) for name in SETS} == dict.fromkeys(SETS, 0)
    assert said["NoNewPrivs"] == "1"
    assert "0" not in said["Uid"].split() + said["Gid"].split(), said["Uid"]
    [helper] = read(f"/proc/{pid}/task/{pid}/children").split()
    assert "producer.roles.helper" in read(f"/proc/{helper}/cmdline")
    said = status(helper, read)
    assert {int(said[name], 16) for name in ("CapEff", "CapPrm")} == {ATTACHES}
    assert said["NoNewPrivs"] == "1"
