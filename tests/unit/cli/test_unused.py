"""What is installed, and not loaded."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

DOING_WITHOUT = """
import sys
from cli import unused
with unused.left_out():
    import schemas.avro.codec, console.app, streams.component
    print("pandas" in sys.modules)
    try:
        import pandas
    except ModuleNotFoundError as error:
        print(error.name)
import pyarrow
print(len(pyarrow.table({"octets": [1, 2]}).to_pandas()))
"""
LET_IN = """
from cli import unused
with unused.left_out():
    unused.let_in()
    import pandas
    print("let in")
"""


def said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_pandas_is_not_loaded_by_ours_and_is_as_one_that_is_not_installed_until_the_end() -> None:
    assert said(DOING_WITHOUT) == ["False", "pandas", "2"]


def test_pandas_is_there_for_whom_it_is_let_in() -> None:
    assert said(LET_IN) == ["let", "in"]
