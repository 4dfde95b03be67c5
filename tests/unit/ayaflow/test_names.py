"""A program whose own packages are called as ours are told so when it imports us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_local import REPOSITORY


@pytest.mark.parametrize("name", ["common", "schemas"])
def test_a_package_that_hides_one_of_ours_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "main.py").write_text("import ayaflow.consume")
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{tmp_path / name}/__init__.py hides the package {name} of ayaflow: rename it" in done.stderr
