"""Who forbids bpf(2), as /proc tells it."""

import errno
from pathlib import Path

import pytest

from producer.kernel.load.permission import forbidden, refusal, surroundings

WHOLE, OWN = "         0          0 4294967295\n", "         0       1000          1\n"


def proc(path: Path, *, uid_map: str = WHOLE, seccomp: int = 0, unprivileged: str = "2") -> Path:
    (path / "self").mkdir(parents=True)
    (path / "self/uid_map").write_text(uid_map)
    (path / "self/status").write_text(f"Name:\tpython3\nSeccomp:\t{seccomp}\nSeccomp_filters:\t{seccomp}\n")
    (path / "sys/kernel").mkdir(parents=True)
    (path / "sys/kernel/unprivileged_bpf_disabled").write_text(f"{unprivileged}\n")
    return path


@pytest.mark.parametrize(
    ("uid_map", "seccomp", "said"),
    [(OWN, 2, "in a user namespace"), (WHOLE, 2, "seccomp profile forbids"), (WHOLE, 0, "security module")],
)
def test_it_is_told_who_forbids_it(tmp_path: Path, uid_map: str, seccomp: int, said: str) -> None:
    assert said in forbidden(proc(tmp_path, uid_map=uid_map, seccomp=seccomp))


def test_what_a_kernel_lacks_is_not_called_forbidden() -> None:
    assert "ayaflow needs Linux" in refusal("a map", OSError(errno.EINVAL, "Invalid argument"))
    assert "has no bpf(2)" in refusal("a map", OSError(errno.ENOSYS, "Function not implemented"))


@pytest.mark.parametrize(
    ("unprivileged", "lockdown", "said"),
    [
        ("2", None, "bpf(2) is allowed"),
        ("2", "[none] integrity confidentiality\n", "bpf(2) is allowed"),
        ("1", "none [integrity] confidentiality\n", "bpf(2) is allowed; the kernel is locked down (integrity), which "),
        ("0", None, "bpf(2) is allowed to every user: sysctl kernel.unprivileged_bpf_disabled=2 leaves it to those "),
    ],
)
def test_doctor_names_what_a_machine_restricts(
    tmp_path: Path, unprivileged: str, lockdown: str | None, said: str
) -> None:
    if lockdown is not None:
        (tmp_path / "security").mkdir()
        (tmp_path / "security/lockdown").write_text(lockdown)
    found = surroundings(proc(tmp_path / "proc", unprivileged=unprivileged), tmp_path / "security", tmp_path)
    assert found.startswith(said)
    assert ("lock" in found, "every user" in found) == ("locked" in said, "every user" in said)
    assert "BTF" not in found


def test_a_kernel_without_btf_is_named_as_one_that_will_do(tmp_path: Path) -> None:
    found = surroundings(proc(tmp_path / "proc"), tmp_path / "none", tmp_path / "vmlinux")
    assert found == "bpf(2) is allowed; the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which ayaflow does not need"
