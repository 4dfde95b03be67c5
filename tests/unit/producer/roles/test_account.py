"""Whom a producer becomes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import EnvironmentProblem, SettingsError
from producer.roles.account import chosen, needs_bpf

ROOT = Path(__file__).parents[4]
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.mark.parametrize(
    ("release", "disabled", "needed"),
    [
        ("6.1.0-13-amd64", "2", False),
        ("5.19.0", "1", False),
        ("5.18.9-generic", "1", True),
        ("5.18.9-generic", "0", False),
        ("5.15.167.4-microsoft-standard-WSL2", "2", True),
        ("strange", "2", False),
    ],
)
def test_only_old_kernels_leave_it_cap_bpf(tmp_path: Path, release: str, disabled: str, needed: bool) -> None:
    path = tmp_path / "unprivileged_bpf_disabled"
    path.write_text(f"{disabled}\n")
    assert needs_bpf(release, path) is needed


def test_folders_are_made_also_for_who_stays(tmp_path: Path) -> None:
    folder = tmp_path / "data/spool/n1"
    assert chosen("root", data_dir=tmp_path / "data", folders=(folder,)) is None
    assert folder.stat().st_uid == os.geteuid()


@NEEDS_ROOT
def test_a_user_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no user 'nobody-of-this-name'"):
        chosen("nobody-of-this-name", data_dir=tmp_path, folders=())


@NEEDS_ROOT
def test_a_user_who_cannot_reach_its_folder_is_told_and_gets_nothing(tmp_path: Path) -> None:
    """pytest's directories are root's alone."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "data/spool/n1"
    with pytest.raises(EnvironmentProblem, match="the user nobody cannot reach"):
        chosen("nobody", data_dir=closed / "data", folders=(folder,))
    assert folder.stat().st_uid == 0
    assert (os.geteuid(), os.getegid()) == (0, 0)


@NEEDS_ROOT
def test_who_becomes_another_user_still_ends_with_its_parent(tmp_path: Path) -> None:
    """`ayaflow up` may be killed: the kernel forgets the signal of a parent's death with each change of user."""
    program = (
        "import ctypes; from pathlib import Path; from producer.roles import account\n"
        "libc, said = ctypes.CDLL(None), ctypes.c_int()\n"
        "libc.prctl(1, 15, 0, 0, 0)\n"
        "found = account.chosen('nobody', data_dir=Path('/'), folders=())\n"
        "account.become(found)\n"
        "libc.prctl(2, ctypes.byref(said), 0, 0, 0)\n"
        "print(found.name, said.value)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    if "cannot reach" in done.stderr:
        pytest.skip("nobody cannot read this checkout")
    assert done.stdout == "nobody 15\n", done.stderr
