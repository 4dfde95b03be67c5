"""Prometheus' own checker."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def found_promtool() -> str:
    """Where it is: set-up takes it out of Debian's package. Without it the test is skipped, or fails under CI=true."""
    beside = Path(sys.executable).with_name("promtool")
    if found := shutil.which("promtool") or (str(beside) if beside.exists() else None):
        return found
    sentence = "promtool is not here; run make setup-test"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)
