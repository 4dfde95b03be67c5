"""bcc compiles the program with the headers of other kernels, and what it makes of it does the same.

New kernels change what bcc includes beside our program. `deploy/local/setup.sh ship` fetches a tree of each series that
Debian offers here; a Debian 13 with its own bcc and headers is test_debian.py.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_local import REPOSITORY

pytestmark = [pytest.mark.ship, pytest.mark.root, pytest.mark.timeout(900)]

TREES = sorted((REPOSITORY / ".ship/headers").glob("*/usr/src/linux-headers-*-cloud-*"))
TESTS = (
    "tests/kernel/test_frames.py",
    "tests/kernel/test_tunnels.py",
    "tests/kernel/test_inspect.py",
    "tests/kernel/test_inspect_parts.py",
)


def test_there_are_headers_of_another_series() -> None:
    assert TREES, "run deploy/local/setup.sh ship"


@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.name)
def test_bcc_compiles_with_other_headers_and_the_program_does_the_same(tree: Path, root_and_bcc: None) -> None:
    [common] = tree.parent.glob("linux-headers-*-common")
    modules = Path("/lib/modules") / platform.release()
    there = f"""
        mount -t tmpfs none {modules.parent} && mkdir {modules}
        ln -s {tree} {modules}/build && ln -s {common} {modules}/source
        exec "$@"
    """
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-euc", there, "sh"),
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "TEST_LOADER": "bcc"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, done.stdout + done.stderr
