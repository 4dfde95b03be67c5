"""What the kernel program needs of a machine, and the sentences where it lacks that."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import EnvironmentProblem
from producer.kernel import tcx
from producer.kernel.environment import (
    OLDEST_KERNEL,
    attaches_by,
    check_byte_order,
    check_headers,
    check_kernel,
    check_privileges,
)

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("mask", "lacking"),
    [
        (0, "lacks CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF:"),
        (1 << 38 | 1 << 39, "lacks CAP_NET_ADMIN:"),
        (1 << 21, "lacks CAP_NET_ADMIN:"),
        (1 << 12 | 1 << 39, "lacks CAP_PERFMON:"),
    ],
)
def test_missing_privileges_are_named(mask: int, lacking: str) -> None:
    with pytest.raises(EnvironmentProblem, match=f"{lacking}.*sudo"):
        check_privileges(f"Name:\tx\nCapEff:\t{mask:016x}\n")


@pytest.mark.parametrize("mask", [1 << 12 | 1 << 38 | 1 << 39, 1 << 12 | 1 << 21, (1 << 41) - 1])
def test_enough_privileges_are_enough(mask: int) -> None:
    check_privileges(f"CapEff:\t{mask:016x}\n")


def test_a_kernel_without_bpf_is_told() -> None:
    check_kernel("nodev\tsysfs\nnodev\tbpf\n\text4\n")
    with pytest.raises(EnvironmentProblem, match=f"CONFIG_BPF_SYSCALL.*Linux {OLDEST_KERNEL}"):
        check_kernel("nodev\tsysfs\n\text4\n")


def test_a_big_endian_machine_is_told_before_anything_is_read_wrong() -> None:
    with pytest.raises(EnvironmentProblem, match=r"big-endian.*little-endian machines only"):
        check_byte_order("big")


@pytest.mark.parametrize(
    "found", ["modules/build/include/linux/kconfig.h", "modules/source/include/linux/kconfig.h", "tar"]
)
def test_headers_are_found_where_bcc_finds_them(tmp_path: Path, found: str) -> None:
    modules, kheaders = tmp_path / "modules", tmp_path / "tar"
    with pytest.raises(EnvironmentProblem, match="make setup"):
        check_headers({}, modules, kheaders)
    (tmp_path / found).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / found).touch()
    check_headers({}, modules, kheaders)


def test_bcc_may_be_told_where_the_headers_are(tmp_path: Path) -> None:
    check_headers({"BCC_KERNEL_SOURCE": "/usr/src/linux"}, tmp_path, tmp_path / "none")
    with pytest.raises(EnvironmentProblem):
        check_headers({"BCC_KERNEL_SOURCE": ""}, tmp_path, tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "said"), [("", "PyPI's bcc; remove it"), ("raise ImportError('no libbcc')", "no libbcc")]
)
def test_a_bcc_that_is_none_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bcc.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "producer.kernel.environment"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EnvironmentProblem.exit_code
    assert said in done.stderr
    assert "apt-get install python3-bpfcc" in done.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [(None, "by TCX"), (errno.EINVAL, "by clsact.*what leaves is not seen"), (errno.EPERM, "only root can see")],
)
def test_how_it_attaches_is_told(error: int | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def query(ifindex: int, place: int) -> tcx.Attached:
        if error:
            raise OSError(error, "no")
        return tcx.Attached(programs=(), links=())

    monkeypatch.setattr(tcx, "query", query)
    assert re.search(said, attaches_by())
