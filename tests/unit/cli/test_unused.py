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
    {within}
import pyarrow
print(len(pyarrow.table({{"octets": [1, 2]}}).to_pandas()))
"""


def said(within: str = "") -> list[str]:
    code = DOING_WITHOUT.format(within=within)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_pandas_is_not_loaded_by_ours_and_is_there_for_whom_it_is_let_in() -> None:
    assert said() == ["False", "2"]
    assert said("unused.let_in(); import pandas; print('let in')") == ["False", "let", "in", "2"]


def test_a_package_that_is_left_out_is_as_one_that_is_not_installed() -> None:
    assert said("try: import pandas\n    except ModuleNotFoundError as error: print(error.name)") == [
        "False",
        "pandas",
        "2",
    ]
