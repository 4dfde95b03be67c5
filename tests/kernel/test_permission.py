"""Who forbids bpf(2), where somebody really does: a seccomp filter as container engines have it, a user namespace."""

import subprocess
import sys

import pytest

from tests.fix_local import REPOSITORY

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("root_and_bcc")]

FILTER = """
import ctypes, struct
from producer.kernel import bpfsys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, bpfsys.number()), (0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
filters = struct.pack("@HP", len(code), ctypes.addressof(program))  # struct sock_fprog
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, filters, 0, 0) == 0  # PR_SET_SECCOMP: EPERM for bpf(2), all else is allowed
"""
ASK = """
from common.errors import EnvironmentProblem
from producer.kernel.load import permission
try:
    permission.check_bpf()
    print("allowed")
except EnvironmentProblem as error:
    print(error)
"""


def said(program: str, *before: str) -> str:
    command = [*before, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


def test_here_it_is_allowed() -> None:
    assert said(ASK) == "allowed\n"


def test_a_seccomp_profile_is_named() -> None:
    assert "Operation not permitted): a seccomp profile forbids bpf(2)" in said(FILTER + ASK)


def test_a_user_namespace_is_named() -> None:
    assert "this process is in a user namespace" in said(ASK, "unshare", "--user", "--map-root-user")
