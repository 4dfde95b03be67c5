"""Prometheus' own checker."""

import shutil
import sys
from pathlib import Path

from tests.lacking import cannot_run


def found_promtool() -> str:
    """Where it is: set-up takes it out of Debian's package. Without it the test is skipped, or fails under CI=true."""
    beside = Path(sys.executable).with_name("promtool")
    found = shutil.which("promtool") or (str(beside) if beside.exists() else None)
    if found is None:
        cannot_run("promtool is not here; run make setup-test")
    return found
