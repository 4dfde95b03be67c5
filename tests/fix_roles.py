"""Whom a producer becomes that root has started, and a folder for its data."""

import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.roles.account import SYSTEM_USER
from tests.fix_local import REPOSITORY


@pytest.fixture(scope="module")
def unprivileged_user() -> pwd.struct_passwd:
    """Who the producer becomes, and can read this checkout."""
    reason = ""
    try:
        found = pwd.getpwnam(SYSTEM_USER)
        subprocess.run(["ls", REPOSITORY / "producer"], user=found.pw_uid, check=True, capture_output=True)
    except KeyError:
        reason = f"there is no user {SYSTEM_USER}; run make setup"
    except (OSError, subprocess.CalledProcessError):
        reason = f"the user {SYSTEM_USER} cannot read {REPOSITORY}; a producer stays root there"
    if reason:
        pytest.skip(reason)
    return found


@pytest.fixture
def passable() -> Iterator[Path]:
    """One that others may pass through, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="ayaflow-roles-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)
